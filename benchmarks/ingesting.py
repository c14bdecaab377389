"""The rows about chunks that come with their vectors: IngestChunks ÷ COPY into the same tables,
and a load before the index is built ÷ one into the index.

Raw is asyncpg's binary COPY of the same columns by one connection, as the service's own role, in
transactions of as many rows, into a document that is there; it checks, counts and records nothing.
The texts are the HPO's; the vectors are drawn by chance, which makes them no easier to index.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import numpy as np
from grpc.aio import AioRpcError
from uuid_utils.compat import uuid7

from benchmarks import processes
from benchmarks.apart import Apart
from benchmarks.calling import Caller, caller
from benchmarks.corpus import hpo_terms
from benchmarks.report import Row, row
from benchmarks.service import Service
from benchmarks.service_jobs import Target
from knowledge.v1.chunk_pb2 import Chunk
from knowledge.v1.collection_pb2 import Collection
from knowledge.v1.document_pb2 import Document, Origin
from knowledge.v1.knowledge_service_pb2 import CreateCollectionRequest, CreateDocumentRequest
from knowledge.v1.vector_pb2 import Vector
from knowledge.v1.vector_service_pb2 import (
    IngestChunksRequest,
    IngestItem,
    IngestItems,
    IngestStart,
    SearchRequest,
)
from knowledged.codecs import set_codecs

DIMENSION = 384
BATCH = 500
_IN_A_MESSAGE = 50
# Below that a collection gets no index.
_UNINDEXED = 2_500
_INDEXED = 5_000
_ADDED = 1_000
_INDEX_SECONDS = 120.0
# As the service's own connections for writing have it, for the checks of foreign keys; by itself
# PostgreSQL plans these row by row.
_KEPT = {"plan_cache_mode": "force_generic_plan"}
# Without an index a search takes a core for as long as it compares all.
_SEARCH_SECONDS = 0.5

_OWNER = """
    select d.document_uid, d.collection_uid, c.active_space_uid, c.language::regconfig::oid
      from knowledge.document d
      join knowledge.collection c on c.collection_uid = d.collection_uid
     where c.collection_id = $1::text and d.document_id = $2::text
"""
_CHUNK = (
    "chunk_uid", "collection_uid", "document_uid", "chunk_id", "content", "content_sha256",
    "metadata", "token_count", "state", "language", "create_time", "update_time",
)  # fmt: skip
_SPAN = ("document_uid", "chunk_uid", "ordinal", "from_revision")
_VECTOR = ("space_uid", "chunk_uid", "document_uid", "embedding", "fields")

Given = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class Brought:
    """What a stream, or raw's COPY, brought; `cpu` is its own processor time, in seconds."""

    count: int
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        return self.count / self.seconds


@dataclass(frozen=True, slots=True)
class Side:
    """The same, with the processor seconds of service and PostgreSQL meanwhile."""

    brought: Brought
    service: float
    postgres: float

    def micros(self) -> str:
        """Of a row."""
        parts = self.service, self.postgres, self.brought.cpu
        return " + ".join(f"{1e6 * part / self.brought.count:.0f}" for part in parts)


Pair = tuple[Side, Side]


def ingest_rows(apart: Apart, service: Service, rounds: int) -> list[Row]:
    given, indexed = _given(_INDEXED), f"ingest-{uuid4().hex[:8]}"
    target = Target(service.address, service.token, 1, 0)

    def pairs(
        collection_id: str | None, part: Sequence[Given], settings: dict[str, str] | None = None
    ) -> list[Pair]:
        """Each into a new document; of a new collection, too, unless it has an index. The one goes
        first in one round, the other in the next: PostgreSQL still tidies up after whoever did."""

        def new() -> str:
            return collection_id or f"ingest-{uuid4().hex[:8]}"

        def ours() -> Side:
            return _measured(service, lambda: apart.run(ingest, target, new(), part)[0])

        def raw() -> Side:
            whole = target, service.dsn, new(), part, settings
            return _measured(service, lambda: apart.run(copy, *whole)[0])

        return [_in_turn(number, ours, raw) for number in range(rounds)]

    apart.run(prepare, target, indexed, given)
    return [
        _row("no vector index", pairs(None, given[:_UNINDEXED])),
        _row("no vector index, which keeps plans", pairs(None, given[:_UNINDEXED], _KEPT), ""),
        _row("into an HNSW index", pairs(indexed, given[:_ADDED])),
    ]


