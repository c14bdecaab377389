"""Chunks in SQL: those that callers give, and reading all of them."""

from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from asyncpg import Record

from knowledged.database import Connection
from knowledged.errors import NotFound
from knowledged.store.filter_sql import Column, Condition, Fields, Kind
from knowledged.store.paging import Order, Page
from knowledged.store.requests import Mutation, recorded


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk's row with its place in the document; `embedding` is little-endian float32."""

    chunk_uid: UUID
    chunk_id: str
    content: str
    content_sha256: bytes
    metadata: dict[str, object]
    ordinal: int
    start_offset: int | None
    end_offset: int | None
    token_count: int
    state: int
    last_error: str
    create_time: datetime
    update_time: datetime
    embedding: bytes | None = None


FIELDS = Fields(
    {
        "chunk_id": Column("k.chunk_id", Kind.STRING),
        "ordinal": Column("s.ordinal", Kind.NUMBER),
        "state": Column("k.state", Kind.ENUM, {"PENDING": 1, "ACTIVE": 2, "FAILED": 3}),
        "chunk_metadata": Column("k.metadata", Kind.DYNAMIC),
        "create_time": Column("k.create_time", Kind.TIMESTAMP),
        "update_time": Column("k.update_time", Kind.TIMESTAMP),
    }
)


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
    origin: int
    subject_ids: tuple[str, ...]
    metadata: dict[str, object]


LOCK_DOCUMENT: LiteralString = """
    select d.document_uid, d.collection_uid, d.origin, d.subject_ids, d.metadata
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


# Runs in a transaction that holds the document's lock, so its snapshot is current.
UPSERT: LiteralString = recorded(
    """
    with owner as (
        select d.document_uid, d.collection_uid, d.revision, c.active_space_uid,
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
    ),
    vector as (
        insert into knowledge.chunk_vector (space_uid, chunk_uid, document_uid, embedding, fields)
        select owner.active_space_uid, w.chunk_uid, owner.document_uid, w.embedding, w.fields
          from written w cross join owner
         where w.embedding is not null
            on conflict (space_uid, chunk_uid) do update
           set embedding = excluded.embedding, fields = excluded.fields
    ),
    -- A text that waits for its new vector must not be found by its old one.
    outdated as (
        delete from knowledge.chunk_vector v
         using written w, owner
         where v.space_uid = owner.active_space_uid and v.chunk_uid = w.chunk_uid
           and w.embedding is null
    ),
    document as (
        update knowledge.document d
           set chunk_version = d.chunk_version + 1,
               chunk_count = (select count(*) from knowledge.chunk_span s
                               where s.document_uid = d.document_uid and s.to_revision is null)
                           + (select count(*) from written w
                               where not exists (
                                     select from knowledge.chunk_span s
                                      where s.chunk_uid = w.chunk_uid and s.to_revision is null)),
               state = case when exists (select from written where embedding is null) then 1
                            else d.state end
          from gate
         where d.document_uid = gate.resource_uid
    )
    select chunk_id, chunk_uid, create_time from written
""",
)


async def upsert(
    conn: Connection, mutation: Mutation, document_uid: UUID, at: datetime, given: list[GivenChunk]
) -> dict[str, tuple[UUID, datetime]]:
    """Writes all chunks; their uids and creation times by id, empty if the request is a repeat."""
    rows = await conn.fetch(
        UPSERT,
        *mutation.parameters(),
        document_uid,
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
    )
    return {row["chunk_id"]: (row["chunk_uid"], row["create_time"]) for row in rows}


GET: LiteralString = """
    select k.chunk_uid, k.chunk_id, k.content, k.content_sha256, k.metadata, s.ordinal,
           s.start_offset, s.end_offset, k.token_count, k.state, k.last_error, k.create_time,
           k.update_time,
           case when $5::bool
                then coalesce(
                     (select v.embedding from knowledge.chunk_vector v
                       where v.space_uid = c.active_space_uid and v.chunk_uid = k.chunk_uid),
                     (select v.embedding from knowledge.chunk_vector_parked v
                       where v.space_uid = c.active_space_uid and v.chunk_uid = k.chunk_uid))
           end as embedding
      from knowledge.collection c
      join knowledge.document d on d.collection_uid = c.collection_uid
      join knowledge.chunk k on k.document_uid = d.document_uid
      join knowledge.chunk_span s on s.chunk_uid = k.chunk_uid and s.to_revision is null
     where c.collection_id = $1::text
       and d.document_id = $2::text
       and k.chunk_id = $3::text
       and c.delete_time is null
       and ($4::text[] is null or c.collection_id = any ($4::text[]))
     order by s.ordinal
     limit 1
