"""Brings documents into a collection: several at once, and each once, however often it is run."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from uuid import UUID, uuid4, uuid5

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Value

from knowledge.v1 import knowledge_service_pb2 as pb
from knowledge.v1.collection_pb2 import Collection
from knowledge.v1.document_pb2 import Document
from knowledged.commands.client import Client, RpcError, status_line
from knowledged.commands.reader import BadInput, Item
from knowledged.names import collection_name

# Enough texts of like length for the batches of the embedding model; more is not faster.
CALLS_AT_ONCE = 32
# So many long documents at once wait long for their vectors.
_TIMEOUT_SECONDS = 600.0
FAILURES_KEPT = 20
_IDS_A_LOOKUP = 500
_COMPARED = ("title", "mime_type", "source_uri", "metadata", "labels", "subject_ids")
# What would refuse every other document, too.
_FINAL = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
}


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
Stored = Document | None
# Documents to write, each with what is there of it; None says that there are no more.
Queue = asyncio.Queue[tuple[Item, Stored] | None]


class Importer:
    """Creates what is missing, updates what differs, leaves alone what is there already."""

    def __init__(
        self,
        client: Client,
        collection: Collection,
        tell: Told,
        calls_at_once: int = CALLS_AT_ONCE,
    ) -> None:
        self._client = client
        self._collection = collection
        self._tell = tell
        self._calls_at_once = calls_at_once
        self._seen: set[str] = set()
        self._report = Report()

    async def run(self, entries: Iterable[Item | BadInput]) -> Report:
        """Goes through the entries; `tell` hears of each. Only what would refuse all stops it."""
        queue = Queue(2 * self._calls_at_once)
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self._calls_at_once):
                    tasks.create_task(self._work(queue))
                await self._feed(queue, entries)
        except* RpcError as refused:
            self._report.stopped = status_line(_first(refused))
        return self._report

    async def _feed(self, queue: Queue, entries: Iterable[Item | BadInput]) -> None:
        for items in _blocks(self._accepted(entries)):
            stored = await self._stored([item.document_id for item in items])
            for item in items:
                await self._sort(queue, item, stored.get(item.document_id))
        for _ in range(self._calls_at_once):
            await queue.put(None)

    def _accepted(self, entries: Iterable[Item | BadInput]) -> Iterator[Item]:
        for entry in entries:
            if isinstance(entry, BadInput):
                self._fail(entry.where, entry.problem)
            elif entry.document_id in self._seen:
                self._fail(entry.document_id, "its id stands in the input more than once")
            else:
                self._seen.add(entry.document_id)
                yield entry

    async def _sort(self, queue: Queue, item: Item, stored: Stored) -> None:
        if stored is not None and stored.HasField("delete_time"):
            self._fail(item.document_id, "it was deleted, and its id is not free again")
        elif stored is not None and _same(item.document, stored):
            self._done(Outcome.UNCHANGED)
        else:
            await queue.put((item, stored))

    async def _stored(self, document_ids: Sequence[str]) -> dict[str, Document]:
        """What is there of these, by id, without content; deleted ones too."""
        ids = Value()
        ids.list_value.extend(document_ids)
        request = pb.ListDocumentsRequest(
            parent=self._collection.name,
            page_size=len(document_ids),
            filter="document_id = @ids",
            filter_values={"ids": ids},
            show_deleted=True,
        )
        found: dict[str, Document] = {}
        while True:
            page = await self._client.call(self._client.knowledge.ListDocuments, request)
            found |= {document.name.rpartition("/")[2]: document for document in page.documents}
            request.page_token = page.next_page_token
            if not request.page_token:
                return found

    async def _work(self, queue: Queue) -> None:
        while (taken := await queue.get()) is not None:
            item, stored = taken
            try:
                self._done(await self._bring(item, stored))
            except RpcError as error:
                if error.code() in _FINAL:
                    raise
                self._fail(item.document_id, status_line(error))

    async def _bring(self, item: Item, stored: Stored) -> Outcome:
        knowledge = self._client.knowledge
        if stored is None:
            request = self._creation(item)
            await self._client.call(knowledge.CreateDocument, request, _TIMEOUT_SECONDS)
            return Outcome.CREATED
        change = self._update(item, stored)
        await self._client.call(knowledge.UpdateDocument, change, _TIMEOUT_SECONDS)
        return Outcome.UPDATED

    def _creation(self, item: Item) -> pb.CreateDocumentRequest:
        return pb.CreateDocumentRequest(
            parent=self._collection.name,
            document=item.document,
            document_id=item.document_id,
            request_id=self._request_id(item, ""),
        )

    def _update(self, item: Item, stored: Document) -> pb.UpdateDocumentRequest:
        document = Document(name=stored.name)
        document.MergeFrom(item.document)
        return pb.UpdateDocumentRequest(
            document=document,
            update_mask=FieldMask(paths=["*"]),
            etag=stored.etag,
            request_id=self._request_id(item, stored.etag),
        )

    def _request_id(self, item: Item, etag: str) -> str:
        """The same for the same step, in every run: from this revision to this document."""
        body = item.document.SerializeToString(deterministic=True)
        step = f"{item.document_id}\n{etag}\n{hashlib.sha256(body).hexdigest()}"
        return str(uuid5(UUID(self._collection.uid), step))

    def _done(self, outcome: Outcome) -> None:
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


def _same(wanted: Document, stored: Document) -> bool:
    digest = hashlib.sha256(wanted.content.encode()).digest()
    return digest == stored.content_sha256 and all(
        getattr(wanted, name) == getattr(stored, name) for name in _COMPARED
    )


def _blocks(items: Iterable[Item]) -> Iterator[list[Item]]:
    remaining = iter(items)
    while block := list(islice(remaining, _IDS_A_LOOKUP)):
        yield block


def _first(group: BaseExceptionGroup[RpcError]) -> RpcError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
