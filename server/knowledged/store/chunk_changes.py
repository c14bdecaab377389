"""Changes of chunks that callers give: batches in a transaction, deletions in one statement."""

from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from knowledged.database import Connection
from knowledged.store.collections import Collection
from knowledged.store.requests import Mutation, recorded


@dataclass(frozen=True, slots=True)
class GivenChunk:
    """A chunk as a caller gives it; without `embedding` it waits as PENDING."""

    chunk_uid: UUID
    chunk_id: str
    content: str
    content_sha256: bytes
    metadata: dict[str, object]
    ordinal: int
    token_count: int
    embedding: bytes | None
    fields: dict[str, object]


@dataclass(frozen=True, slots=True)
class Owner:
    """The document that chunks are written to, locked: its uids, origin and metadata."""

    document_uid: UUID
    collection_uid: UUID
    space_uid: UUID
    origin: int
    subject_ids: tuple[str, ...]
    metadata: dict[str, object]


LOCK_DOCUMENT: LiteralString = """
    select d.document_uid, d.collection_uid, c.active_space_uid, d.origin, d.subject_ids,
           d.metadata
      from knowledge.document d
      join knowledge.collection c on c.collection_uid = d.collection_uid
     where d.collection_uid = $1::uuid
       and d.document_id = $2::text
       and d.delete_time is null
       and c.delete_time is null
       and c.revision = $3::bigint
       for no key update of d
       for key share of c
"""


async def lock_document(
    conn: Connection, collection_uid: UUID, document_id: str, collection_revision: int
) -> Owner | None:
    """The live document, locked until the transaction ends; None if it or the collection is gone,
    or the collection changed since it was read."""
    row = await conn.fetchrow(LOCK_DOCUMENT, collection_uid, document_id, collection_revision)
    if row is None:
        return None
    return Owner(
        row["document_uid"],
        row["collection_uid"],
        row["active_space_uid"],
        row["origin"],
        tuple(row["subject_ids"]),
        row["metadata"],
    )


EXISTING: LiteralString = """
    select chunk_id
      from knowledge.chunk
     where document_uid = $1::uuid and chunk_id = any ($2::text[])
"""


async def existing(conn: Connection, document_uid: UUID, chunk_ids: list[str]) -> set[str]:
    """Which of these ids the document has already."""
    rows = await conn.fetch(EXISTING, document_uid, chunk_ids)
    return {row["chunk_id"] for row in rows}


# Runs in a transaction that holds the document's lock, so its snapshot is current. The space is
# bound, not joined: a plan then locks its partition alone, not every collection's.
UPSERT: LiteralString = recorded(
    """
    with owner as (
        select d.document_uid, d.collection_uid, d.revision,
               c.language::regconfig as language,
               'collections/' || c.collection_id || '/documents/' || d.document_id as resource
          from knowledge.document d
          join knowledge.collection c on c.collection_uid = d.collection_uid
         where d.document_uid = $3::uuid
    ),
    target as (
        select resource, document_uid as resource_uid, revision from owner
    ),
""",
    """
    , given as (
        select * from unnest($5::uuid[], $6::text[], $7::text[], $8::bytea[], $9::jsonb[],
                             $10::int[], $11::int[], $12::vector[], $13::jsonb[])
            as g (chunk_uid, chunk_id, content, content_sha256, metadata, ordinal, token_count,
                  embedding, fields)
    ),
    chunk as (
        insert into knowledge.chunk
               (chunk_uid, collection_uid, document_uid, chunk_id, content, content_sha256,
                metadata, token_count, state, language, create_time, update_time)
        select g.chunk_uid, owner.collection_uid, owner.document_uid, g.chunk_id, g.content,
               g.content_sha256, g.metadata, g.token_count,
               case when g.embedding is null then 1 else 2 end, owner.language,
               $4::timestamptz, $4::timestamptz
          from gate cross join owner cross join given g
            on conflict (document_uid, chunk_id) do update
           set content = excluded.content, content_sha256 = excluded.content_sha256,
               metadata = excluded.metadata, token_count = excluded.token_count,
               state = excluded.state, last_error = '', attempts = 0,
               next_attempt_at = '-infinity', update_time = excluded.update_time
        returning chunk_uid, chunk_id, create_time
    ),
    written as (
        select chunk.chunk_uid, chunk.create_time, g.chunk_id, g.ordinal, g.embedding, g.fields
          from chunk join given g on g.chunk_id = chunk.chunk_id
    ),
    moved as (
        update knowledge.chunk_span s
           set ordinal = w.ordinal
          from written w
         where s.chunk_uid = w.chunk_uid and s.to_revision is null and s.ordinal <> w.ordinal
    ),
    span as (
        insert into knowledge.chunk_span (document_uid, chunk_uid, ordinal, from_revision)
        select owner.document_uid, w.chunk_uid, w.ordinal, owner.revision
          from written w cross join owner
         where not exists (
               select from knowledge.chunk_span s
                where s.chunk_uid = w.chunk_uid and s.to_revision is null)
        returning chunk_uid
    ),
    vector as (
        insert into knowledge.chunk_vector (space_uid, chunk_uid, document_uid, embedding, fields)
        select $14::uuid, w.chunk_uid, owner.document_uid, w.embedding, w.fields
          from written w cross join owner
         where w.embedding is not null
            on conflict (space_uid, chunk_uid) do update
           set embedding = excluded.embedding, fields = excluded.fields
    ),
    -- A text that waits for its new vector must not be found by its old one.
    outdated as (
        delete from knowledge.chunk_vector v
         using written w
         where v.space_uid = $14::uuid and v.chunk_uid = w.chunk_uid and w.embedding is null
    ),
    -- The chunks that this statement leaves as they are. Looked at only if one of them may not be
    -- ACTIVE: otherwise each batch of a large document would read all that came before.
    other as (
        select k.state
          from knowledge.chunk_span s
          join knowledge.chunk k on k.chunk_uid = s.chunk_uid
         where s.document_uid = $3::uuid and s.to_revision is null
           and k.chunk_uid not in (select chunk_uid from written)
    ),
    document as (
        update knowledge.document d
           set chunk_version = d.chunk_version + 1,
               chunk_count = d.chunk_count + (select count(*) from span),
               state = case when exists (select from written where embedding is null) then 1
                            when d.state = 2 then 2
                            when exists (select from other where state = 1) then 1
                            when exists (select from other where state = 3) then 3
                            else 2 end,
               last_error = case when d.state = 2 then ''
                                 when exists (select from other where state = 3)
                                 then d.last_error else '' end
          from gate
         where d.document_uid = gate.resource_uid
    )
    select chunk_id, chunk_uid, create_time from written
""",
)


