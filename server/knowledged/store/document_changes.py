"""Changes of documents: every single-item mutation is one statement with its audit event.

Statements name a collection by the uid that a cache resolved, and check that it still lives and is
still at the revision the caller worked with.
"""

from dataclasses import replace
from typing import LiteralString

import asyncpg
from asyncpg import Record

from knowledged.database import Connection
from knowledged.errors import AlreadyExists
from knowledged.store.collections import Collection
from knowledged.store.content_parts import Kept
from knowledged.store.document_steps import FORMER, OLD, PART, Written, changed
from knowledged.store.documents import Document
from knowledged.store.pieces import PIECES, NewPieces
from knowledged.store.requests import Mutation, recorded

CREATE: LiteralString = recorded(
    """
    -- The key share keeps a concurrent deletion of the collection waiting, or us if it was first.
    with collection as (
        select collection_uid, collection_id, active_space_uid, language::regconfig as language
          from knowledge.collection
         where collection_uid = $3::uuid and revision = $4::bigint and delete_time is null
           for key share
    ),
    target as (
        select 'collections/' || collection_id || '/documents/' || $6::text as resource,
               $5::uuid as resource_uid, 1::bigint as revision
          from collection
    ),
""",
    """
    , document as (
        insert into knowledge.document
               (document_uid, collection_uid, document_id, title, content, content_sha256,
                mime_type, source_uri, metadata, labels, subject_ids, origin, state, chunk_count,
                event_id, create_time, update_time)
        select $5::uuid, $3::uuid, $6::text, $7::text, $8::text, $9::bytea, $10::text, $11::text,
               $12::jsonb, $13::jsonb, $14::text[], $15::smallint, $16::smallint, $17::int,
               ($1::knowledge.audit_record).event_id, $18::timestamptz, $18::timestamptz
          from gate
        returning document_uid, collection_uid, update_time
    ),
    piece as (
        select * from unnest($19::uuid[], $20::text[], $21::text[], $22::bytea[], $23::int[],
                             $24::bool[])
            as p (chunk_uid, chunk_id, content, content_sha256, token_count, embedded)
    ),
    chunk as (
        insert into knowledge.chunk
               (chunk_uid, collection_uid, document_uid, chunk_id, content, content_sha256,
                token_count, state, language, create_time, update_time)
        select p.chunk_uid, d.collection_uid, d.document_uid, p.chunk_id, p.content,
               p.content_sha256, p.token_count, case when p.embedded then 2 else 1 end,
               collection.language, d.update_time, d.update_time
          from document d cross join collection cross join piece p
    ),
    span as (
        insert into knowledge.chunk_span
               (document_uid, chunk_uid, ordinal, start_offset, end_offset, from_revision)
        select d.document_uid, s.chunk_uid, s.ordinal, s.start_offset, s.end_offset, 1
          from document d
         cross join unnest($25::uuid[], $26::int[], $27::bigint[], $28::bigint[])
            as s (chunk_uid, ordinal, start_offset, end_offset)
    ),
    vector as (
        insert into knowledge.chunk_vector (space_uid, chunk_uid, document_uid, embedding, fields)
        select collection.active_space_uid, v.chunk_uid, d.document_uid, v.embedding, $31::jsonb
          from document d cross join collection
         cross join unnest($29::uuid[], $30::vector[]) as v (chunk_uid, embedding)
    )
    select exists (select from collection) as lives, exists (select from gate) as done
""",
)


async def create(
    conn: Connection,
    mutation: Mutation,
    collection: Collection,
    document: Document,
    pieces: NewPieces,
) -> Written:
    """Stores a new document with its chunks, and the vectors of those that have one.

    Raises AlreadyExists when the id is taken, by a deleted document too.
    """
    try:
        row = await conn.fetchrow(CREATE, *creation(mutation, collection, document, pieces))
    except asyncpg.UniqueViolationError as error:
        raise _taken(error) from error
    return _written(row)


def creation(
    mutation: Mutation, collection: Collection, document: Document, pieces: NewPieces
) -> tuple[object, ...]:
    """The parameters of `CREATE`."""
    d = document
    return (
        *mutation.parameters(),
        collection.collection_uid,
        collection.revision,
        d.document_uid,
        d.document_id,
        *_contents(d),
        d.origin,
        d.state,
        d.chunk_count,
        d.create_time,
        *pieces.parameters(),
    )


def _taken(error: asyncpg.UniqueViolationError) -> Exception:
    if error.constraint_name == "document_id_once":
        return AlreadyExists("document_id: is taken")
    return error


def _contents(d: Document) -> tuple[object, ...]:
    return (
        d.title,
        d.content,
        d.content_sha256,
        d.mime_type,
        d.source_uri,
        d.metadata,
        d.labels,
        d.subject_ids,
    )


def _written(row: Record | None) -> Written:
    if row is None or not row["lives"]:
        return Written.STALE
    return Written.DONE if row["done"] else Written.REPEATED


UPDATE: LiteralString = recorded(
    "with" + OLD,
    PART,
    FORMER,
    """
    , document as (
        update knowledge.document d
           set title = $9::text,
               -- The same content is not written again, however long it is.
               content = case when $34::int is null then d.content else $10::text end,
               content_sha256 = $11::bytea,
               mime_type = $12::text, source_uri = $13::text, metadata = $14::jsonb,
               labels = $15::jsonb, subject_ids = $16::text[], state = $17::smallint,
               last_error = '', chunk_count = $18::int, revision = gate.revision,
               event_id = ($1::knowledge.audit_record).event_id, update_time = $7::timestamptz
          from gate
         where d.document_uid = gate.resource_uid
        returning d.document_uid, d.collection_uid, d.revision, d.update_time, $32::bool as cut
    ),
""",
    PIECES,
    """
    select exists (select from collection) as lives,
           exists (select from target) as fresh, exists (select from gate) as done
""",
)


async def update(
    conn: Connection,
    mutation: Mutation,
    collection: Collection,
    document: Document,
    pieces: NewPieces,
    kept: Kept | None,
) -> Written:
    """Stores the next revision of a document read at `document.version`.

    `kept` is what its content keeps of the former one, None if it is the same. Spans that end are
    closed, new ones opened; vectors of text that left the document are parked, those of text that
    came back are fetched; the rest keep theirs and get the new fields.
    """
    parameters = next_revision(mutation, collection, document, pieces, kept)
    return changed(await conn.fetchrow(UPDATE, *parameters))


def next_revision(
    mutation: Mutation,
    collection: Collection,
    document: Document,
    pieces: NewPieces,
    kept: Kept | None,
) -> tuple[object, ...]:
    """The parameters of `UPDATE`."""
    d = document if kept else replace(document, content="")
    return (
        *mutation.parameters(),
        d.document_uid,
        collection.collection_uid,
        collection.revision,
        d.version,
        d.update_time,
        collection.active_space_uid,
        *_contents(d),
        d.state,
        d.chunk_count,
        *pieces.parameters(),
        *pieces.change(),
        kept.head if kept else None,
        kept.tail if kept else None,
    )
