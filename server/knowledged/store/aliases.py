"""The names of collections beside their ids: who has which, and that no two get the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

from knowledged.database import Connection

# The number keeps our locks apart from other advisory locks; sorted, so that nobody deadlocks.
LOCK: LiteralString = """
    select pg_advisory_xact_lock(1802401645, key)
      from (select distinct hashtext(name) as key from unnest($1::text[]) n (name) order by 1) k
"""


async def lock(conn: Connection, names: Sequence[str]) -> None:
    """Keeps others from giving these names until the transaction ends. Then look who has them."""
    await conn.fetch(LOCK, names)


@dataclass(frozen=True, slots=True)
class Holder:
    """A collection that has a name, as its own id or as an alias."""

    name: str
    collection_id: str

    @property
    def own(self) -> bool:
        """Whether it is the collection's id, which it cannot lose while it lives."""
        return self.name == self.collection_id


HOLDERS: LiteralString = """
    select c.collection_id as name, c.collection_id
      from knowledge.collection c
     where c.collection_id = any ($1::text[]) and c.delete_time is null
     union all
    select a.alias, c.collection_id
      from knowledge.collection_alias a
      join knowledge.collection c on c.collection_uid = a.collection_uid
     where a.alias = any ($1::text[]) and a.collection_uid <> $2::uuid
"""


async def holders(conn: Connection, names: Sequence[str], besides: UUID) -> dict[str, Holder]:
    """Which collections have these names; its own aliases are not held against `besides`."""
    rows = await conn.fetch(HOLDERS, names, besides)
    return {row["name"]: Holder(row["name"], row["collection_id"]) for row in rows}
