"""New chunks with their vectors by binary COPY: the bytes of rows, made while PostgreSQL stores
those before them.

A field is its length, int32, and its value as its type's `send` function has it (COPY, "Binary
Format"). What is the same for all chunks of a document is made once.
"""

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from struct import Struct
from uuid import UUID

import numpy as np

from knowledged.codecs import encode_jsonb
from knowledged.database import Connection
from knowledged.store.chunk_changes import GivenChunk, Owner

_BEGIN = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END = b"\xff\xff"
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_ROWS_AT_A_TIME = 50
_ACTIVE = 2

_INT16 = Struct(">h").pack
_INT32 = Struct(">i").pack
_SHORT = Struct(">ih").pack
_INTEGER = Struct(">ii").pack
_BIGINT = Struct(">iq").pack
_UID = _INT32(16)
_HASH = _INT32(32)
_NOTHING = _INT32(3) + encode_jsonb({})


@dataclass(frozen=True, slots=True)
class Fill:
    """New chunks of one document: `revision` is the document's, `language` the oid of the
    collection's regconfig."""

    owner: Owner
    chunks: Sequence[GivenChunk]
    at: datetime
    revision: int
    language: int


# As the values follow each other in the functions below.
_CHUNK = (
    "collection_uid", "document_uid", "state", "language", "create_time", "update_time",
    "chunk_uid", "chunk_id", "content", "content_sha256", "metadata", "token_count",
)  # fmt: skip
_SPAN = ("document_uid", "from_revision", "chunk_uid", "ordinal")
_VECTOR = ("space_uid", "document_uid", "chunk_uid", "fields", "embedding")


async def copy(conn: Connection, fills: Sequence[Fill]) -> None:
    """Writes chunks, spans and vectors; the documents must be locked, and none of these there."""
    if not fills:
        return
    await _copied(conn, "chunk", _CHUNK, fills, _chunks)
    await _copied(conn, "chunk_span", _SPAN, fills, _spans)
    await _copied(conn, "chunk_vector", _VECTOR, fills, _vectors)


Rows = Callable[[Fill, Sequence[GivenChunk]], Iterator[bytes | memoryview]]


async def _copied(
    conn: Connection, table: str, columns: Sequence[str], fills: Sequence[Fill], rows: Rows
) -> None:
    await conn.copy_to_table(
        table,
        schema_name="knowledge",
        columns=columns,
        source=_stream(fills, rows),
        format="binary",
    )


async def _stream(fills: Sequence[Fill], rows: Rows) -> AsyncGenerator[bytes]:
    yield _BEGIN
    for fill in fills:
        for first in range(0, len(fill.chunks), _ROWS_AT_A_TIME):
            yield b"".join(rows(fill, fill.chunks[first : first + _ROWS_AT_A_TIME]))
    yield _END


def _chunks(fill: Fill, chunks: Sequence[GivenChunk]) -> Iterator[bytes]:
    head, sized = _head_of_chunk(fill), _sized
    for chunk in chunks:
        yield head
        yield chunk.chunk_uid.bytes
        yield sized(chunk.chunk_id.encode())
        yield sized(chunk.content.encode())
        yield _HASH
        yield chunk.content_sha256
        yield _json(chunk.metadata)
        yield _INTEGER(4, chunk.token_count)


def _head_of_chunk(fill: Fill) -> bytes:
    at = _BIGINT(8, (fill.at - _EPOCH) // _MICROSECOND)
    uids = _uid(fill.owner.collection_uid) + _uid(fill.owner.document_uid)
    state = _SHORT(2, _ACTIVE) + _INT32(4) + fill.language.to_bytes(4, "big")
    return _INT16(len(_CHUNK)) + uids + state + at + at + _UID


def _spans(fill: Fill, chunks: Sequence[GivenChunk]) -> Iterator[bytes]:
    head = _INT16(len(_SPAN)) + _uid(fill.owner.document_uid) + _BIGINT(8, fill.revision) + _UID
    for chunk in chunks:
        yield head
        yield chunk.chunk_uid.bytes
        yield _INTEGER(4, chunk.ordinal)


def _vectors(fill: Fill, chunks: Sequence[GivenChunk]) -> Iterator[bytes | memoryview]:
    """All of one dimension, which is the space's."""
    owner = fill.owner
    head = _INT16(len(_VECTOR)) + _uid(owner.space_uid) + _uid(owner.document_uid) + _UID
    given = [chunk.embedding or b"" for chunk in chunks]
    size = len(given[0])
    before = _INT32(size + 4) + _INT16(size // 4) + bytes(2)
    # As integers: a float's way through a register may change the bits of a NaN.
    words = memoryview(np.frombuffer(b"".join(given), "<u4").astype(">u4").tobytes())
    for place, chunk in enumerate(chunks):
        yield head
        yield chunk.chunk_uid.bytes
        yield _json(chunk.fields)
        yield before
        yield words[place * size : (place + 1) * size]


def _uid(uid: UUID) -> bytes:
    return _UID + uid.bytes


def _sized(value: bytes) -> bytes:
    return _INT32(len(value)) + value


def _json(value: dict[str, object]) -> bytes:
    return _sized(encode_jsonb(value)) if value else _NOTHING
