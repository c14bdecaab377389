"""What the database is: versions of PostgreSQL, pgvector and our schema."""

from dataclasses import dataclass
from typing import LiteralString

from knowledged.database import Connection


@dataclass(frozen=True, slots=True)
class Versions:
    """As the database tells them; `schema` is the last migration applied."""

    postgresql: str
    pgvector: str
    schema: int


VERSIONS: LiteralString = """
    select split_part(current_setting('server_version'), ' ', 1) as postgresql,
           (select extversion from pg_extension where extname = 'vector') as pgvector,
           (select coalesce(max(version), 0) from knowledge.schema_migration) as schema
"""


# Before the migrations have installed it: the release that they will install.
PGVECTOR: LiteralString = """
    select coalesce(
               (select extversion from pg_extension where extname = 'vector'),
               (select default_version from pg_available_extensions where name = 'vector'),
               '')
"""


async def pgvector(conn: Connection) -> str:
    """The release of pgvector, such as "0.8.6"; empty if there is none."""
    return str(await conn.fetchval(PGVECTOR))


async def read(conn: Connection) -> Versions:
    row = await conn.fetchrow(VERSIONS)
    return (
        Versions(row["postgresql"], row["pgvector"], row["schema"]) if row else Versions("", "", 0)
    )
