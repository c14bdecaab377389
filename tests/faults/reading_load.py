"""Readers who read, search and ask for what is missing, and keep what each answer proved."""

import asyncio
import random
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any

import grpc.aio

from caller import Caller
from import_load import RETRIED
from knowledge.v1.knowledge_service_pb2 import GetDocumentRequest, ListDocumentsRequest
from knowledge.v1.vector_service_pb2 import SearchRequest

_CALLS_AT_ONCE = 4
_CALL_SECONDS = 10.0


@dataclass(slots=True)
class Readers:
    """Read the documents `document-0000` and on, there or not, until they are cancelled."""

    collection: str
    documents: int
    seed: int
    asked: int = 0
    receipts: dict[str, bytes] = field(default_factory=dict[str, bytes])
    """The leaf hash of every answered read, by its event id."""
    refused: set[str] = field(default_factory=set[str])
    """The call ids of what was NOT_FOUND."""
    unexpected: list[str] = field(default_factory=list[str])

    async def run(self, client: Caller) -> None:
        chance = random.Random(self.seed)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_CALLS_AT_ONCE):
                tasks.create_task(self._read_on(client, chance))

    async def _read_on(self, client: Caller, chance: random.Random) -> None:
        while True:
            try:
                await self._read(self._call(client, chance))
            except grpc.aio.AioRpcError as error:
                await self._failed(error)

    def _call(self, client: Caller, chance: random.Random) -> Any:
        self.asked += 1
        number = chance.randrange(self.documents)
        name = f"{self.collection}/documents/document-{number:04d}"
        match chance.randrange(4):
            case 0:
                request = SearchRequest(collection=self.collection, text=f"fever {number}")
                return client.vectors.Search(request, timeout=_CALL_SECONDS)
            case 1:
                listing = ListDocumentsRequest(parent=self.collection, page_size=20)
                return client.knowledge.ListDocuments(listing, timeout=_CALL_SECONDS)
            case _:
                return client.knowledge.GetDocument(
                    GetDocumentRequest(name=name), timeout=_CALL_SECONDS
                )

    async def _read(self, call: Awaitable[Any] | Any) -> None:
        await call
        trailing = dict(await call.trailing_metadata())
        self.receipts[trailing["x-audit-event-id"]] = trailing["x-audit-leaf-hash-bin"]

    async def _failed(self, error: grpc.aio.AioRpcError) -> None:
        trailing = dict(error.trailing_metadata() or ())
        if error.code() is grpc.StatusCode.NOT_FOUND:
            self.refused.add(str(trailing["x-call-id"]))
        elif error.code().name in RETRIED:
            await asyncio.sleep(0.05)
        else:
            self.unexpected.append(f"{error.code().name}: {error.details()}")
