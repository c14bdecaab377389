"""Collections in SQL. Statements that name one keep to the ids that the caller is granted."""

from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

import asyncpg
from asyncpg import Record

from knowledged.database import Connection
from knowledged.errors import AlreadyExists, NotFound
from knowledged.store.filter_sql import Column, Condition, Fields, Kind
from knowledged.store.paging import Order, Page
from knowledged.store.requests import Mutation, recorded


@dataclass(frozen=True, slots=True)
class FilterField:
    """A metadata path that searches filter on by an index, with the kind of its values (1 to 5)."""

    path: str
    kind: int

    @property
    def key(self) -> str:
        """Under which vector rows keep it. A field whose type changes is another field to them."""
        return f"{self.path}:{self.kind}"


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection's row; numbers of enums are those of the proto."""

    collection_uid: UUID
    collection_id: str
    title: str
    description: str
    dimension: int
    distance: int
    embedding_model: str
    language: str
    chunk_max_tokens: int
    chunk_overlap_tokens: int
    filter_fields: tuple[FilterField, ...]
    egress: int
    revision: int
    active_space_uid: UUID
    create_time: datetime
    update_time: datetime


@dataclass(frozen=True, slots=True)
class Space:
    """A collection with what a search needs to know of its vector space.

    `indexed` says that the HNSW index is there; `rows` is an estimate; `ready_fields` are the
    filter fields that every row carries.
    """

    collection: Collection
    indexed: bool
    ef: int
    rows: int
    ready_fields: tuple[FilterField, ...]


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
                egress, active_space_uid, event_id, create_time, update_time)
        select $3::uuid, $4::text, $7::text, $17::text, $8::int, $9::smallint, $10::text, $11::text,
               $12::int, $13::int, $14::jsonb, $15::smallint, $5::uuid,
               ($1::knowledge.audit_record).event_id, $16::timestamptz, $16::timestamptz
          from gate
        returning active_space_uid, dimension
    )
    select knowledge.create_space_partition(active_space_uid, dimension)
      from collection
""",
)


async def create(
    conn: Connection, mutation: Mutation, collection: Collection, model_digest: str
) -> bool:
    """Stores a new collection with its empty vector space; False if this is a repeat.

    Raises AlreadyExists when the id is taken.
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
        )
    except asyncpg.UniqueViolationError as error:
        raise _taken(error) from error
    return row is not None


def _taken(error: asyncpg.UniqueViolationError) -> Exception:
    if error.constraint_name == "collection_id_live":
        return AlreadyExists("collection_id: is taken")
    return error


FIND: LiteralString = """
    select collection_uid, collection_id, title, description, dimension, distance, embedding_model,
           language, chunk_max_tokens, chunk_overlap_tokens, filter_fields, egress, revision,
           active_space_uid, create_time, update_time
      from knowledge.collection
     where collection_id = $1::text
       and delete_time is null
       and ($2::text[] is null or collection_id = any ($2::text[]))
"""


async def get(conn: Connection, collection_id: str, granted: list[str] | None) -> Collection:
    """A live collection. NotFound also when it is not granted."""
    row = await conn.fetchrow(FIND, collection_id, granted)
    if row is None:
        raise NotFound("collection: not found")
    return _collection(row)


# n_live_tup follows within a second; reltuples survives a crash of the statistics.
SPACE: LiteralString = """
    select c.collection_uid, c.collection_id, c.title, c.description, c.dimension, c.distance,
           c.embedding_model, c.language, c.chunk_max_tokens, c.chunk_overlap_tokens,
           c.filter_fields, c.egress, c.revision, c.active_space_uid, c.create_time, c.update_time,
           s.state = 3 as indexed, s.ef, s.ready_fields,
           greatest(pg_stat_get_live_tuples(r.oid), r.reltuples, 0)::bigint as rows
      from knowledge.collection c
      join knowledge.vector_space s on s.space_uid = c.active_space_uid
      join pg_class r on r.oid = to_regclass('knowledge.' || knowledge.space_relation(s.space_uid))
     where c.collection_id = $1::text
       and c.delete_time is null
"""


async def space(conn: Connection, collection_id: str) -> Space | None:
    """A live collection with its active vector space; None if there is none of that id.

    Keeps to no grants: callers check them before they show anything of it.
    """
    row = await conn.fetchrow(SPACE, collection_id)
    if row is None:
        return None
    return Space(
        _collection(row), row["indexed"], row["ef"], row["rows"], filter_fields(row["ready_fields"])
    )


