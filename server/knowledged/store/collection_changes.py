"""Changes of collections, each one statement with its audit event."""

from datetime import datetime
from typing import LiteralString
from uuid import UUID

import asyncpg

from knowledged.database import Connection
from knowledged.errors import AlreadyExists
from knowledged.store.collections import Collection, fields_json
from knowledged.store.requests import Mutation, recorded

CREATE: LiteralString = recorded(
    """
    with target as (
        select 'collections/' || $4::text as resource, $3::uuid as resource_uid,
               1::bigint as revision
    ),
""",
    """
    , space as (
        insert into knowledge.vector_space
               (space_uid, collection_uid, model_id, model_digest, dimension, distance,
                ready_fields, create_time)
        select $5::uuid, $3::uuid, $10::text, $6::text, $8::int, $9::smallint, $14::jsonb,
               $16::timestamptz
          from gate
    ),
    collection as (
        insert into knowledge.collection
               (collection_uid, collection_id, title, description, dimension, distance,
                embedding_model, language, chunk_max_tokens, chunk_overlap_tokens, filter_fields,
                egress, active_space_uid, event_id, create_time, update_time, retention_seconds)
        select $3::uuid, $4::text, $7::text, $17::text, $8::int, $9::smallint, $10::text, $11::text,
               $12::int, $13::int, $14::jsonb, $15::smallint, $5::uuid,
               ($1::knowledge.audit_record).event_id, $16::timestamptz, $16::timestamptz,
               $18::bigint
          from gate
        returning active_space_uid, dimension
    ),
    alias as (
        insert into knowledge.collection_alias (alias, collection_uid, create_time)
        select w.alias, $3::uuid, $16::timestamptz
          from gate cross join unnest($19::text[]) as w (alias)
    )
    select knowledge.create_space_partition(active_space_uid, dimension)
      from collection
""",
)


async def create(
    conn: Connection, mutation: Mutation, collection: Collection, model_digest: str
) -> bool:
    """Stores a new collection with its empty vector space; False if this is a repeat.

    Raises AlreadyExists when the id is taken. Its names must be locked (`aliases.lock`), and free.
    """
    c = collection
    try:
        row = await conn.fetchrow(
            CREATE,
            *mutation.parameters(),
            c.collection_uid,
            c.collection_id,
            c.active_space_uid,
            model_digest,
            c.title,
            c.dimension,
            c.distance,
            c.embedding_model,
            c.language,
            c.chunk_max_tokens,
            c.chunk_overlap_tokens,
            fields_json(c.filter_fields),
            c.egress,
            c.create_time,
            c.description,
            c.retention_seconds,
            c.aliases,
        )
    except asyncpg.UniqueViolationError as error:
        raise _taken(error) from error
    return row is not None


def _taken(error: asyncpg.UniqueViolationError) -> Exception:
    if error.constraint_name == "collection_id_live":
        return AlreadyExists("collection_id: is taken")
    return error


UPDATE: LiteralString = recorded(
    """
    with old as (
        select *
          from knowledge.collection
         where collection_uid = $3::uuid
           and delete_time is null
           for no key update
    ),
    target as (
        select 'collections/' || collection_id as resource, collection_uid as resource_uid,
               revision + 1 as revision
          from old
         where revision = $4::bigint
    ),
""",
    """
    , given_up as (
        delete from knowledge.collection_alias a
         using gate
         where a.collection_uid = gate.resource_uid and a.alias <> all ($13::text[])
    ),
    -- Who had one of them before has changed, too: its etag says so.
    robbed as (
        update knowledge.collection c
           set revision = c.revision + 1, update_time = $11::timestamptz
          from gate
         where c.collection_uid <> gate.resource_uid
           and c.collection_uid in (select a.collection_uid from knowledge.collection_alias a
                                     where a.alias = any ($13::text[]))
    ),
    alias as (
        insert into knowledge.collection_alias as a (alias, collection_uid, create_time)
        select w.alias, gate.resource_uid, $11::timestamptz
          from gate cross join unnest($13::text[]) as w (alias)
            on conflict (alias) do update
           set collection_uid = excluded.collection_uid, create_time = excluded.create_time
         where a.collection_uid <> excluded.collection_uid
    )
    update knowledge.collection c
       set title = $5::text, description = $6::text, chunk_max_tokens = $7::int,
           chunk_overlap_tokens = $8::int, filter_fields = $9::jsonb, egress = $10::smallint,
           revision = gate.revision, event_id = ($1::knowledge.audit_record).event_id,
           update_time = $11::timestamptz, retention_seconds = $12::bigint
      from gate
     where c.collection_uid = gate.resource_uid
    returning c.collection_uid
""",
)


async def update(conn: Connection, mutation: Mutation, collection: Collection) -> bool:
    """Stores the new state of a collection read at `collection.revision`.

    It takes its aliases from whoever has them: they must be locked (`aliases.lock`).

    False if it changed since, is gone, or the request is a repeat.
    """
    c = collection
    row = await conn.fetchrow(
        UPDATE,
        *mutation.parameters(),
        c.collection_uid,
        c.revision,
        c.title,
        c.description,
        c.chunk_max_tokens,
        c.chunk_overlap_tokens,
        fields_json(c.filter_fields),
        c.egress,
        c.update_time,
        c.retention_seconds,
        c.aliases,
    )
    return row is not None


LOCK: LiteralString = """
    select collection_uid
      from knowledge.collection
     where collection_uid = $1::uuid and delete_time is null
       for update
"""

IS_EMPTY: LiteralString = """
    select not exists (
               select from knowledge.document
                where collection_uid = $1::uuid and delete_time is null)
"""

HAS_HELD: LiteralString = """
    select exists (
               select from knowledge.document
                where collection_uid = $1::uuid and knowledge.is_held(document_uid))
"""

# Logical only: rows and partition go in the background.
DELETE: LiteralString = recorded(
    """
    with target as (
        select 'collections/' || collection_id as resource, collection_uid as resource_uid,
               revision + 1 as revision
          from knowledge.collection
         where collection_uid = $3::uuid and delete_time is null
    ),
""",
    """
    , space as (
        update knowledge.vector_space s
           set state = 4
          from gate
         where s.collection_uid = gate.resource_uid
    ),
    alias as (
        delete from knowledge.collection_alias a
         using gate
         where a.collection_uid = gate.resource_uid
    )
    update knowledge.collection c
       set delete_time = $4::timestamptz, revision = gate.revision,
           event_id = ($1::knowledge.audit_record).event_id
      from gate
     where c.collection_uid = gate.resource_uid
    returning c.collection_uid
""",
)


async def lock(conn: Connection, collection_uid: UUID) -> bool:
    """Waits for all who write into the collection, and keeps others out; False if it is gone."""
    return await conn.fetchval(LOCK, collection_uid) is not None


async def is_empty(conn: Connection, collection_uid: UUID) -> bool:
    return bool(await conn.fetchval(IS_EMPTY, collection_uid))


async def has_held(conn: Connection, collection_uid: UUID) -> bool:
    """Whether one of its documents is under legal hold."""
    return bool(await conn.fetchval(HAS_HELD, collection_uid))


async def delete(conn: Connection, mutation: Mutation, collection_uid: UUID, at: datetime) -> bool:
    """Deletes a collection logically; False if it is gone or the request is a repeat."""
    row = await conn.fetchrow(DELETE, *mutation.parameters(), collection_uid, at)
    return row is not None
