"""Reading documents as they were."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from asyncpg import Record

from knowledged.database import Connection
from knowledged.errors import NotFound
from knowledged.store.content_parts import Part, whole
from knowledged.store.documents import Document, document_of
from knowledged.store.filter_sql import Condition
from knowledged.store.paging import Order, Page


class DamagedRevision(Exception):
    """A former content is not the one that was stored. Leaves as INTERNAL."""


@dataclass(frozen=True, slots=True)
class Revision:
    """A document as it was until `until_time` (None: it still is), and the event that made it."""

    document: Document
    event_id: UUID
    until_time: datetime | None


@dataclass(frozen=True, slots=True)
class Moment:
    """When a document is asked for: at a revision, or as it was at an instant. One is given."""

    revision: int | None = None
    as_of: datetime | None = None


AT: LiteralString = """
    select d.document_uid, c.collection_id, d.document_id, d.title, '' as content,
           d.content_sha256, d.mime_type, d.source_uri, d.metadata, d.labels, d.subject_ids,
           d.origin, d.state, d.last_error, d.chunk_count, d.revision, d.chunk_version,
           d.create_time, d.update_time, d.delete_time, d.purge_time
      from unnest($1::uuid[], $2::bigint[]) as wanted (document_uid, revision)
      join knowledge.document_history d
        on d.document_uid = wanted.document_uid and d.revision = wanted.revision
      join knowledge.collection c on c.collection_uid = d.collection_uid
     where d.document_uid = any ($1::uuid[])
"""


async def at(conn: Connection, wanted: Sequence[tuple[UUID, int]]) -> list[Document]:
    """Documents by uid as they were at a revision, in this order, without content: for answers to
    repeats. NotFound once one of them is purged."""
    rows = await conn.fetch(AT, [uid for uid, _ in wanted], [revision for _, revision in wanted])
    found = {row["document_uid"]: document_of(row) for row in rows}
    if any(uid not in found for uid, _ in wanted):
        raise NotFound("document: not found")
    return [found[uid] for uid, _ in wanted]


GET: LiteralString = """
    select d.document_uid, c.collection_id, d.document_id, d.title, '' as content,
           d.content_sha256, d.mime_type, d.source_uri, d.metadata, d.labels, d.subject_ids,
           d.origin, d.state, d.last_error, d.chunk_count, d.revision, d.chunk_version,
           d.create_time, d.update_time, d.delete_time, d.purge_time
      from knowledge.collection c
      join knowledge.document_history d on d.collection_uid = c.collection_uid
     where c.collection_uid = $1::uuid
       and c.delete_time is null
       and d.document_id = $2::text
       and (d.revision = $3::bigint or (d.update_time <= $4::timestamptz and d.until_time > $4))
     order by d.revision desc
     limit 1
"""


async def get(
    conn: Connection, names: tuple[UUID, str], moment: Moment, content: bool = True
) -> Document:
    """A document by its collection's uid and its id, as it was.

    For a caller whose grant is checked. NotFound for an unknown revision, or before there was one.
    """
    row = await conn.fetchrow(GET, *names, moment.revision, moment.as_of)
    if row is None:
        raise NotFound("document: not found, or not at this revision")
    found = document_of(row)
    return replace(found, content=await _content(conn, found)) if content else found


# From the nearest whole content to the wanted one; what did not change a content holds none.
PARTS: LiteralString = """
    with whole as (
        select revision
          from knowledge.document_revision
         where document_uid = $1::uuid and revision >= $2::bigint
           and content is not null and kept_head + kept_tail = 0
         order by revision
         limit 1
    )
    select d.revision, d.content, 0 as kept_head, 0 as kept_tail
      from knowledge.document d
     where d.document_uid = $1::uuid and not exists (select from whole)
     union all
    select r.revision, r.content, r.kept_head, r.kept_tail
      from knowledge.document_revision r
     where r.document_uid = $1::uuid and r.revision >= $2::bigint and r.content is not null
       and (not exists (select from whole) or r.revision <= (select revision from whole))
     order by revision desc
"""


async def _content(conn: Connection, row: Document) -> str:
    rows = await conn.fetch(PARTS, row.document_uid, row.revision)
    if not rows:
        raise NotFound("document: not found")
    parts = [Part(part["content"], part["kept_head"], part["kept_tail"]) for part in rows]
    content = whole(parts)
    if hashlib.sha256(content.encode()).digest() != row.content_sha256:
        raise DamagedRevision
    return content


LIST: LiteralString = """
    select d.document_uid, c.collection_id, d.document_id, d.title, '' as content,
           d.content_sha256, d.mime_type, d.source_uri, d.metadata, d.labels, d.subject_ids,
           d.origin, d.state, d.last_error, d.chunk_count, d.revision, d.chunk_version,
           d.create_time, d.update_time, d.delete_time, d.purge_time, d.event_id,
           nullif(d.until_time, 'infinity') as until_time
      from knowledge.document_history d
      join knowledge.collection c on c.collection_uid = d.collection_uid
     where d.document_uid = $1::uuid
       and c.delete_time is null
"""

BY_REVISION = Order("d.revision", "bigint", "d.document_uid")


async def list_page(
    conn: Connection, document_uid: UUID, condition: Condition, page: Page
) -> list[Revision]:
    """Revisions of a document, one more than the page's size, if there is one."""
    statement, parameters = page.statement(LIST, condition, 1)
    rows = await conn.fetch(statement, document_uid, *parameters)
    return [_revision(row) for row in rows]


def _revision(row: Record) -> Revision:
    return Revision(document_of(row), row["event_id"], row["until_time"])
