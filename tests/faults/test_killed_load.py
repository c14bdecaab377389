"""kill -9 of the server while a stream fills a new collection, which is searched all the while."""

import asyncio
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import numpy as np

from caller import Caller, caller
from invariants import broken
from knowledge.v1.chunk_pb2 import Chunk
from knowledge.v1.collection_pb2 import Collection
from knowledge.v1.document_pb2 import ORIGIN_CALLER, Document
from knowledge.v1.intake_pb2 import INTAKE_STATE_CREATED, IntakeAck, IntakeSession
from knowledge.v1.knowledge_service_pb2 import CreateCollectionRequest, CreateDocumentRequest
from knowledge.v1.vector_pb2 import Vector
from knowledge.v1.vector_service_pb2 import (
    INDEX_STATE_READY,
    GetIndexStatsRequest,
    IngestChunksRequest,
    IngestItem,
    IngestItems,
    IngestStart,
    SearchRequest,
)
from knowledged.connection import Connection
from server_process import ServerProcess, server_process, superuser

COLLECTION, DIMENSION = "collections/loaded", 32
CHUNKS, IN_A_MESSAGE, LIMIT = 12_000, 100, 10
VECTORS = np.random.default_rng(8).standard_normal((CHUNKS, DIMENSION), np.float32)


@dataclass(slots=True)
class Load:
    """One session that brings all chunks, in as many streams as it takes."""

    parent: str
    session_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    acks: list[IntakeAck] = field(default_factory=list[IntakeAck])

    async def stream(self, client: Caller) -> None:
        """Until the session is finished, or the stream breaks."""
        call: Any = client.vectors.IngestChunks(wait_for_ready=True)
        session = IntakeSession(session_id=self.session_id, acknowledged=len(self.acks))
        start = IngestStart(parent=self.parent, session=session)
        await call.write(IngestChunksRequest(start=start))
        sending = asyncio.create_task(self._send(call, (await call.read()).started.resume_after))
        try:
            while (answer := await call.read()) is not grpc.aio.EOF:
                self.acks += answer.acks.acks
        finally:
            call.cancel()
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send(self, call: Any, after: int) -> None:
        for first in range(after, CHUNKS, IN_A_MESSAGE):
            numbers = range(first, min(first + IN_A_MESSAGE, CHUNKS))
            await call.write(IngestChunksRequest(items=IngestItems(items=map(_item, numbers))))
        await call.done_writing()


def _item(number: int) -> IngestItem:
    vector = Vector(f32_le=VECTORS[number].tobytes())
    chunk = Chunk(chunk_id=f"c{number}", ordinal=number, content=f"t {number}", embedding=vector)
    return IngestItem(sequence=number + 1, chunk=chunk)


async def test_a_load_through_two_kills_loses_nothing_and_is_indexed_once_it_is_over() -> None:
    async with server_process() as server, caller(server.address) as client:
        load = Load(await new_document(client))
        searching = asyncio.create_task(search_all_the_while(client, load))
        try:
            for moment in (2_000, 7_000):
                await killed_at(server, client, load, moment)
            await load.stream(client)
            await indexed(client)
        finally:
            searching.cancel()
        assert await searching > 0
        assert [ack.sequence for ack in load.acks] == list(range(1, CHUNKS + 1))
        assert {ack.state for ack in load.acks} == {INTAKE_STATE_CREATED}
        async with superuser(server) as conn:
            await check(conn, load)
        assert server.own_bugs() == []
        # Held back while it was filled, so built once.
        assert server.log.read_text().count("index_build_started") <= 2


async def new_document(client: Caller) -> str:
    made = CreateCollectionRequest(
        collection_id="loaded", collection=Collection(dimension=DIMENSION)
    )
    await client.knowledge.CreateCollection(made)
    document = CreateDocumentRequest(parent=COLLECTION, document=Document(origin=ORIGIN_CALLER))
    return (await client.knowledge.CreateDocument(document)).document.name


async def killed_at(server: ServerProcess, client: Caller, load: Load, moment: int) -> None:
    streaming = asyncio.create_task(load.stream(client))
    while len(load.acks) < moment and not streaming.done():  # noqa: ASYNC110
        await asyncio.sleep(0.002)
    await asyncio.to_thread(server.kill)
    await asyncio.wait([streaming])
    assert streaming.exception() is not None
    await asyncio.to_thread(server.start)


async def search_all_the_while(client: Caller, load: Load) -> int:
    """Every chunk that was acked is found by its own vector, first of as many as are asked for."""
    answered = 0
    with suppress(asyncio.CancelledError):
        while True:
            number = len(load.acks) // 2
            request = SearchRequest(collection=COLLECTION, limit=LIMIT)
            request.vector.f32_le = VECTORS[number].tobytes()
            with suppress(grpc.aio.AioRpcError):
                hits = (await client.vectors.Search(request, timeout=5)).hits
                if number > LIMIT:
                    assert (len(hits), hits[0].chunk.chunk_id) == (LIMIT, f"c{number}")
                    answered += 1
            await asyncio.sleep(0.05)
    return answered


async def indexed(client: Caller) -> None:
    request = GetIndexStatsRequest(collection=COLLECTION)
    async with asyncio.timeout(60):
        while (await client.vectors.GetIndexStats(request)).state != INDEX_STATE_READY:  # noqa: ASYNC110
            await asyncio.sleep(0.2)


async def check(conn: Connection, load: Load) -> None:
    """All there once, byte for byte, by the events that their acks told; and no other event."""
    assert await broken(conn) == {}
    rows = await conn.fetch(
        """
        select k.chunk_id, k.content, v.embedding::real[] as embedding
          from knowledge.chunk k
          join knowledge.chunk_vector v on v.chunk_uid = k.chunk_uid
         order by length(k.chunk_id), k.chunk_id
        """
    )
    assert [(r["chunk_id"], r["content"]) for r in rows] == [
        (f"c{n}", f"t {n}") for n in range(CHUNKS)
    ]
    assert np.array_equal(np.array([r["embedding"] for r in rows], np.float32), VECTORS)
    told = {ack.receipt.event_id for ack in load.acks}
    events = await conn.fetch(
        "select event_id from knowledge.audit_event where action = 'chunks.ingest'"
    )
    assert {str(row["event_id"]) for row in events} == told
