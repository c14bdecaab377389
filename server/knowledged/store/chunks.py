"""Reading chunks."""

from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from asyncpg import Record

from knowledged.call import Shown
from knowledged.database import Connection
from knowledged.errors import NotFound
from knowledged.store.collections import Collection
from knowledged.store.filter_sql import Column, Condition, Fields, Kind
from knowledged.store.paging import Order, Page


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk's row with its place in the document; `embedding` is little-endian float32.

    `of_document` is the uid of its document, and the ids of those whom that is about.
    """

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
    of_document: Shown
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


GET: LiteralString = """
    select k.chunk_uid, k.chunk_id, k.content, k.content_sha256, k.metadata, s.ordinal,
           s.start_offset, s.end_offset, k.token_count, k.state, k.last_error, k.create_time,
           k.update_time,
           case when $5::bool
                then coalesce(
                     (select v.embedding from knowledge.chunk_vector v
                       where v.space_uid = $2::uuid and v.chunk_uid = k.chunk_uid),
                     (select v.embedding from knowledge.chunk_vector_parked v
                       where v.space_uid = $2::uuid and v.chunk_uid = k.chunk_uid))
           end as embedding, d.document_uid, d.subject_ids
      from knowledge.collection c
      join knowledge.document d on d.collection_uid = c.collection_uid
      join knowledge.chunk k on k.document_uid = d.document_uid
      join knowledge.chunk_span s on s.chunk_uid = k.chunk_uid and s.to_revision is null
     where c.collection_uid = $1::uuid
       and c.active_space_uid = $2::uuid
       and c.delete_time is null
       and d.document_id = $3::text
       and k.chunk_id = $4::text
     order by s.ordinal
     limit 1
"""


async def get(
    conn: Connection, collection: Collection, ids: tuple[str, str], embedding: bool
) -> Chunk:
    """A chunk of the current revision, by ids of document and chunk; for a caller whose grant is
    checked."""
    uids = collection.collection_uid, collection.active_space_uid
    row = await conn.fetchrow(GET, *uids, *ids, embedding)
    if row is None:
        raise NotFound("chunk: not found")
    return chunk_of(row)


MANY: LiteralString = """
    select k.chunk_uid, k.chunk_id, '' as content, k.content_sha256, k.metadata, s.ordinal,
           s.start_offset, s.end_offset, k.token_count, k.state, k.last_error, k.create_time,
           k.update_time, null as embedding, d.document_uid, d.subject_ids
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
                       where v.space_uid = $2::uuid and v.chunk_uid = k.chunk_uid),
                     (select v.embedding from knowledge.chunk_vector_parked v
                       where v.space_uid = $2::uuid and v.chunk_uid = k.chunk_uid))
           end as embedding, d.document_uid, d.subject_ids
      from knowledge.collection c
      join knowledge.document d on d.collection_uid = c.collection_uid
      join knowledge.chunk_span s on s.document_uid = d.document_uid and s.to_revision is null
      join knowledge.chunk k on k.chunk_uid = s.chunk_uid
     where c.collection_uid = $1::uuid
       and c.active_space_uid = $2::uuid
       and c.delete_time is null
       and d.document_id = $3::text
"""

BY_ORDINAL = Order("s.ordinal", "int", "k.chunk_uid")


async def list_page(
    conn: Connection,
    collection: Collection,
    document_id: str,
    parts: tuple[bool, bool],
    condition: Condition,
    page: Page,
) -> list[Chunk]:
    """A document's current chunks by ordinal; `parts` says whether with content and embedding.

    One chunk more than the page's size, if there is one. For a caller whose grant is checked.
    """
    statement, parameters = page.statement(LIST, condition, 5)
    uids = collection.collection_uid, collection.active_space_uid
    rows = await conn.fetch(statement, *uids, document_id, *parts, *parameters)
    return [chunk_of(row) for row in rows]


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
        (row["document_uid"], row["subject_ids"]),
        row["embedding"],
    )
