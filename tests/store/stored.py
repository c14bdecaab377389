"""Rows for the store's tests, written by the store's own functions."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from uuid_utils.compat import uuid7

from knowledged.audit_leaf import Event, Payload, new_salt
from knowledged.connection import Connection
from knowledged.declared_fields import CHUNK, DOCUMENT, stored_fields
from knowledged.store import (
    chunk_changes,
    chunk_copies,
    chunk_intake,
    collection_changes,
    document_changes,
    documents,
)
from knowledged.store.chunk_changes import GivenChunk
from knowledged.store.collections import Collection, FilterField
from knowledged.store.document_steps import Written
from knowledged.store.documents import Document
from knowledged.store.pieces import NewPieces
from knowledged.store.requests import Mutation, RequestKey

COSINE, L2, INNER_PRODUCT = 1, 2, 3
SERVER, CALLER = 1, 2
NUMBER = 2


def mutation(collection_uid: UUID | None = None) -> Mutation:
    """An event that has no request_id."""
    event = Event(
        event_id=uuid7(),
        occurred_at=datetime.now(UTC),
        audit_class=3,
        outcome=1,
        grpc_code=0,
        collection_uid=collection_uid,
        result_count=1,
        rpc="/knowledge.v1.KnowledgeService/Test",
        action="tests.write",
        payload=Payload("tester", "", "", "", "call", resources=("collections/x",)),
        salt=new_salt(),
    )
    return Mutation(event, RequestKey("tester", "/test", None, b""))


async def make_collection(
    conn: Connection,
    collection_id: str,
    *,
    dimension: int = 4,
    distance: int = COSINE,
    fields: tuple[FilterField, ...] = (),
    model: str = "",
) -> Collection:
    now = datetime.now(UTC)
    made = Collection(
        collection_uid=uuid7(),
        collection_id=collection_id,
        title="",
        description="",
        dimension=dimension,
        distance=distance,
        embedding_model=model,
        language="english",
        chunk_max_tokens=254,
        chunk_overlap_tokens=32,
        filter_fields=fields,
        egress=1,
        revision=1,
        active_space_uid=uuid7(),
        create_time=now,
        update_time=now,
    )
    assert await collection_changes.create(conn, mutation(made.collection_uid), made, "")
    return made


async def make_document(
    conn: Connection,
    collection: Collection,
    document_id: str,
    metadata: dict[str, object] | None = None,
) -> Document:
    """A document of origin CALLER, which has no chunks yet."""
    now = datetime.now(UTC)
    made = Document(
        document_uid=uuid7(),
        collection_id=collection.collection_id,
        document_id=document_id,
        title="",
        content="",
        content_sha256=hashlib.sha256(b"").digest(),
        mime_type="text/plain",
        source_uri="",
        metadata=metadata or {},
        labels={},
        subject_ids=(),
        origin=CALLER,
        state=2,
        last_error="",
        chunk_count=0,
        revision=1,
        chunk_version=1,
        create_time=now,
        update_time=now,
        delete_time=None,
    )
    change = mutation(collection.collection_uid)
    written = await document_changes.create(conn, change, collection, made, NewPieces())
    assert written is Written.DONE
    return made


async def add_chunks(
    conn: Connection,
    collection: Collection,
    document: Document,
    vectors: NDArray[np.float32],
    metadata: Sequence[Mapping[str, object]] = (),
) -> None:
    """A chunk `c0`, `c1`, ... for each row of `vectors`, (n, dimension), after those given before.

    `metadata` is that of each chunk.
    """
    rows: list[bytes | None] = [row.astype("<f4").tobytes() for row in vectors]
    first: int = await conn.fetchval(
        "select count(*) from knowledge.chunk where document_uid = $1::uuid", document.document_uid
    )
    texts = [f"text {first + i}" for i in range(len(rows))]
    await _write(conn, collection, document, first, texts, rows, metadata)


async def add_texts(
    conn: Connection,
    collection: Collection,
    document: Document,
    texts: Sequence[str],
    metadata: Sequence[Mapping[str, object]] = (),
) -> None:
    """A chunk `c0`, `c1`, ... for each text, over those given before; they wait for vectors."""
    await _write(conn, collection, document, 0, texts, [None] * len(texts), metadata)


async def copy_chunks(
    conn: Connection, collection: Collection, document: Document, vectors: NDArray[np.float32]
) -> None:
    """As `add_chunks`, by the way that new chunks of a stream take."""
    rows: list[bytes | None] = [row.astype("<f4").tobytes() for row in vectors]
    first = (await read_document(conn, document)).chunk_count + 1_000
    texts = [f"text {first + i}" for i in range(len(rows))]
    given, made = _given(collection, document, first, texts, rows, ()), mutation()
    async with conn.transaction():
        locked = await chunk_intake.lock_documents(conn, collection, [document.document_id])
        assert locked
        owner = locked[document.document_id].owner
        part = chunk_intake.Part(made, owner, given, made.receipt, only_new=True)
        await chunk_copies.copy(conn, await chunk_intake.write(conn, [part]))


async def _write(
    conn: Connection,
    collection: Collection,
    document: Document,
    first: int,
    texts: Sequence[str],
    vectors: Sequence[bytes | None],
    metadata: Sequence[Mapping[str, object]],
) -> None:
    given = _given(collection, document, first, texts, vectors, metadata)
    async with conn.transaction():
        change = mutation(collection.collection_uid)
        owner = await chunk_changes.lock_document(
            conn, collection.collection_uid, document.document_id, collection.revision
        )
        assert owner is not None
        await chunk_changes.upsert(conn, change, owner, datetime.now(UTC), given)


def _given(
    collection: Collection,
    document: Document,
    first: int,
    texts: Sequence[str],
    vectors: Sequence[bytes | None],
    metadata: Sequence[Mapping[str, object]],
) -> list[GivenChunk]:
    of_document = stored_fields(collection.filter_fields, DOCUMENT, document.metadata)
    about = [dict(each) for each in metadata] or [{} for _ in texts]
    return [
        GivenChunk(
            chunk_uid=uuid7(),
            chunk_id=f"c{place}",
            content=text,
            content_sha256=hashlib.sha256(text.encode()).digest(),
            metadata=own,
            ordinal=place,
            token_count=2,
            embedding=vector,
            fields=of_document | stored_fields(collection.filter_fields, CHUNK, own),
        )
        for place, (text, vector, own) in enumerate(zip(texts, vectors, about, strict=True), first)
    ]


def clustered(count: int, dimension: int, clusters: int = 50) -> NDArray[np.float32]:
    """Vectors, (count, dimension), around random centres, as texts lie around topics."""
    random = np.random.default_rng(7)
    centres = random.normal(size=(clusters, dimension))
    noise = 0.3 * random.normal(size=(count, dimension))
    return (centres[random.integers(clusters, size=count)] + noise).astype(np.float32)


async def read_document(conn: Connection, made: Document) -> Document:
    return await documents.get(conn, made.collection_id, made.document_id, None)
