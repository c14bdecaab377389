"""What a collection holds already of the documents that come in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

from knowledged.database import Connection
from knowledged.store.documents import Document, document_of


@dataclass(frozen=True, slots=True)
class Asked:
    """What comes in: ids with the hashes of their contents, and hashes that may be there once."""

    ids: Sequence[str]
    id_hashes: Sequence[bytes]
    unique_hashes: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Held:
    """Documents by id, deleted ones too; names of living ones by content hash."""

    by_id: dict[str, Document]
    by_content: dict[bytes, tuple[str, int]]


BY_ID: LiteralString = """
    select d.document_uid, c.collection_id, d.document_id, d.title,
           case when $4::bool and d.content_sha256 <> w.content_sha256
                then d.content else '' end as content,
           d.content_sha256, d.mime_type, d.source_uri, d.metadata, d.labels, d.subject_ids,
           d.origin, d.state, d.last_error, d.chunk_count, d.revision, d.chunk_version,
           d.create_time, d.update_time, d.delete_time, d.purge_time
      from unnest($2::text[], $3::bytea[]) as w (document_id, content_sha256)
      join knowledge.document d
        on d.collection_uid = $1::uuid and d.document_id = w.document_id
      join knowledge.collection c on c.collection_uid = d.collection_uid
"""

# Of several documents with one text the eldest stands for all.
BY_CONTENT: LiteralString = """
    select distinct on (content_sha256) content_sha256, document_id, revision
      from knowledge.document
     where collection_uid = $1::uuid and content_sha256 = any ($2::bytea[])
       and delete_time is null
     order by content_sha256, create_time, document_uid
"""


async def held(conn: Connection, collection_uid: UUID, asked: Asked, *, contents: bool) -> Held:
    """What is there of these ids and hashes; with `contents` also the contents that change."""
    rows = await conn.fetch(BY_ID, collection_uid, asked.ids, asked.id_hashes, contents)
    unique = asked.unique_hashes
    same = await conn.fetch(BY_CONTENT, collection_uid, unique) if unique else []
    return Held(
        {row["document_id"]: document_of(row) for row in rows},
        {row["content_sha256"]: (row["document_id"], row["revision"]) for row in same},
    )