"""


async def get(
    conn: Connection,
    names: tuple[str, str, str],
    granted: list[str] | None,
    embedding: bool,
) -> Chunk:
    """A chunk of the current revision, by ids of collection, document and chunk."""
    row = await conn.fetchrow(GET, *names, granted, embedding)
    if row is None:
        raise NotFound("chunk: not found")
    return chunk_of(row)


MANY: LiteralString = """
    select k.chunk_uid, k.chunk_id, '' as content, k.content_sha256, k.metadata, s.ordinal,
           s.start_offset, s.end_offset, k.token_count, k.state, k.last_error, k.create_time,
           k.update_time, null as embedding
      from knowledge.collection c
      join knowledge.document d on d.collection_uid = c.collection_uid
      join knowledge.chunk k on k.document_uid = d.document_uid
      join knowledge.chunk_span s on s.chunk_uid = k.chunk_uid and s.to_revision is null
     where c.collection_id = $1::text
       and c.delete_time is null
       and d.document_id = $2::text
       and k.chunk_id = any ($3::text[])
"""


async def get_many(
    conn: Connection, collection_id: str, document_id: str, chunk_ids: list[str]
) -> dict[str, Chunk]:
    """Chunks by id, without content and embedding; for a caller whose grant is checked."""
    rows = await conn.fetch(MANY, collection_id, document_id, chunk_ids)
    return {row["chunk_id"]: chunk_of(row) for row in rows}


LIST: LiteralString = """
    select k.chunk_uid, k.chunk_id, case when $4::bool then k.content else '' end as content,
           k.content_sha256, k.metadata, s.ordinal, s.start_offset, s.end_offset, k.token_count,
           k.state, k.last_error, k.create_time, k.update_time,
           case when $5::bool
                then coalesce(
                     (select v.embedding from knowledge.chunk_vector v
                       where v.space_uid = c.active_space_uid and v.chunk_uid = k.chunk_uid),
                     (select v.embedding from knowledge.chunk_vector_parked v
                       where v.space_uid = c.active_space_uid and v.chunk_uid = k.chunk_uid))
           end as embedding
      from knowledge.collection c
      join knowledge.document d on d.collection_uid = c.collection_uid
      join knowledge.chunk_span s on s.document_uid = d.document_uid and s.to_revision is null
      join knowledge.chunk k on k.chunk_uid = s.chunk_uid
     where c.collection_id = $1::text
       and d.document_id = $2::text
       and c.delete_time is null
       and ($3::text[] is null or c.collection_id = any ($3::text[]))
"""

BY_ORDINAL = Order("s.ordinal", "int", "k.chunk_uid")


async def list_page(
    conn: Connection,
    names: tuple[str, str],
    granted: list[str] | None,
    parts: tuple[bool, bool],
    condition: Condition,
    page: Page,
) -> list[Chunk]:
    """A document's current chunks by ordinal; `parts` says whether with content and embedding.

    One chunk more than the page's size, if there is one.
    """
    statement, parameters = page.statement(LIST, condition, 5)
    rows = await conn.fetch(statement, *names, granted, *parts, *parameters)
    return [chunk_of(row) for row in rows]


DELETE: LiteralString = recorded(
    """
    with collection as (
        select collection_uid, collection_id, active_space_uid
          from knowledge.collection
         where collection_uid = $3::uuid and delete_time is null
           for key share
    ),
    old as (
        select d.document_uid, d.document_id, d.revision, d.origin
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
          from old cross join collection c cross join doomed
         where old.origin = 2
    ),
""",
    """
    , vector as (
        delete from knowledge.chunk_vector v
         using gate, collection, doomed
         where v.space_uid = collection.active_space_uid and v.chunk_uid = doomed.chunk_uid
    ),
    chunk as (
        delete from knowledge.chunk k
         using gate, doomed
         where k.chunk_uid = doomed.chunk_uid
    ),
    document as (
        update knowledge.document d
           set chunk_version = d.chunk_version + 1, chunk_count = d.chunk_count - 1
          from gate
         where d.document_uid = gate.resource_uid
    )
    select (select origin from old) as origin, exists (select from doomed) as there,
           exists (select from gate) as done
""",
)


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a deletion found: the document's origin (None: no document), the chunk, and its end."""

    origin: int | None
    there: bool
    done: bool


async def delete(
    conn: Connection, mutation: Mutation, collection_uid: UUID, document_id: str, chunk_id: str
) -> Deleted:
    """Deletes a caller's chunk with its vector, for good."""
    row = await conn.fetchrow(DELETE, *mutation.parameters(), collection_uid, document_id, chunk_id)
    return Deleted(row["origin"], row["there"], row["done"]) if row else Deleted(None, False, False)


def chunk_of(row: Record) -> Chunk:
    """A Chunk from a row with its columns."""
    return Chunk(
        row["chunk_uid"],
        row["chunk_id"],
        row["content"],
        row["content_sha256"],
        row["metadata"],
        row["ordinal"],
        row["start_offset"],
        row["end_offset"],
        row["token_count"],
        row["state"],
        row["last_error"],
        row["create_time"],
        row["update_time"],
        row["embedding"],
    )
