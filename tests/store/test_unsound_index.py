"""A pgvector that can corrupt its index: the server says so, and searches without one."""

import asyncio

import pytest
from structlog.testing import capture_logs

from cluster import DatabaseUrls
from knowledged.call import AuditClass, Call, Method, Principal
from knowledged.connection import connect
from knowledged.database import Database
from knowledged.directory import Directory
from knowledged.pgvector_release import indexes_are_sound
from knowledged.store import spaces
from stored import make_collection

SEARCH = Method("/knowledge.v1.VectorService/Search", "search", AuditClass.READ)


def call() -> Call:
    return Call(SEARCH, "call", "peer", {}, principal=Principal("tester", frozenset()))


@pytest.mark.parametrize(
    ("release", "sound", "events"),
    [
        ("0.8.2", False, [("error", "pgvector_unsound")]),
        ("0.8.4", True, [("warning", "pgvector_outdated")]),
        ("0.8.6", True, []),
    ],
)
async def test_an_old_release_is_told_loudly(
    database: Database,
    database_urls: DatabaseUrls,
    release: str,
    sound: bool,
    events: list[tuple[str, str]],
) -> None:
    conn = await connect(database_urls.superuser_dsn)
    await conn.execute(
        "update pg_extension set extversion = $1::text where extname = 'vector'", release
    )
    await conn.close()
    with capture_logs() as lines:
        assert await indexes_are_sound(database) is sound
    assert [(line["log_level"], line["event"]) for line in lines] == events


async def test_without_the_extension_the_release_that_would_be_installed_counts(
    bare_urls: DatabaseUrls, bare_database: Database
) -> None:
    conn = await connect(bare_urls.superuser_dsn)
    await conn.execute("drop extension vector")
    await conn.close()
    assert await indexes_are_sound(bare_database)


async def test_a_directory_that_uses_no_indexes_names_none(database: Database) -> None:
    async with database.write() as conn:
        space = await make_collection(conn, "indexed")
        await spaces.set_state(conn, space.active_space_uid, spaces.INDEXED)
    with_indexes, without = Directory(database), Directory(database, uses_indexes=False)
    found = await asyncio.gather(
        *(directory.resolve(call(), "indexed") for directory in (with_indexes, without))
    )
    assert [space.indexed for space in found] == [True, False]