async def upsert(
    conn: Connection, mutation: Mutation, owner: Owner, at: datetime, given: list[GivenChunk]
) -> dict[str, tuple[UUID, datetime]]:
    """Writes all chunks; their uids and creation times by id, empty if the request is a repeat."""
    rows = await conn.fetch(UPSERT, *upsertion(mutation, owner, at, given))
    return {row["chunk_id"]: (row["chunk_uid"], row["create_time"]) for row in rows}


def upsertion(
    mutation: Mutation, owner: Owner, at: datetime, given: list[GivenChunk]
) -> tuple[object, ...]:
    """The parameters of `UPSERT`."""
    return (
        *mutation.parameters(),
        owner.document_uid,
        at,
        [chunk.chunk_uid for chunk in given],
        [chunk.chunk_id for chunk in given],
        [chunk.content for chunk in given],
        [chunk.content_sha256 for chunk in given],
        [chunk.metadata for chunk in given],
        [chunk.ordinal for chunk in given],
        [chunk.token_count for chunk in given],
        [chunk.embedding for chunk in given],
        [chunk.fields for chunk in given],
        owner.space_uid,
    )


# The document's row is locked at its latest; `snapshot` says whether that is what the rest of the
# statement sees of its chunks.
DELETE: LiteralString = recorded(
    """
    with snapshot as (
        select chunk_version
          from knowledge.document
         where collection_uid = $3::uuid and document_id = $4::text
    ),
    collection as (
        select collection_uid, collection_id
          from knowledge.collection
         where collection_uid = $3::uuid and active_space_uid = $6::uuid and delete_time is null
           for key share
    ),
    old as (
        select d.document_uid, d.document_id, d.revision, d.origin, d.chunk_version
          from knowledge.document d
         where d.collection_uid = $3::uuid and d.document_id = $4::text and d.delete_time is null
           for no key update
    ),
    doomed as (
        select k.chunk_uid
          from knowledge.chunk k
          join old on old.document_uid = k.document_uid
         where k.chunk_id = $5::text
           for update of k
    ),
    target as (
        select 'collections/' || c.collection_id || '/documents/' || old.document_id
               || '/chunks/' || $5::text as resource,
               old.document_uid as resource_uid, old.revision
          from old
          join snapshot s on s.chunk_version = old.chunk_version
         cross join collection c cross join doomed
         where old.origin = 2
    ),
""",
    """
    , vector as (
        delete from knowledge.chunk_vector v
         using gate, doomed
         where v.space_uid = $6::uuid and v.chunk_uid = doomed.chunk_uid
    ),
    other as (
        select k.state
          from gate
          join knowledge.chunk_span s
            on s.document_uid = gate.resource_uid and s.to_revision is null
          join knowledge.chunk k on k.chunk_uid = s.chunk_uid
         where k.chunk_uid not in (select chunk_uid from doomed)
    ),
    span as (
        delete from knowledge.chunk_span s
         using gate, doomed
         where s.chunk_uid = doomed.chunk_uid and s.to_revision is null
    ),
    chunk as (
        delete from knowledge.chunk k
         using gate, doomed
         where k.chunk_uid = doomed.chunk_uid
    ),
    document as (
        update knowledge.document d
           set chunk_version = d.chunk_version + 1,
               chunk_count = (select count(*) from other),
               state = case when exists (select from other where state = 1) then 1
                            when exists (select from other where state = 3) then 3
                            else 2 end,
               last_error = case when exists (select from other where state = 3)
                                 then d.last_error else '' end
          from gate
         where d.document_uid = gate.resource_uid
    )
    select (select origin from old) as origin, exists (select from doomed) as there,
           exists (select from gate) as done
""",
)


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a deletion found: the document's origin (None: no document), the chunk, and its end.

    A caller's chunk that is there but not deleted: others wrote at the same time, or the request
    is a repeat.
    """

    origin: int | None
    there: bool
    done: bool


async def delete(
    conn: Connection, mutation: Mutation, collection: Collection, document_id: str, chunk_id: str
) -> Deleted:
    """Deletes a caller's chunk with its vector, for good."""
    row = await conn.fetchrow(
        DELETE,
        *mutation.parameters(),
        collection.collection_uid,
        document_id,
        chunk_id,
        collection.active_space_uid,
    )
    return Deleted(row["origin"], row["there"], row["done"]) if row else Deleted(None, False, False)
