"""Reading documents."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from asyncpg import Record

from knowledged.database import Connection
from knowledged.errors import NotFound
from knowledged.store.filter_sql import Column, Condition, Kind
from knowledged.store.paging import Order, Page


@dataclass(frozen=True, slots=True)
class Document:
    """A document's row; numbers of enums are those of the proto. Lists leave `content` empty."""

    document_uid: UUID
    collection_id: str
    document_id: str
    title: str
    content: str
    content_sha256: bytes
    mime_type: str
    source_uri: str
    metadata: dict[str, object]
    labels: dict[str, str]
    subject_ids: tuple[str, ...]
    origin: int
    state: int
    last_error: str
    chunk_count: int
    revision: int
    chunk_version: int
    create_time: datetime
    update_time: datetime
    delete_time: datetime | None
    purge_time: datetime | None = None

    @property
    def version(self) -> list[int]:
        """What a change demands to find still: no other change, and no other chunk or vector."""
        return [self.revision, self.chunk_version]

    @property
    def name(self) -> str:
        return f"collections/{self.collection_id}/documents/{self.document_id}"


# What a filter may ask of a document `d`.
DOCUMENT_FIELDS = {
    "document_id": Column("d.document_id", Kind.STRING),
    "title": Column("d.title", Kind.STRING),
    "mime_type": Column("d.mime_type", Kind.STRING),
    "source_uri": Column("d.source_uri", Kind.STRING),
    "state": Column("d.state", Kind.ENUM, {"PENDING": 1, "ACTIVE": 2, "FAILED": 3}),
    "origin": Column("d.origin", Kind.ENUM, {"SERVER": 1, "CALLER": 2}),
    "revision": Column("d.revision", Kind.NUMBER),
    "labels": Column("d.labels", Kind.MAP),
    "subject_ids": Column("d.subject_ids", Kind.STRING_LIST),
    "metadata": Column("d.metadata", Kind.DYNAMIC),
    "create_time": Column("d.create_time", Kind.TIMESTAMP),
    "update_time": Column("d.update_time", Kind.TIMESTAMP),
    "delete_time": Column("d.delete_time", Kind.TIMESTAMP),
}


GET: LiteralString = """
    select d.document_uid, c.collection_id, d.document_id, d.title,
           case when $4::bool then d.content else '' end as content, d.content_sha256, d.mime_type,
           d.source_uri, d.metadata, d.labels, d.subject_ids, d.origin, d.state, d.last_error,
           d.chunk_count, d.revision, d.chunk_version, d.create_time, d.update_time, d.delete_time,
           d.purge_time
      from knowledge.document d
      join knowledge.collection c on c.collection_uid = d.collection_uid
     where c.collection_id = $1::text
       and d.document_id = $2::text
       and c.delete_time is null
       and ($3::text[] is null or c.collection_id = any ($3::text[]))
"""


async def get(
    conn: Connection,
    collection_id: str,
    document_id: str,
    granted: list[str] | None,
    content: bool = True,
) -> Document:
    """A document, deleted ones too. NotFound also when its collection is not granted."""
    row = await conn.fetchrow(GET, collection_id, document_id, granted, content)
    if row is None:
        raise NotFound("document: not found")
    return document_of(row)


LIST: LiteralString = """
    select d.document_uid, c.collection_id, d.document_id, d.title,
           case when $3::bool then d.content else '' end as content, d.content_sha256, d.mime_type,
           d.source_uri, d.metadata, d.labels, d.subject_ids, d.origin, d.state, d.last_error,
           d.chunk_count, d.revision, d.chunk_version, d.create_time, d.update_time, d.delete_time,
           d.purge_time
      from knowledge.document d
      join knowledge.collection c on c.collection_uid = d.collection_uid
     where d.collection_uid = $1::uuid
       and c.delete_time is null
       and ($2::bool or d.delete_time is null)
"""

ORDERS = {
    "create_time": Order("d.create_time", "timestamptz", "d.document_uid"),
    "update_time": Order("d.update_time", "timestamptz", "d.document_uid"),
    "document_id": Order("d.document_id", "text", "d.document_uid"),
}


async def list_page(
    conn: Connection,
    collection_uid: UUID,
    show_deleted: bool,
    content: bool,
    condition: Condition,
    page: Page,
) -> list[Document]:
    """One document more than the page's size, if there is one."""
    statement, parameters = page.statement(LIST, condition, 3)
    rows = await conn.fetch(statement, collection_uid, show_deleted, content, *parameters)
    return [document_of(row) for row in rows]


MANY: LiteralString = """
    select d.document_uid, c.collection_id, d.document_id, d.title,
           case when d.document_id = any ($3::text[]) then d.content else '' end as content,
           d.content_sha256, d.mime_type, d.source_uri, d.metadata, d.labels, d.subject_ids,
           d.origin, d.state, d.last_error, d.chunk_count, d.revision, d.chunk_version,
           d.create_time, d.update_time, d.delete_time, d.purge_time
      from knowledge.document d
      join knowledge.collection c on c.collection_uid = d.collection_uid
     where d.collection_uid = $1::uuid
       and d.document_id = any ($2::text[])
       and c.delete_time is null
"""


async def get_many(
    conn: Connection, collection_uid: UUID, document_ids: Sequence[str], whole: Sequence[str]
) -> dict[str, Document]:
    """Documents by id, deleted ones too; with content those that `whole` names. What is missing is
    left out. For a caller whose grant is checked."""
    rows = await conn.fetch(MANY, collection_uid, document_ids, whole)
    return {row["document_id"]: document_of(row) for row in rows}


# How much `MANY` would read.
LENGTH: LiteralString = """
    select coalesce(sum(octet_length(content)), 0)
      from knowledge.document
     where collection_uid = $1::uuid and document_id = any ($2::text[])
"""


async def content_bytes(conn: Connection, collection_uid: UUID, document_ids: Sequence[str]) -> int:
    """What the contents of these documents take, together."""
    return int(await conn.fetchval(LENGTH, collection_uid, document_ids))


def document_of(row: Record) -> Document:
    """A Document from a row with its columns."""
    return Document(
        row["document_uid"],
        row["collection_id"],
        row["document_id"],
        row["title"],
        row["content"],
        row["content_sha256"],
        row["mime_type"],
        row["source_uri"],
        row["metadata"],
        row["labels"],
        tuple(row["subject_ids"]),
        row["origin"],
        row["state"],
        row["last_error"],
        row["chunk_count"],
        row["revision"],
        row["chunk_version"],
        row["create_time"],
        row["update_time"],
        row["delete_time"],
        row["purge_time"],
    )