LIST: LiteralString = """
    select collection_uid, collection_id, title, description, dimension, distance, embedding_model,
           language, chunk_max_tokens, chunk_overlap_tokens, filter_fields, egress, revision,
           active_space_uid, create_time, update_time
      from knowledge.collection
     where delete_time is null
       and ($1::text[] is null or collection_id = any ($1::text[]))
"""

FIELDS = Fields(
    {
        "collection_id": Column("collection_id", Kind.STRING),
        "title": Column("title", Kind.STRING),
        "dimension": Column("dimension", Kind.NUMBER),
        "embedding_model": Column("embedding_model", Kind.STRING),
        "create_time": Column("create_time", Kind.TIMESTAMP),
        "update_time": Column("update_time", Kind.TIMESTAMP),
    }
)

ORDERS = {
    "collection_id": Order("collection_id", "text", "collection_uid"),
    "create_time": Order("create_time", "timestamptz", "collection_uid"),
    "update_time": Order("update_time", "timestamptz", "collection_uid"),
}


async def list_page(
    conn: Connection, granted: list[str] | None, condition: Condition, page: Page
) -> list[Collection]:
    """One collection more than the page's size, so that the caller sees if there is a next page."""
    statement, parameters = page.statement(LIST, condition, 1)
    rows = await conn.fetch(statement, granted, *parameters)
    return [_collection(row) for row in rows]


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
    update knowledge.collection c
       set title = $5::text, description = $6::text, chunk_max_tokens = $7::int,
           chunk_overlap_tokens = $8::int, filter_fields = $9::jsonb, egress = $10::smallint,
           revision = gate.revision, event_id = ($1::knowledge.audit_record).event_id,
           update_time = $11::timestamptz
      from gate
     where c.collection_uid = gate.resource_uid
    returning c.collection_uid
""",
)


async def update(conn: Connection, mutation: Mutation, collection: Collection) -> bool:
    """Stores the new state of a collection read at `collection.revision`.

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


async def delete(conn: Connection, mutation: Mutation, collection_uid: UUID, at: datetime) -> bool:
    """Deletes a collection logically; False if it is gone or the request is a repeat."""
    row = await conn.fetchrow(DELETE, *mutation.parameters(), collection_uid, at)
    return row is not None


BY_UID: LiteralString = """
    select collection_uid, collection_id, title, description, dimension, distance, embedding_model,
           language, chunk_max_tokens, chunk_overlap_tokens, filter_fields, egress, revision,
           active_space_uid, create_time, update_time
      from knowledge.collection
     where collection_uid = $1::uuid
"""


async def get_by_uid(conn: Connection, collection_uid: UUID) -> Collection:
    """A collection, deleted ones too; for answers to repeats."""
    row = await conn.fetchrow(BY_UID, collection_uid)
    if row is None:
        raise NotFound("collection: not found")
    return _collection(row)


# Counting stops at 10,001: beyond that the planner's estimate does.
COUNT: LiteralString = """
    select count(*)
      from (select from knowledge.document
             where collection_uid = $1::uuid and delete_time is null
             limit 10001) d
"""


async def count_documents(conn: Connection, collection_uid: UUID) -> int:
    """Live documents, exact up to 10,000."""
    return int(await conn.fetchval(COUNT, collection_uid))


def fields_json(fields: tuple[FilterField, ...]) -> list[dict[str, object]]:
    return [{"path": field.path, "kind": field.kind} for field in fields]


def filter_fields(json: list[dict[str, object]]) -> tuple[FilterField, ...]:
    return tuple(FilterField(str(item["path"]), int(str(item["kind"]))) for item in json)


def _collection(row: Record) -> Collection:
    return Collection(
        row["collection_uid"],
        row["collection_id"],
        row["title"],
        row["description"],
        row["dimension"],
        row["distance"],
        row["embedding_model"],
        row["language"],
        row["chunk_max_tokens"],
        row["chunk_overlap_tokens"],
        filter_fields(row["filter_fields"]),
        row["egress"],
        row["revision"],
        row["active_space_uid"],
        row["create_time"],
        row["update_time"],
    )
