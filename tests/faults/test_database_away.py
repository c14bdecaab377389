"""PostgreSQL stops, or freezes, while callers call: they are told at once, and it mends itself."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc.aio
import pytest

from caller import Caller, Failure, caller, failure
from knowledge.v1.audit_service_pb2 import ListAuditEventsRequest
from knowledge.v1.chunk_pb2 import Chunk
from knowledge.v1.document_pb2 import Document
from knowledge.v1.knowledge_service_pb2 import (
    DeleteDocumentRequest,
    GetDocumentRequest,
    ListDocumentsRequest,
    UpdateDocumentRequest,
)
from knowledge.v1.vector_service_pb2 import (
    GetChunkRequest,
    ListChunksRequest,
    SearchRequest,
    UpsertChunksRequest,
)
from outside_postgres import OutsidePostgres, outside_postgres, served
from server_process import ServerProcess

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

NOTICED_SECONDS = 5.0
CALL_SECONDS = 2.0
# How late a caller may learn that its deadline has passed.
LATE_SECONDS = 1.0

Call = Callable[[float], Awaitable[object]]


@dataclass(slots=True)
class Scene:
    """A server on an outside PostgreSQL, with a collection and a document."""

    postgres: OutsidePostgres
    server: ServerProcess
    client: Caller
    parent: str = ""

    def calls(self) -> dict[str, Call]:
        """One call of every kind that needs the database, each with a time limit in seconds."""
        name, k, v = f"{self.parent}/documents/d", self.client.knowledge, self.client.vectors
        chunks = [Chunk(chunk_id="a", content="a")]
        requests = {
            k.GetDocument: GetDocumentRequest(name=name),
            k.ListDocuments: ListDocumentsRequest(parent=self.parent),
            k.UpdateDocument: UpdateDocumentRequest(document=Document(name=name, title="t")),
            k.DeleteDocument: DeleteDocumentRequest(name=name, validate_only=True),
            v.Search: SearchRequest(collection=self.parent, text="fever"),
            v.ListChunks: ListChunksRequest(parent=name),
            v.GetChunk: GetChunkRequest(name=f"{name}/chunks/none"),
            v.UpsertChunks: UpsertChunksRequest(parent=name, chunks=chunks),
            self.client.audit.ListAuditEvents: ListAuditEventsRequest(),
        }
        return {
            type(request).__name__: self._bound(method, request)
            for method, request in requests.items()
        }

    def _bound(self, method: Callable[..., Awaitable[object]], request: object) -> Call:
        async def call(seconds: float) -> object:
            return await method(request, timeout=seconds)

        return call

    async def until(self, status: str) -> float:
        """How many seconds until the server says it is SERVING or NOT_SERVING."""
        began = time.monotonic()
        async with asyncio.timeout(30):
            while await self.client.status() != status:
                assert await self.client.status("liveness") == "SERVING"
                await asyncio.sleep(0.05)
        return time.monotonic() - began


@asynccontextmanager
async def scene() -> AsyncGenerator[Scene]:
    async with (
        outside_postgres() as postgres,
        served(postgres) as server,
        caller(server.address) as client,
    ):
        made = Scene(postgres, server, client)
        made.parent = await client.create_collection("c")
        await client.create_document(made.parent, "d", "A fever.")
        yield made
        assert server.own_bugs() == []


@dataclass(slots=True)
class Load:
    """Readers and writers who never stop, and what they were answered."""

    outcomes: Counter[str] = field(default_factory=Counter[str])
    slowest: float = 0.0

    @asynccontextmanager
    async def on(self, scene: Scene) -> AsyncGenerator[None]:
        tasks = [asyncio.create_task(self._repeat(call)) for call in scene.calls().values()]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _repeat(self, call: Call) -> None:
        while True:
            began = time.monotonic()
            self.outcomes[(await outcome(call)).code] += 1
            self.slowest = max(self.slowest, time.monotonic() - began)
            await asyncio.sleep(0.02)


async def outcome(call: Call) -> Failure:
    try:
        await call(CALL_SECONDS)
    except grpc.aio.AioRpcError as error:
        return failure(error)
    return Failure("OK", "", None)


ANSWERED = {"OK", "NOT_FOUND", "FAILED_PRECONDITION"}


async def outcomes(scene: Scene) -> dict[str, Failure]:
    calls = scene.calls()
    found = await asyncio.gather(*(outcome(call) for call in calls.values()))
    return dict(zip(calls, found, strict=True))


async def test_a_stopped_database_is_told_and_comes_back_by_itself() -> None:
    load = Load()
    async with scene() as made, load.on(made):
        await made.postgres.stop()
        assert await made.until("NOT_SERVING") < NOTICED_SECONDS
        away = await outcomes(made)
        assert {f.code for f in away.values()} == {"UNAVAILABLE"}, away
        assert {f.reason for f in away.values()} == {"DATABASE_UNAVAILABLE"}
        assert all(f.retry_seconds for f in away.values()), away
        assert await made.client.status("liveness") == "SERVING"
        await made.postgres.start()
        assert await made.until("SERVING") < NOTICED_SECONDS
        back = await outcomes(made)
        assert {f.code for f in back.values()} <= ANSWERED, back
    assert set(load.outcomes) <= {*ANSWERED, "UNAVAILABLE"}, load.outcomes


async def test_a_frozen_database_keeps_nobody_beyond_the_deadline() -> None:
    load = Load()
    async with scene() as made, load.on(made):
        made.postgres.freeze()
        try:
            assert await made.until("NOT_SERVING") < NOTICED_SECONDS
            frozen = await outcomes(made)
            assert {f.code for f in frozen.values()} <= {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
            assert await made.client.status("liveness") == "SERVING"
        finally:
            made.postgres.thaw()
        assert await made.until("SERVING") < NOTICED_SECONDS
        back = await outcomes(made)
        assert {f.code for f in back.values()} <= ANSWERED, back
    assert load.slowest < CALL_SECONDS + LATE_SECONDS
    assert set(load.outcomes) <= {*ANSWERED, "UNAVAILABLE", "DEADLINE_EXCEEDED"}, load.outcomes
