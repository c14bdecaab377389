"""The vectors of what a search takes as examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

from knowledged.database import Connection
from knowledged.store.filter_sql import Condition


@dataclass(frozen=True, slots=True)
class Example:
    """A document, or one of its chunks, in a collection with its active vector space."""

    collection_uid: UUID
    space_uid: UUID
    document_id: str
    chunk_id: str | None


@dataclass(frozen=True, slots=True)
class Mean:
    """An example's mean vector as little-endian float32, and what must not be found again."""

    vector: bytes
    document_uid: UUID
    chunk_uid: UUID | None


MEANS: LiteralString = """
    select e.place::int as place, avg(v.embedding) as vector, v.document_uid,
           case when e.chunk_id is not null then min(k.chunk_uid::text)::uuid end as chunk_uid
      from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[])
           with ordinality as e (collection_uid, space_uid, document_id, chunk_id, place)
      join knowledge.collection c
        on c.collection_uid = e.collection_uid and c.delete_time is null
      join knowledge.document d
        on d.collection_uid = e.collection_uid and d.document_id = e.document_id
       and d.delete_time is null
      join knowledge.chunk k
        on k.document_uid = d.document_uid and (e.chunk_id is null or k.chunk_id = e.chunk_id)
      join knowledge.chunk_vector v
        on v.space_uid = e.space_uid and v.chunk_uid = k.chunk_uid
     -- Named again, so that no other partition is planned for.
     where v.space_uid = any ($2::uuid[])
       and d.collection_uid = any ($1::uuid[])
     group by e.place, v.document_uid, e.chunk_id
"""


async def means(conn: Connection, examples: Sequence[Example]) -> dict[int, Mean]:
    """The examples' mean vectors by place from 0; without those that have none, or are gone."""
    rows = await conn.fetch(
        MEANS,
        [example.collection_uid for example in examples],
        [example.space_uid for example in examples],
        [example.document_id for example in examples],
        [example.chunk_id for example in examples],
    )
    return {
        row["place"] - 1: Mean(row["vector"], row["document_uid"], row["chunk_uid"]) for row in rows
    }


def without(condition: Condition, found: Sequence[Mean], first_parameter: int) -> Condition:
    """The condition, and that none of the examples is found again."""
    documents = [each.document_uid for each in found if each.chunk_uid is None]
    chunks = [each.chunk_uid for each in found if each.chunk_uid is not None]
    next_free = first_parameter + len(condition.parameters)
    sql = (
        f"({condition.sql} and v.document_uid <> all (${next_free}::uuid[])"
        f" and v.chunk_uid <> all (${next_free + 1}::uuid[]))"
    )
    return Condition(sql, [*condition.parameters, documents, chunks])
