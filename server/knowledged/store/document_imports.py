"""What a collection holds already of the documents that come in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

from knowledged.database import Connection
from knowledged.store.documents import Document, document_of


@dataclass(frozen=True, slots=True)
class Held:
    """Documents by id, without content, deleted ones too; names of living ones by content hash."""

    by_id: dict[str, Document]
    by_content: dict[bytes, tuple[str, int]]


BY_ID: LiteralString = """
    select d.document_uid, c.collection_id, d.document_id, d.title, '' as content,
           d.content_sha256, d.mime_type, d.source_uri, d.metadata, d.labels, d.subject_ids,
           d.origin, d.state, d.last_error, d.chunk_count, d.revision, d.chunk_version,
           d.create_time, d.update_time, d.delete_time
      from knowledge.document d
      join knowledge.collection c on c.collection_uid = d.collection_uid
     where d.collection_uid = $1::uuid and d.document_id = any ($2::text[])
"""

# Of several documents with one text the eldest stands for all.
BY_CONTENT: LiteralString = """
    select distinct on (content_sha256) content_sha256, document_id, revision
      from knowledge.document
     where collection_uid = $1::uuid and content_sha256 = any ($2::bytea[])
       and delete_time is null
     order by content_sha256, create_time, document_uid
"""


async def held(
    conn: Connection, collection_uid: UUID, ids: Sequence[str], hashes: Sequence[bytes]
) -> Held:
    """What is there of these ids and of these content hashes."""
    rows = await conn.fetch(BY_ID, collection_uid, ids)
    same = await conn.fetch(BY_CONTENT, collection_uid, hashes) if hashes else []
    return Held(
        {row["document_id"]: document_of(row) for row in rows},
        {row["content_sha256"]: (row["document_id"], row["revision"]) for row in same},
    )
