"""An import as a client does it: again and again until every document is acknowledged.

Ids and request_ids follow from the document's number, so that a second run changes nothing.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
from google.protobuf.field_mask_pb2 import FieldMask

from caller import Caller, request_id
from knowledge.v1.document_pb2 import Document
from knowledge.v1.knowledge_service_pb2 import DeleteDocumentRequest, UpdateDocumentRequest

_CALLS_AT_ONCE = 8
_CALL_SECONDS = 10.0
# What a caller may read while a server dies and another starts; all else is a fault.
RETRIED = {"UNAVAILABLE", "CANCELLED", "DEADLINE_EXCEEDED"}


@dataclass(slots=True)
class Import:
    """Imports `documents` documents: every third is then updated, every seventh deleted."""

    collection: str
    documents: int
    receipts: dict[str, str] = field(default_factory=dict[str, str])
    """The event id of every acknowledged mutation, by its request_id."""
    unexpected: list[str] = field(default_factory=list[str])

    @property
    def mutations(self) -> int:
        numbers = range(self.documents)
        return len(numbers) + sum(_is_updated(n) + _is_deleted(n) for n in numbers)

    async def run(self, client: Caller) -> None:
        """Does all of it, whatever was done before."""
        await self._all(client, range(self.documents))

    async def _all(self, client: Caller, numbers: Iterable[int]) -> None:
        waiting = iter(numbers)

        async def work() -> None:
            for number in waiting:
                await self._document(client, number)

        await asyncio.gather(*(work() for _ in range(_CALLS_AT_ONCE)))

    async def _document(self, client: Caller, number: int) -> None:
        document_id = f"document-{number:04d}"
        name = f"{self.collection}/documents/{document_id}"
        await self._acknowledged(
            request_id("create", self.collection, document_id),
            lambda: client.create_document(
                self.collection, document_id, text(number), _CALL_SECONDS
            ),
        )
        if _is_updated(number):
            await self._acknowledged(request_id("update", name), lambda: _update(client, name))
        if _is_deleted(number):
            await self._acknowledged(request_id("delete", name), lambda: _delete(client, name))

    async def _acknowledged(self, request: str, call: Callable[[], Awaitable[Any]]) -> None:
        """Calls until there is an answer; a repeat must have the receipt of the first one."""
        while True:
            try:
                event_id = (await call()).receipt.event_id
            except grpc.aio.AioRpcError as error:
                if error.code().name not in RETRIED:
                    self.unexpected.append(f"{error.code().name}: {error.details()}")
                    return
                await asyncio.sleep(0.05)
            else:
                first = self.receipts.setdefault(request, event_id)
                if first != event_id:
                    self.unexpected.append(f"another receipt for the request {request}")
                return


async def _update(client: Caller, name: str) -> Any:
    request = UpdateDocumentRequest(
        document=Document(name=name, content=text(len(name), paragraphs=3)),
        update_mask=FieldMask(paths=["content"]),
        request_id=request_id("update", name),
    )
    return await client.knowledge.UpdateDocument(
        request, timeout=_CALL_SECONDS, metadata=client.headers
    )


async def _delete(client: Caller, name: str) -> Any:
    request = DeleteDocumentRequest(name=name, request_id=request_id("delete", name))
    return await client.knowledge.DeleteDocument(
        request, timeout=_CALL_SECONDS, metadata=client.headers
    )


def _is_updated(number: int) -> bool:
    return number % 3 == 0


def _is_deleted(number: int) -> bool:
    return number % 7 == 0


def text(number: int, paragraphs: int | None = None) -> str:
    """A text of its own for each number; every fifth has more chunks than are embedded at once."""
    random_words = random.Random(number)
    count = paragraphs or (12 if number % 5 == 0 else 1)
    return "\n\n".join(_paragraph(random_words, n) for n in range(count))


def _paragraph(random_words: random.Random, number: int) -> str:
    words = [
        "fever",
        "cough",
        "pain",
        "liver",
        "heart",
        "acute",
        "chronic",
        "therapy",
        "dose",
        "onset",
    ]
    return f"Part {number}: " + " ".join(random_words.choices(words, k=40)) + "."
