"""Brings documents into a collection by a stream: each once, however often it is run."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from uuid import uuid4

import grpc

from knowledge.v1 import knowledge_service_pb2 as pb
from knowledge.v1.collection_pb2 import Collection
from knowledge.v1.config_service_pb2 import GetServerInfoRequest
from knowledge.v1.intake_pb2 import (
    INTAKE_STATE_CREATED,
    INTAKE_STATE_FAILED,
    INTAKE_STATE_UNCHANGED,
    INTAKE_STATE_UPDATED,
    IntakeAck,
    IntakeSession,
)
from knowledged.commands.client import Client, RpcError, status_line
from knowledged.commands.intake_client import IntakeClient
from knowledged.commands.reader import BadInput, Item
from knowledged.errors import Code
from knowledged.names import collection_name

FAILURES_KEPT = 20
# What a message has beside its document: the id and the sequence.
_ROOM = 1_024


class Outcome(Enum):
    """What became of a document."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Failure:
    """A document that is not there: its id or place in the input, and why."""

    where: str
    reason: str


@dataclass(slots=True)
class Report:
    """What became of all documents. `stopped` says why not all were tried."""

    outcomes: Counter[Outcome] = field(default_factory=Counter[Outcome])
    failures: list[Failure] = field(default_factory=list[Failure])
    stopped: str | None = None

    @property
    def complete(self) -> bool:
        return self.stopped is None and not self.outcomes[Outcome.FAILED]

    def add(self, outcome: Outcome, failure: Failure | None = None) -> None:
        self.outcomes[outcome] += 1
        if failure is not None and len(self.failures) < FAILURES_KEPT:
            self.failures.append(failure)


Told = Callable[[Outcome], None]

_OUTCOMES = {
    INTAKE_STATE_CREATED: Outcome.CREATED,
    INTAKE_STATE_UPDATED: Outcome.UPDATED,
    INTAKE_STATE_UNCHANGED: Outcome.UNCHANGED,
    INTAKE_STATE_FAILED: Outcome.FAILED,
}


class Importer:
    """Creates what is missing, updates what differs, leaves alone what is there already."""

    def __init__(self, client: Client, collection: Collection, tell: Told) -> None:
        self._client = client
        self._collection = collection
        self._tell = tell
        self._seen: set[str] = set()
        self._report = Report()

    async def run(self, entries: Iterable[Item | BadInput]) -> Report:
        """Goes through the entries; `tell` hears of each. Only what would refuse all stops it."""
        try:
            messages = self._messages(entries, await self._most_bytes())
            await IntakeClient(self._begin, self._start, messages, self._acked).run()
        except RpcError as refused:
            self._report.stopped = status_line(refused)
        return self._report

    def _begin(self) -> Any:
        return self._client.begin(self._client.knowledge.ImportDocuments)

    def _start(self, session: IntakeSession) -> pb.ImportDocumentsRequest:
        start = pb.ImportStart(
            parent=self._collection.name, session=session, if_exists=pb.IF_EXISTS_UPDATE
        )
        return pb.ImportDocumentsRequest(start=start)

    async def _most_bytes(self) -> int:
        """Of one message: a larger one would end the stream."""
        info = await self._client.call(self._client.config.GetServerInfo, GetServerInfoRequest())
        return info.limits.max_message_bytes

    def _messages(
        self, entries: Iterable[Item | BadInput], most_bytes: int
    ) -> Iterator[pb.ImportDocumentsRequest]:
        for entry in entries:
            if isinstance(entry, BadInput):
                self._fail(entry.where, entry.problem)
            elif entry.document_id in self._seen:
                self._fail(entry.document_id, "its id stands in the input more than once")
            elif (size := entry.document.ByteSize() + _ROOM) > most_bytes:
                self._fail(entry.document_id, f"{size} bytes; a message has at most {most_bytes}")
            else:
                self._seen.add(entry.document_id)
                item = pb.ImportItem(document_id=entry.document_id, document=entry.document)
                yield pb.ImportDocumentsRequest(item=item)

    def _acked(self, message: pb.ImportDocumentsRequest, ack: IntakeAck) -> None:
        if ack.state == INTAKE_STATE_FAILED:
            code = Code(ack.error.code).name
            self._fail(message.item.document_id, f"{code}: {ack.error.message}")
            return
        outcome = _OUTCOMES.get(ack.state, Outcome.UNCHANGED)
        self._report.add(outcome)
        self._tell(outcome)

    def _fail(self, where: str, reason: str) -> None:
        self._report.add(Outcome.FAILED, Failure(where, reason))
        self._tell(Outcome.FAILED)


async def open_collection(client: Client, collection_id: str, *, create: bool) -> Collection:
    """The collection; made with the defaults if it is missing and `create` says so."""
    asked = pb.GetCollectionRequest(name=collection_name(collection_id))
    try:
        return (await client.call(client.knowledge.GetCollection, asked)).collection
    except RpcError as error:
        if not (create and error.code() is grpc.StatusCode.NOT_FOUND):
            raise
    request = pb.CreateCollectionRequest(collection_id=collection_id, request_id=str(uuid4()))
    return (await client.call(client.knowledge.CreateCollection, request)).collection


async def count_waiting(client: Client, collection: Collection) -> int:
    """Documents whose text cannot be searched yet; counted up to 1,000."""
    request = pb.ListDocumentsRequest(
        parent=collection.name, page_size=1_000, filter="state = PENDING"
    )
    return len((await client.call(client.knowledge.ListDocuments, request)).documents)
