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


async def read(conn: Connection) -> Versions:
    row = await conn.fetchrow(VERSIONS)
    return (
        Versions(row["postgresql"], row["pgvector"], row["schema"]) if row else Versions("", "", 0)
    )
