"""Reading all documents of a collection within one transaction, in parts of bounded size."""

from collections.abc import Sequence
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from knowledged.database import Connection
from knowledged.store.documents import ORDERS, Document, document_of
from knowledged.store.filter_sql import Condition
from knowledged.store.paging import Page

FIRST_FILTER_PARAMETER = 3
_SIZES_AT_ONCE = 1_000

HOLD: LiteralString = """
    select set_config('idle_in_transaction_session_timeout', $1::int::text || 's', true)
"""


async def hold(conn: Connection, seconds: int) -> None:
    """Lets this transaction wait for its reader so long."""
    await conn.fetchval(HOLD, seconds)


# Sizes come from the row itself: no text is read for them.
SIZES: LiteralString = """
    select d.document_uid, d.create_time,
           octet_length(d.content) + pg_column_size(d.metadata) as size
      from knowledge.document d
      join knowledge.collection c on c.collection_uid = d.collection_uid
     where d.collection_uid = $1::uuid
       and c.delete_time is null
       and ($2::bool or d.delete_time is null)
"""


async def sizes(
    conn: Connection,
    collection_uid: UUID,
    show_deleted: bool,
    condition: Condition,
    after: tuple[datetime, UUID] | None,
) -> list[tuple[UUID, datetime, int]]:
    """The next documents in order of creation, with about how many bytes each has."""
    page = Page(_SIZES_AT_ONCE, ORDERS["create_time"], after=after)
    statement, parameters = page.statement(SIZES, condition, FIRST_FILTER_PARAMETER - 1)
    rows = await conn.fetch(statement, collection_uid, show_deleted, *parameters)
    return [(row["document_uid"], row["create_time"], row["size"]) for row in rows]


WHOLE: LiteralString = """
    select d.document_uid, c.collection_id, d.document_id, d.title, d.content, d.content_sha256,
           d.mime_type, d.source_uri, d.metadata, d.labels, d.subject_ids, d.origin, d.state,
           d.last_error, d.chunk_count, d.revision, d.chunk_version, d.create_time, d.update_time,
           d.delete_time, d.purge_time
      from knowledge.document d
      join knowledge.collection c on c.collection_uid = d.collection_uid
     where d.collection_uid = $1::uuid and d.document_uid = any ($2::uuid[])
     order by d.create_time, d.document_uid
"""


async def whole(
    conn: Connection, collection_uid: UUID, document_uids: Sequence[UUID]
) -> list[Document]:
    """These documents with their content, in order of creation."""
    rows = await conn.fetch(WHOLE, collection_uid, document_uids)
    return [document_of(row) for row in rows]