def _in_turn(number: int, ours: Callable[[], Side], raw: Callable[[], Side]) -> Pair:
    if number % 2:
        theirs = raw()
        return ours(), theirs
    return ours(), raw()


def _measured(service: Service, bring: Callable[[], Brought]) -> Side:
    before = _cpu(service)
    brought = bring()
    of_service, of_postgres = (b - a for a, b in zip(before, _cpu(service), strict=True))
    return Side(brought, of_service, of_postgres)


def _cpu(service: Service) -> tuple[float, float]:
    return (
        processes.cpu_seconds(service.pid),
        processes.cpu_seconds_with_children(service.postgres_pid),
    )


def bulk_row(apart: Apart, service: Service, count: int) -> Row:
    """One round: at 100,000 rows it takes minutes."""
    target, given = Target(service.address, service.token, 1, 0), _given(count)
    indexed = f"ingest-{uuid4().hex[:8]}"
    apart.run(prepare, target, indexed, given[:_INDEXED])
    began = _cpu(service)[1]
    slow = apart.run(load, target, indexed, given)[0]
    between = _cpu(service)[1]
    fast = apart.run(load, target, f"ingest-{uuid4().hex[:8]}", given)[0]
    ended = _cpu(service)[1]
    details = (
        f"{count} rows: {slow.indexed:.1f} s into the index; {fast.load:.1f} s and built after"
        f" {fast.indexed:.1f} s; seconds of PostgreSQL {between - began:.1f} and"
        f" {ended - between:.1f}; {slow.searches} and {fast.searches} searches meanwhile, all full"
    )
    name = "bulk load, load then build ÷ row by row into the index"
    return row(name, [slow.indexed / fast.indexed], "≥ 4 times as fast", details)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Seconds until all was acked, and until searches used the index; searches meanwhile."""

    load: float
    indexed: float
    searches: int


async def load(target: Target, collection_id: str, given: Sequence[Given]) -> Loaded:
    """A collection is filled; it is searched all the while, until that goes by its index."""
    await ingest(target, collection_id, given[:BATCH])
    loading = asyncio.create_task(ingest(target, collection_id, given[BATCH:]))
    began, searches = time.perf_counter(), 0
    request = _search(collection_id, given)
    async with caller(target.address, target.token) as one:
        while (answer := await one.search(request)).exact or not loading.done():
            assert len(answer.hits) == request.limit
            searches += 1
            await asyncio.sleep(_SEARCH_SECONDS)
    return Loaded((await loading).seconds, time.perf_counter() - began, searches)


def _search(collection_id: str, given: Sequence[Given]) -> SearchRequest:
    vector = Vector(f32_le=given[0][1])
    return SearchRequest(collection=f"collections/{collection_id}", vector=vector, limit=10)


def _row(what: str, rounds: Sequence[Pair], asked: str = "≥ 0.85") -> Row:
    ratios = [ours.brought.rate / theirs.brought.rate for ours, theirs in rounds]
    ours, theirs = rounds[-1]
    details = (
        f"{ours.brought.rate:.0f}/s, raw {theirs.brought.rate:.0f}/s;"
        f" {ours.brought.count} rows, {BATCH} a transaction; µs of service + PostgreSQL + caller"
        f" a row {ours.micros()}, raw {theirs.micros()}"
    )
    return row(f"IngestChunks ÷ binary COPY, {what}", ratios, asked, details)


async def prepare(target: Target, collection_id: str, given: Sequence[Given]) -> None:
    """A collection with an index."""
    await ingest(target, collection_id, given)
    request = _search(collection_id, given)
    async with caller(target.address, target.token) as one, asyncio.timeout(_INDEX_SECONDS):
        while (await one.search(request)).exact:  # noqa: ASYNC110 - the server is asked
            await asyncio.sleep(0.5)


async def ingest(target: Target, collection_id: str, given: Sequence[Given]) -> Brought:
    """All by one stream; requests are built before the clock starts."""
    async with caller(target.address, target.token) as one:
        parent = await _document(one, collection_id)
        messages = list(_messages(parent, given))
        began, cpu = time.perf_counter(), time.process_time()
        answers = [answer async for answer in one.ingest_chunks(iter(messages))]
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert answers[-1].finished.created_count == len(given)
    return Brought(len(given), seconds, cpu)


async def copy(
    target: Target,
    dsn: str,
    collection_id: str,
    given: Sequence[Given],
    settings: dict[str, str] | None = None,
) -> Brought:
    """All by one connection, whose session has the settings."""
    async with caller(target.address, target.token) as one:
        parent = await _document(one, collection_id)
    conn: Any = await asyncpg.connect(dsn, server_settings=settings)
    try:
        await set_codecs(conn)
        await conn.set_type_codec(
            "regconfig",
            schema="pg_catalog",
            encoder=lambda oid: oid.to_bytes(4, "big"),
            decoder=bytes,
            format="binary",
        )
        owner = await conn.fetchrow(_OWNER, collection_id, parent.rpartition("/")[2])
        tables = _tables(owner, given)
        began, cpu = time.perf_counter(), time.process_time()
        for first in range(0, len(given), BATCH):
            async with conn.transaction():
                for table, columns, records in tables:
                    await conn.copy_records_to_table(
                        table,
                        schema_name="knowledge",
                        columns=columns,
                        records=records[first : first + BATCH],
                    )
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    finally:
        await conn.close()
    return Brought(len(given), seconds, cpu)


def _tables(owner: Sequence[Any], given: Sequence[Given]) -> list[tuple[str, Any, list[Any]]]:
    document_uid, collection_uid, space_uid, language = owner
    now, chunks, spans, vectors = datetime.now(UTC), list[Any](), list[Any](), list[Any]()
    for place, (text, vector) in enumerate(given):
        uid: UUID = uuid7()
        digest = hashlib.sha256(text.encode()).digest()
        given_values = uid, collection_uid, document_uid, f"c{place}", text, digest
        chunks.append((*given_values, {}, 64, 2, language, now, now))
        spans.append((document_uid, uid, place, 1))
        vectors.append((space_uid, uid, document_uid, vector, {}))
    return [
        ("chunk", _CHUNK, chunks),
        ("chunk_span", _SPAN, spans),
        ("chunk_vector", _VECTOR, vectors),
    ]


def _given(count: int) -> list[Given]:
    drawn = np.random.default_rng(3).standard_normal((count, DIMENSION), np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    terms = hpo_terms()
    texts = [f"{terms[n % len(terms)].text} {n // len(terms)}" for n in range(count)]
    return [(text, vector.tobytes()) for text, vector in zip(texts, drawn, strict=True)]


async def _document(one: Caller, collection_id: str) -> str:
    """A new, empty document; its collection is made if it is missing."""
    parent = f"collections/{collection_id}"
    held = Collection(dimension=DIMENSION)
    with suppress(AioRpcError):
        await one.create_collection(
            CreateCollectionRequest(collection_id=collection_id, collection=held)
        )
    request = CreateDocumentRequest(parent=parent, document=Document(origin=Origin.ORIGIN_CALLER))
    return (await one.create_document(request)).document.name


def _messages(parent: str, given: Sequence[Given]) -> Iterator[IngestChunksRequest]:
    yield IngestChunksRequest(start=IngestStart(parent=parent))
    items = [_item(place, *each) for place, each in enumerate(given)]
    for first in range(0, len(items), _IN_A_MESSAGE):
        several = IngestItems(items=items[first : first + _IN_A_MESSAGE])
        yield IngestChunksRequest(items=several)


def _item(place: int, text: str, vector: bytes) -> IngestItem:
    chunk = Chunk(
        chunk_id=f"c{place}", content=text, embedding=Vector(f32_le=vector), ordinal=place
    )
    return IngestItem(sequence=place + 1, chunk=chunk)
