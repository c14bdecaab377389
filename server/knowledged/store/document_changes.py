"""Changes of documents: every single-item mutation is one statement with its audit event.

Statements name a collection by the uid that a cache resolved, and check that it still lives and is
still at the revision the caller worked with.
"""

from datetime import datetime
from enum import Enum, auto
from typing import LiteralString

import asyncpg
from asyncpg import Record

from knowledged.database import Connection
from knowledged.errors import AlreadyExists
from knowledged.store.collections import Collection
from knowledged.store.documents import Document
from knowledged.store.pieces import PIECES, NewPieces
from knowledged.store.requests import Mutation, recorded


class Written(Enum):
    """How a writing statement ended."""

    DONE = auto()
    REPEATED = auto()
    STALE = auto()
    """Collection or document changed since the caller read it, or is gone: read again."""


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
    d = document
    try:
        row = await conn.fetchrow(
            CREATE,
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
    except asyncpg.UniqueViolationError as error:
        raise _taken(error) from error
    return _written(row)


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


# What a mutation finds: the row locked at its latest. It must still be at the version that the
# caller read: then nothing happened between that reading, this statement's snapshot, from which
# spans and vectors are read, and the lock.
_OLD: LiteralString = """
    with collection as (
        select collection_uid, collection_id, language::regconfig as language
          from knowledge.collection
         where collection_uid = $4::uuid and revision = $5::bigint and delete_time is null
           and active_space_uid = $8::uuid
           for key share
    ),
    old as (
        select *
          from knowledge.document
         where document_uid = $3::uuid and collection_uid = $4::uuid
           for no key update
    ),
    target as (
        select 'collections/' || c.collection_id || '/documents/' || old.document_id as resource,
               old.document_uid as resource_uid, old.revision + 1 as revision
          from old cross join collection c
         where array[old.revision, old.chunk_version] = $6::bigint[] and old.delete_time is null
    ),
"""

_FORMER: LiteralString = """
    , former as (
        insert into knowledge.document_revision
               (document_uid, revision, collection_uid, title, content, content_sha256, mime_type,
                source_uri, metadata, labels, subject_ids, chunk_count, event_id, from_time,
                to_time)
        select old.document_uid, old.revision, old.collection_uid, old.title, old.content,
               old.content_sha256, old.mime_type, old.source_uri, old.metadata, old.labels,
               old.subject_ids, old.chunk_count, old.event_id, old.update_time, $7::timestamptz
          from gate cross join old
    )
"""

UPDATE: LiteralString = recorded(
    _OLD,
    _FORMER,
    """
    , document as (
        update knowledge.document d
           set title = $9::text, content = $10::text, content_sha256 = $11::bytea,
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
) -> Written:
    """Stores the next revision of a document read at `document.version`.

    Spans that end are closed, new ones opened; vectors of text that left the document are parked,
    those of text that came back are fetched; the rest keep theirs and get the new fields.
    """
    d = document
    row = await conn.fetchrow(
        UPDATE,
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
    )
    return _changed(row)


def _changed(row: Record | None) -> Written:
    if row is None or not row["lives"]:
        return Written.STALE
    if row["done"]:
        return Written.DONE
    return Written.REPEATED if row["fresh"] else Written.STALE


DELETE: LiteralString = recorded(
    _OLD,
    _FORMER,
    """
    , document as (
        update knowledge.document d
           set delete_time = $7::timestamptz, update_time = $7::timestamptz,
               revision = gate.revision, event_id = ($1::knowledge.audit_record).event_id
          from gate
         where d.document_uid = gate.resource_uid
        returning d.document_uid
    ),
    taken as (
        delete from knowledge.chunk_vector v
         using gate
         where v.space_uid = $8::uuid and v.document_uid = gate.resource_uid
        returning v.space_uid, v.chunk_uid, v.document_uid, v.embedding, v.fields
    ),
    parked as (
        insert into knowledge.chunk_vector_parked
               (space_uid, chunk_uid, document_uid, embedding, fields)
        select space_uid, chunk_uid, document_uid, embedding, fields from taken
    )
    select exists (select from collection) as lives,
           exists (select from target) as fresh, exists (select from gate) as done
""",
)


async def delete(
    conn: Connection, mutation: Mutation, collection: Collection, document: Document, at: datetime
) -> Written:
    """Deletes softly a document read at `document.version`, and parks its vectors."""
    row = await conn.fetchrow(
        DELETE,
        *mutation.parameters(),
        document.document_uid,
        collection.collection_uid,
        collection.revision,
        document.version,
        at,
        collection.active_space_uid,
    )
    return _changed(row)
