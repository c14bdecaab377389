"""An import that is broken off at random moments and gone on with, as its client does it."""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import grpc.aio

from knowledge.v1.document_pb2 import Document
from knowledge.v1.intake_pb2 import IntakeAck, IntakeSession
from knowledge.v1.knowledge_service_pb2 import (
    ImportDocumentsRequest,
    ImportItem,
    ImportStart,
)
from knowledge.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub

WORDS = [
    "pressure",
    "kidney",
    "sleep",
    "heart",
    "pain",
    "evening",
    "waves",
    "cuff",
    "water",
    "salt",
]


def document_id(number: int) -> str:
    return f"document-{number:05d}"


def text(number: int) -> str:
    dice = random.Random(number)
    return f"Leaflet {number}: {' '.join(dice.choices(WORDS, k=12))}."


@dataclass(slots=True)
class BrokenImport:
    """Brings `documents` documents in one session; `acks` are all that were read, in order."""

    parent: str
    documents: int
    session_id: str
    acks: list[IntakeAck] = field(default_factory=list[IntakeAck])
    resumed_after: list[int] = field(default_factory=list[int])

    async def stream(self, channel: grpc.aio.Channel, until: int | None = None) -> bool:
        """One stream, cut off when `until` acks have been read in all; whether it finished."""
        call: Any = KnowledgeServiceStub(channel).ImportDocuments()
        session = IntakeSession(session_id=self.session_id, acknowledged=len(self.acks))
        start = ImportStart(parent=self.parent, session=session)
        await call.write(ImportDocumentsRequest(start=start))
        started = (await call.read()).started
        self.resumed_after.append(started.resume_after)
        sending = asyncio.create_task(self._send(call, started.resume_after, started.credit))
        try:
            return await self._read(call, until)
        finally:
            call.cancel()
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send(self, call: Any, resume_after: int, credit: int) -> None:
        for number in range(resume_after + 1, self.documents + 1):
            while number > len(self.acks) + credit:  # noqa: ASYNC110 - a condition over two tasks
                await asyncio.sleep(0.001)
            document = Document(title=f"Leaflet {number}", content=text(number))
            item = ImportItem(sequence=number, document_id=document_id(number), document=document)
            await call.write(ImportDocumentsRequest(item=item))
        await call.done_writing()

    async def _read(self, call: Any, until: int | None) -> bool:
        while (answer := await call.read()) is not grpc.aio.EOF:
            if answer.WhichOneof("message") == "finished":
                return True
            for ack in answer.acks.acks:
                assert ack.sequence == len(self.acks) + 1
                self.acks.append(ack)
            if until is not None and len(self.acks) >= until:
                return False
        return False
