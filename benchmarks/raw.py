"""The yardstick: asyncpg with statements written by hand on the same tables and index, connected as
the service's own role.

The search statement takes the same vector, walks the same HNSW index with the same `ef`, orders by
the float32 distance, and returns for each hit the chunk's id, text and metadata, the document's id,
title and metadata, and the score. The document statement returns one document with its text. Both
know their uids beforehand: they look up no name, check no right, record nothing.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

import asyncpg

from knowledged.codecs import set_codecs
from knowledged.connection import Connection

SEARCH: LiteralString = """
    select k.chunk_id, k.content, k.metadata as chunk_metadata,
           d.document_id, d.title, d.metadata, 1 - found.distance as score
      from (select chunk_uid, document_uid, embedding <=> $1::vector as distance
              from knowledge.chunk_vector
             where space_uid = $2::uuid
             order by (embedding::halfvec(384)) <=> $1::vector::halfvec(384)
             limit $3::int) found
      join knowledge.chunk k on k.chunk_uid = found.chunk_uid
      join knowledge.document d on d.document_uid = found.document_uid
     where d.delete_time is null
     order by found.distance
"""

DOCUMENT: LiteralString = """
    select document_id, title, content, metadata, mime_type, state, revision, create_time,
           update_time
      from knowledge.document
     where collection_uid = $1::uuid and document_id = $2::text and delete_time is null
"""

_SPACE: LiteralString = """
    select c.collection_uid, c.active_space_uid, s.ef
      from knowledge.collection c
      join knowledge.vector_space s on s.space_uid = c.active_space_uid
     where c.collection_id = $1::text and c.delete_time is null
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a collection's rows lie, and the `ef` that the service searches them with."""

    collection_uid: UUID
    space_uid: UUID
    ef: int


async def place_of(dsn: str, collection_id: str) -> Place:
    conn: Connection = await asyncpg.connect(dsn)
    try:
        row = await conn.fetchrow(_SPACE, collection_id)
    finally:
        await conn.close()
    assert row is not None
    return Place(*row)


@asynccontextmanager
async def connections(dsn: str, ef: int, count: int) -> AsyncGenerator[Sequence[Any]]:
    """Connections with the service's codecs, each with `ef` set once for its session."""
    opened = [await asyncpg.connect(dsn) for _ in range(count)]
    try:
        for conn in opened:
            await set_codecs(conn)
            await conn.execute("select set_config('hnsw.ef_search', $1, false)", str(ef))
        yield opened
    finally:
        for conn in opened:
            await conn.close()
