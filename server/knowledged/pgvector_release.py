"""Whether the installed pgvector may be trusted with an index."""

import structlog

from knowledged.database import Database
from knowledged.store import versions

# Before 0.8.3 a vacuum can corrupt an HNSW index: searches would miss chunks without a sign of it.
_SOUND = (0, 8, 3)
_RECOMMENDED = (0, 8, 6)


def is_sound(release: str) -> bool:
    """Whether searches may use an HNSW index of this release, such as "0.8.6"."""
    return _numbers(release) >= _SOUND


def is_recommended(release: str) -> bool:
    """Whether no newer release is to be preferred."""
    return _numbers(release) >= _RECOMMENDED


async def indexes_are_sound(database: Database) -> bool:
    """`is_sound` of what the database has; says in the log what is wrong with an old one."""
    async with database.read() as conn:
        release = await versions.pgvector(conn)
    log = structlog.get_logger().bind(pgvector=release, recommended=_text(_RECOMMENDED))
    if not is_sound(release):
        log.error("pgvector_unsound", effect="searches compare with every vector; no index is used")
    elif not is_recommended(release):
        log.warning("pgvector_outdated")
    return is_sound(release)


def _numbers(release: str) -> tuple[int, ...]:
    """An unreadable part ends the numbers, so that an unknown release counts as an old one."""
    numbers: list[int] = []
    for part in release.split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers)


def _text(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
