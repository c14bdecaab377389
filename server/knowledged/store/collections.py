"""Reading collections. Statements that name one keep to the ids that the caller is granted."""

from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from asyncpg import Record

from knowledged.database import Connection
from knowledged.errors import NotFound
from knowledged.store.filter_sql import Column, Condition, Fields, Kind
from knowledged.store.paging import Order, Page

LOCAL_ONLY, PROVIDER_ALLOWED = 1, 2


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
    retention_seconds: int = 30 * 86_400
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Space:
    """A collection with what a search needs to know of its vector space.

    `indexed` says that the HNSW index is there; `ef_reason` is as the column has it; `rows` is an
    estimate; `ready_fields` are the filter fields that every row carries; `model_digest` is that of
    the model that made the vectors, empty if that is not known.
    """

    collection: Collection
    indexed: bool
    ef: int
    ef_reason: int
    rows: int
    ready_fields: tuple[FilterField, ...]
    model_digest: str


FIND: LiteralString = """
    select collection_uid, collection_id, title, description, dimension, distance, embedding_model,
           language, chunk_max_tokens, chunk_overlap_tokens, filter_fields, egress, revision,
           active_space_uid, create_time, update_time, retention_seconds,
           array(select alias from knowledge.collection_alias a
                  where a.collection_uid = c.collection_uid order by alias) as aliases
      from knowledge.collection c
     where collection_uid = coalesce(
               (select o.collection_uid from knowledge.collection o
                 where o.collection_id = $1::text and o.delete_time is null),
               (select a.collection_uid from knowledge.collection_alias a
                 where a.alias = $1::text))
       and delete_time is null
       and ($2::text[] is null or collection_id = any ($2::text[]))
"""


async def get(conn: Connection, collection_id: str, granted: list[str] | None) -> Collection:
    """A live collection, by its id or an alias. NotFound also when it is not granted."""
    row = await conn.fetchrow(FIND, collection_id, granted)
    if row is None:
        raise NotFound("collection: not found")
    return _collection(row)


# n_live_tup follows within a second; reltuples survives a crash of the statistics.
SPACE: LiteralString = """
    select c.collection_uid, c.collection_id, c.title, c.description, c.dimension, c.distance,
           c.embedding_model, c.language, c.chunk_max_tokens, c.chunk_overlap_tokens,
           c.filter_fields, c.egress, c.revision, c.active_space_uid, c.create_time, c.update_time,
           c.retention_seconds,
           array(select alias from knowledge.collection_alias a
                  where a.collection_uid = c.collection_uid order by alias) as aliases,
           s.state = 3 as indexed, s.ef, s.ef_reason, s.ready_fields, s.model_digest,
           greatest(pg_stat_get_live_tuples(r.oid), r.reltuples, 0)::bigint as rows
      from knowledge.collection c
      join knowledge.vector_space s on s.space_uid = c.active_space_uid
      join pg_class r on r.oid = to_regclass('knowledge.' || knowledge.space_relation(s.space_uid))
     where c.collection_uid = coalesce(
               (select o.collection_uid from knowledge.collection o
                 where o.collection_id = $1::text and o.delete_time is null),
               (select a.collection_uid from knowledge.collection_alias a
                 where a.alias = $1::text))
       and c.delete_time is null
"""


async def space(conn: Connection, collection_id: str) -> Space | None:
    """A live collection, by id or alias, with its active vector space; None if there is none.

    Keeps to no grants: callers check them before they show anything of it.
    """
    row = await conn.fetchrow(SPACE, collection_id)
    if row is None:
        return None
    return Space(
        _collection(row),
        row["indexed"],
        row["ef"],
        row["ef_reason"],
        row["rows"],
        filter_fields(row["ready_fields"]),
        row["model_digest"],
    )


LIST: LiteralString = """
    select collection_uid, collection_id, title, description, dimension, distance, embedding_model,
           language, chunk_max_tokens, chunk_overlap_tokens, filter_fields, egress, revision,
           active_space_uid, create_time, update_time, retention_seconds,
           array(select alias from knowledge.collection_alias a
                  where a.collection_uid = c.collection_uid order by alias) as aliases
      from knowledge.collection c
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


BY_UID: LiteralString = """
    select collection_uid, collection_id, title, description, dimension, distance, embedding_model,
           language, chunk_max_tokens, chunk_overlap_tokens, filter_fields, egress, revision,
           active_space_uid, create_time, update_time, retention_seconds,
           array(select alias from knowledge.collection_alias a
                  where a.collection_uid = c.collection_uid order by alias) as aliases
      from knowledge.collection c
     where collection_uid = $1::uuid
"""


async def get_by_uid(conn: Connection, collection_uid: UUID) -> Collection:
    """A collection, deleted ones too; for answers to repeats."""
    row = await conn.fetchrow(BY_UID, collection_uid)
    if row is None:
        raise NotFound("collection: not found")
    return _collection(row)


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a collection holds: documents exact up to 10,000, chunks by estimate, bytes on disk."""

    documents: int = 0
    deleted_documents: int = 0
    chunks: int = 0
    vector_bytes: int = 0


# Counting stops at 10,001: more would read the whole collection.
SIZES: LiteralString = """
    select (select count(*)
              from (select from knowledge.document
                     where collection_uid = $1::uuid and delete_time is null
                     limit 10001) d) as documents,
           (select count(*)
              from (select from knowledge.document
                     where collection_uid = $1::uuid and delete_time is not null
                     limit 10001) d) as deleted_documents,
           greatest(pg_stat_get_live_tuples(r.oid), r.reltuples, 0)::bigint as chunks,
           coalesce(pg_total_relation_size(r.oid), 0) as vector_bytes
      from (select to_regclass('knowledge.' || knowledge.space_relation($2::uuid)) as oid) s
      left join pg_class r on r.oid = s.oid
"""


async def sizes(conn: Connection, collection: Collection) -> Sizes:
    row = await conn.fetchrow(SIZES, collection.collection_uid, collection.active_space_uid)
    return Sizes(*row.values()) if row else Sizes()


COUNT_BY_MODEL: LiteralString = """
    select embedding_model, count(*) as collections
      from knowledge.collection
     where delete_time is null
       and ($1::text[] is null or collection_id = any ($1::text[]))
     group by embedding_model
"""


async def count_by_model(conn: Connection, granted: list[str] | None) -> dict[str, int]:
    """How many live collections use each embedding model, of those that are granted."""
    rows = await conn.fetch(COUNT_BY_MODEL, granted)
    return {row["embedding_model"]: row["collections"] for row in rows}


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
        row["retention_seconds"],
        tuple(row["aliases"]),
    )
