"""Chunks that wait for their vectors: the work queue is the chunk table itself.

A worker takes a lease, embeds without holding any lock, and delivers. A crash loses nothing: the
lease runs out and another worker takes the chunk.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

from knowledged.database import Connection
from knowledged.store import document_steps
from knowledged.store.collections import FilterField, filter_fields


@dataclass(frozen=True, slots=True)
class Waiting:
    """A chunk to embed."""

    chunk_uid: UUID
    document_uid: UUID
    content: str
    content_sha256: bytes


@dataclass(frozen=True, slots=True)
class Model:
    """Whose chunks to take: a model by id and digest, and whether it is remote."""

    model_id: str
    model_digest: str
    remote: bool


# A model's queue is its own, so that one whose provider is away holds up no other. The egress is
# asked here, at the last moment before a text leaves.
LEASE: LiteralString = """
    with due as (
        select k.chunk_uid
          from knowledge.chunk k
         where k.state = 1 and k.next_attempt_at <= now()
           and k.collection_uid in (
                   select c.collection_uid
                     from knowledge.collection c
                     join knowledge.vector_space s on s.space_uid = c.active_space_uid
                    where c.embedding_model = $3::text
                      and (s.model_digest = $4::text or s.model_digest = '' or $4::text = '')
                      and (not $5::bool or c.egress = 2))
         order by k.next_attempt_at, k.chunk_uid
         limit $1::int
           for update of k skip locked
    )
    update knowledge.chunk k
       set next_attempt_at = now() + make_interval(secs => $2::float8), attempts = k.attempts + 1
      from due
     where k.chunk_uid = due.chunk_uid
    returning k.chunk_uid, k.document_uid, k.content, k.content_sha256
"""


async def lease(conn: Connection, model: Model, at_most: int, seconds: float) -> list[Waiting]:
    """Takes chunks of a model that are due, so that nobody else does for so many seconds."""
    parameters = model.model_id, model.model_digest, model.remote
    rows = await conn.fetch(LEASE, at_most, seconds, *parameters)
    return [Waiting(*row.values()) for row in rows]


GIVE_BACK: LiteralString = """
    update knowledge.chunk
       set next_attempt_at = now() + make_interval(secs => $2::float8), attempts = attempts - 1,
           last_error = $3::text
     where chunk_uid = any ($1::uuid[]) and state = 1 and attempts > 0
"""


async def give_back(conn: Connection, chunk_uids: list[UUID], seconds: float, why: str) -> None:
    """Ends a lease as if it had not been: the model is away, which is no fault of the texts."""
    await conn.execute(GIVE_BACK, chunk_uids, seconds, why)


DESCRIBE: LiteralString = """
    select k.chunk_uid, k.metadata as chunk_metadata, d.metadata, c.filter_fields
      from knowledge.chunk k
      join knowledge.document d on d.document_uid = k.document_uid
      join knowledge.collection c on c.collection_uid = k.collection_uid
     where k.chunk_uid = any ($1::uuid[])
"""


@dataclass(frozen=True, slots=True)
class Described:
    """What a chunk's filter fields are made of, as it is now that its document is locked."""

    chunk_metadata: dict[str, object]
    metadata: dict[str, object]
    filter_fields: tuple[FilterField, ...]


async def lock(conn: Connection, waiting: Sequence[Waiting]) -> dict[UUID, Described]:
    """Locks the chunks' documents until the transaction ends; the chunks that are still there."""
    await document_steps.lock(conn, list({item.document_uid for item in waiting}))
    rows = await conn.fetch(DESCRIBE, [item.chunk_uid for item in waiting])
    return {
        row["chunk_uid"]: Described(
            row["chunk_metadata"], row["metadata"], filter_fields(row["filter_fields"])
        )
        for row in rows
    }


@dataclass(frozen=True, slots=True)
class Embedded:
    """A chunk with its vector (little-endian float32), and what searches filter on fast.

    `content_sha256` is that of the text that was embedded: a text changed meanwhile stays waiting.
    """

    chunk_uid: UUID
    content_sha256: bytes
    vector: bytes
    fields: dict[str, object]


# Runs in a transaction that holds the documents' locks, so its snapshot is current: a vector goes
# where its chunk belongs now, among the parked ones if its document or revision is gone, nowhere
# if its collection is.
DELIVER: LiteralString = """
    with given as (
        select * from unnest($1::uuid[], $2::bytea[], $3::vector[], $4::jsonb[])
            as g (chunk_uid, content_sha256, embedding, fields)
    ),
    chunk as (
        update knowledge.chunk k
           set state = 2, last_error = ''
          from given g
         where k.chunk_uid = g.chunk_uid and k.state = 1 and k.content_sha256 = g.content_sha256
        returning k.chunk_uid, k.document_uid, k.collection_uid
    ),
    placed as (
        select c.active_space_uid as space_uid, chunk.chunk_uid, chunk.document_uid, g.embedding,
               g.fields,
               d.delete_time is null and exists (
                   select from knowledge.chunk_span s
                    where s.chunk_uid = chunk.chunk_uid and s.to_revision is null) as current
          from chunk
          join given g on g.chunk_uid = chunk.chunk_uid
          join knowledge.document d on d.document_uid = chunk.document_uid
          join knowledge.collection c on c.collection_uid = chunk.collection_uid
         where c.delete_time is null
    ),
    live as (
        insert into knowledge.chunk_vector (space_uid, chunk_uid, document_uid, embedding, fields)
        select space_uid, chunk_uid, document_uid, embedding, fields from placed where current
            on conflict (space_uid, chunk_uid) do nothing
    ),
    parked as (
        insert into knowledge.chunk_vector_parked
               (space_uid, chunk_uid, document_uid, embedding, fields)
        select space_uid, chunk_uid, document_uid, embedding, fields from placed where not current
            on conflict (space_uid, chunk_uid) do nothing
    )
    update knowledge.document d
       set chunk_version = d.chunk_version + 1,
           state = case when d.state <> 1 then d.state
                        when exists (
                             select from knowledge.chunk_span s
                             join knowledge.chunk k on k.chunk_uid = s.chunk_uid
                             where s.document_uid = d.document_uid and s.to_revision is null
                               and k.state = 1
                               and k.chunk_uid not in (select chunk_uid from chunk))
                        then 1
                        else 2 end
     where d.document_uid in (select document_uid from chunk)
"""


async def deliver(conn: Connection, embedded: list[Embedded]) -> None:
    """Stores vectors, and marks documents ACTIVE that wait for no more; after `lock`."""
    await conn.execute(
        DELIVER,
        [item.chunk_uid for item in embedded],
        [item.content_sha256 for item in embedded],
        [item.vector for item in embedded],
        [item.fields for item in embedded],
    )


# Each attempt waits longer than the one before; the last one is final.
POSTPONE: LiteralString = """
    with chunk as (
        update knowledge.chunk
           set next_attempt_at = now() + make_interval(secs => least(power(2, attempts), 300)),
               state = case when attempts >= $2::int then 3 else 1 end,
               last_error = $3::text
         where chunk_uid = any ($1::uuid[]) and state = 1
        returning document_uid, state
    )
    update knowledge.document d
       set state = 3, last_error = $3::text, chunk_version = d.chunk_version + 1
     where d.document_uid in (select document_uid from chunk where state = 3)
"""


async def postpone(conn: Connection, chunk_uids: list[UUID], most_attempts: int, why: str) -> None:
    """Tries chunks again later, or marks them and their documents FAILED after so many attempts."""
    await conn.execute(POSTPONE, chunk_uids, most_attempts, why)
