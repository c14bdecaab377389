"""The rows about writing: what the audit event costs a write, and text that is embedded."""

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast
from uuid import uuid4

from uuid_utils.compat import uuid7

from benchmarks import onnx_loop
from benchmarks.calling import Caller, caller
from benchmarks.load import Load, Measured, measured, run
from benchmarks.raw import connections
from benchmarks.raw_jobs import Target as RawTarget
from benchmarks.report import Row, row
from benchmarks.rounds import CALLERS, Bench, timed
from benchmarks.service_jobs import Target
from knowledge.v1.collection_pb2 import Collection as CollectionMessage
from knowledge.v1.document_pb2 import Document as DocumentMessage
from knowledge.v1.knowledge_service_pb2 import CreateCollectionRequest, CreateDocumentRequest
from knowledged.audit_leaf import Event, Payload, new_salt
from knowledged.connection import Connection
from knowledged.store import collections, document_changes
from knowledged.store.collections import Space
from knowledged.store.document_steps import Written
from knowledged.store.documents import Document
from knowledged.store.pieces import NewChunk, NewPieces, Span
from knowledged.store.requests import RECORD, Mutation, RequestKey

WRITERS = 8
_AUDIT = RECORD[RECORD.index(",\n    event as (") :]
_AS_THE_SERVICE_WRITES = "set plan_cache_mode = force_generic_plan"
_RPC = "/knowledge.v1.KnowledgeService/CreateDocument"


@dataclass(frozen=True, slots=True)
class Unaudited:
    """A connection that leaves the three inserts of the audit event out of a statement."""

    conn: Connection

    async def fetchrow(self, query: str, *args: object) -> Any:
        plain = query.replace(_AUDIT, "\n")
        assert plain != query
        return await self.conn.fetchrow(plain, *args)


def audit_rows(bench: Bench) -> list[Row]:
    """The service's own statement for a new document, with and without its audit event: with the
    least that a document can hold, and as CreateDocument stores a short text."""
    return [
        _audit_row(bench, "a document without chunks", []),
        _audit_row(bench, "a text of one chunk, into HNSW", bench.queries),
    ]


def _audit_row(bench: Bench, what: str, vectors: Sequence[bytes]) -> Row:
    def writes(*, audited: bool) -> Measured:
        return timed(bench, create_documents, bench.raw(WRITERS), audited, vectors).measured

    rounds = [(writes(audited=True), writes(audited=False)) for _ in range(bench.rounds)]
    ratios = [audited.qps / plain.qps for audited, plain in rounds]
    details = f"{rounds[-1][0].qps:.0f}/s, without {rounds[-1][1].qps:.0f}/s, 8 connections"
    return row(f"audited write ÷ unaudited, {what}", ratios, "≥ 0.85", details)


async def create_documents(target: RawTarget, audited: bool, vectors: Sequence[bytes]) -> Measured:
    """Documents of a few words by each connection, one after another. Each has one chunk with the
    next of the vectors; if there are none, it has no chunk."""

    def of(conn: Connection, space: Space):
        async def ask(turn: int) -> None:
            document = _document(turn)
            mutation = _mutation(document, space)
            done = await document_changes.create(
                conn if audited else cast("Connection", Unaudited(conn)),
                mutation,
                space.collection,
                document,
                _pieces(document, vectors[turn % len(vectors)]) if vectors else NewPieces(),
            )
            assert done is Written.DONE

        return ask

    async with connections(target.dsn, target.place.ef, target.connections) as opened:
        for conn in opened:
            await conn.execute(_AS_THE_SERVICE_WRITES)
        space = await collections.space(opened[0], "bench")
        assert space is not None
        return await run(Load([of(conn, space) for conn in opened], target.seconds))


def _document(turn: int) -> Document:
    now, content = datetime.now(UTC), f"The document of turn {turn}."
    return Document(
        document_uid=uuid7(),
        collection_id="bench",
        document_id=str(uuid4()),
        title="Written",
        content=content,
        content_sha256=hashlib.sha256(content.encode()).digest(),
        mime_type="text/plain",
        source_uri="",
        metadata={"turn": turn},
        labels={},
        subject_ids=(),
        origin=2,
        state=2,
        last_error="",
        chunk_count=0,
        revision=1,
        chunk_version=1,
        create_time=now,
        update_time=now,
        delete_time=None,
    )


def _pieces(document: Document, vector: bytes) -> NewPieces:
    """The whole content as one chunk."""
    uid, length = uuid7(), len(document.content)
    chunk = NewChunk(uid, str(uuid4()), document.content, document.content_sha256, 8, True)
    return NewPieces((chunk,), (Span(uid, 0, 0, length),), ((uid, vector),))


def _mutation(document: Document, space: Space) -> Mutation:
    payload = Payload("bench", "", "", "ipv4:127.0.0.1:1", str(uuid4()), (document.name,))
    event = Event(
        event_id=uuid7(),
        occurred_at=document.create_time,
        audit_class=3,
        outcome=1,
        grpc_code=0,
        collection_uid=space.collection.collection_uid,
        result_count=1,
        rpc=_RPC,
        action="documents.create",
        payload=payload,
        salt=new_salt(),
    )
    return Mutation(event, RequestKey("bench", _RPC, None, b""))


def ingest_row(bench: Bench, texts_a_round: int) -> Row:
    """CreateDocument with a text of one chunk each, against the model run on the same texts."""

    def pair(texts: Sequence[str]) -> tuple[Measured, Measured]:
        ours = timed(bench, create_texts, bench.target(CALLERS), texts).measured
        return ours, timed(bench, onnx_loop.embed, texts).measured

    rounds = [
        pair(bench.corpus.texts[number * texts_a_round : (number + 1) * texts_a_round])
        for number in range(bench.rounds)
    ]
    ratios = [ours.qps / bare.qps for ours, bare in rounds]
    details = f"{rounds[-1][0].qps:.0f}/s, bare {rounds[-1][1].qps:.0f}/s"
    return row("text ingest, chunks a second ÷ bare ONNX loop", ratios, "≥ 0.85", details)


async def create_texts(target: Target, texts: Sequence[str]) -> Measured:
    """Each text once, as a document of its own, in a new collection."""
    collection_id, latencies = f"ingest-{uuid4().hex[:8]}", list[float]()
    parent = f"collections/{collection_id}"
    requests = iter(
        CreateDocumentRequest(parent=parent, document=DocumentMessage(content=text))
        for text in texts
    )

    async def create(one: Caller) -> None:
        for request in requests:
            asked = time.perf_counter()
            answer = await one.create_document(request)
            assert answer.document.chunk_count == 1
            latencies.append(time.perf_counter() - asked)

    async with caller(target.address, target.token) as one:
        await one.create_collection(
            CreateCollectionRequest(collection_id=collection_id, collection=CollectionMessage())
        )
        began = time.perf_counter()
        await asyncio.gather(*(create(one) for _ in range(target.callers)))
        return measured(latencies, time.perf_counter() - began)
