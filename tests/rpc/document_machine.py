"""A server and a plain model of it, put through the same steps; see test_document_model.py."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import vector_service_pb2 as v

Code = grpc.StatusCode
IDS = st.sampled_from(["one", "two", "three"])
TITLES = st.sampled_from(["", "first", "second"])
CONTENTS = st.sampled_from(
    [
        "Asthma narrows the airways.",
        "Asthma narrows the airways, most of all at night.",
        "A broken arm. 🩺",
        "A broken arm. 🩺\n\nAsthma narrows the airways.",
    ]
)
SIDES = st.sampled_from([0, 0, 0, 1])
LIVE, DELETED = False, True
PICKS = st.integers(0, 2**16)


@dataclass(frozen=True, slots=True)
class Revision:
    """What a document was at a revision, and since when."""

    title: str
    content: str
    deleted: bool = False
    since: datetime | None = None


@dataclass(slots=True)
class Model:
    """Two collections: documents by id, each the list of its revisions; and whose the alias is."""

    documents: list[dict[str, list[Revision]]] = field(default_factory=lambda: [{}, {}])
    alias: int = 0


@dataclass(frozen=True, slots=True)
class World:
    """The server: its stubs, the loop they live in, two collections, an alias of the first."""

    loop: asyncio.AbstractEventLoop
    knowledge: Any
    vectors: Any
    collections: tuple[c.Collection, c.Collection]
    alias: str


def machine_of(world: World) -> type[RuleBasedStateMachine]:
    """The machine for this server."""
    return type("DocumentMachine", (DocumentMachine,), {"world": world})


class DocumentMachine(RuleBasedStateMachine):
    """Every rule does a step on the server and on the model, and compares what came of it."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.touched = 0

    @initialize(title=TITLES, contents=st.tuples(CONTENTS, CONTENTS))
    def begin(self, title: str, contents: tuple[str, str]) -> None:
        """Two documents are there from the start, so that most steps find one."""
        self.move_alias(0)
        given = dict(zip(("one", "two"), contents, strict=True))
        requests = [
            k.CreateDocumentRequest(
                document_id=document_id, document=d.Document(title=title, content=content)
            )
            for document_id, content in given.items()
        ]
        batch = k.BatchCreateDocumentsRequest(parent=self.parent(0, 0), requests=requests)
        answer = self.done("BatchCreateDocuments", batch)
        for (document_id, content), each in zip(given.items(), answer.responses, strict=True):
            self.model.documents[0][document_id] = []
            self.append(0, document_id, Revision(title, content), each.document)

    @rule(side=SIDES)
    def move_alias(self, side: int) -> None:
        to = c.Collection(name=self.world.collections[side].name, aliases=[self.world.alias])
        mask = FieldMask(paths=["aliases"])
        self.done(
            "UpdateCollection",
            k.UpdateCollectionRequest(collection=to, update_mask=mask, take_aliases=True),
        )
        self.model.alias = side

    @rule(side=SIDES, by=PICKS, document_id=IDS, title=TITLES, content=CONTENTS)
    def create(self, side: int, by: int, document_id: str, title: str, content: str) -> None:
        request = k.CreateDocumentRequest(
            parent=self.parent(side, by),
            document_id=document_id,
            document=d.Document(title=title, content=content),
        )
        if document_id in self.model.documents[side]:
            self.refused("CreateDocument", request, Code.ALREADY_EXISTS)
            return
        made = self.done("CreateDocument", request).document
        self.model.documents[side][document_id] = []
        self.append(side, document_id, Revision(title, content), made)

    @rule(by=PICKS, pick=PICKS, title=TITLES)
    def retitle(self, by: int, pick: int, title: str) -> None:
        side, document_id = self.picked(pick, LIVE)
        self.update(side, by, document_id, ["title"], {"title": title})

    @rule(by=PICKS, pick=PICKS, title=TITLES, content=CONTENTS)
    def rewrite(self, by: int, pick: int, title: str, content: str) -> None:
        side, document_id = self.picked(pick, LIVE)
        values = {"title": title, "content": content}
        self.update(side, by, document_id, ["title", "content"], values)

    def update(
        self, side: int, by: int, document_id: str, paths: list[str], values: dict[str, str]
    ) -> None:
        document = d.Document(name=self.name(side, by, document_id), **values)
        mask = FieldMask(paths=paths)
        request = k.UpdateDocumentRequest(document=document, update_mask=mask)
        if not self.lives(side, document_id, "UpdateDocument", request):
            return
        answer = self.done("UpdateDocument", request)
        now = self.current(side, document_id)
        self.append(side, document_id, replace(now, **values), answer.document)

    @rule(by=PICKS, pick=PICKS)
    def update_with_a_stale_etag(self, by: int, pick: int) -> None:
        side, document_id = self.picked(pick, LIVE)
        document = d.Document(name=self.name(side, by, document_id), title="never")
        request = k.UpdateDocumentRequest(document=document, etag="0-stale")
        if self.lives(side, document_id, "UpdateDocument", request):
            self.refused("UpdateDocument", request, Code.ABORTED)

    @rule(by=PICKS, pick=PICKS)
    def delete(self, by: int, pick: int) -> None:
        side, document_id = self.picked(pick, LIVE)
        request = k.DeleteDocumentRequest(name=self.name(side, by, document_id))
        now = self.current(side, document_id)
        if now is None or now.deleted:
            self.refused("DeleteDocument", request, Code.NOT_FOUND)
            return
        answer = self.done("DeleteDocument", request)
        self.append(side, document_id, replace(now, deleted=True), answer.document)

    @rule(by=PICKS, pick=PICKS)
    def undelete(self, by: int, pick: int) -> None:
        side, document_id = self.picked(pick, DELETED)
        request = k.UndeleteDocumentRequest(name=self.name(side, by, document_id))
        now = self.current(side, document_id)
        if now is None or not now.deleted:
            code = Code.NOT_FOUND if now is None else Code.ALREADY_EXISTS
            self.refused("UndeleteDocument", request, code)
            return
        answer = self.done("UndeleteDocument", request)
        self.append(side, document_id, replace(now, deleted=False), answer.document)

    @rule(by=PICKS, pick=PICKS, to=PICKS)
    def rollback(self, by: int, pick: int, to: int) -> None:
        side, document_id = self.picked(pick, LIVE)
        past = self.model.documents[side].get(document_id, [])
        revision = to % (len(past) + 1) + 1
        name = self.name(side, by, document_id)
        request = k.RollbackDocumentRequest(name=name, revision=revision)
        if not self.lives(side, document_id, "RollbackDocument", request):
            return
        if revision > len(past):
            self.refused("RollbackDocument", request, Code.NOT_FOUND)
            return
        answer = self.done("RollbackDocument", request)
        then = replace(past[revision - 1], deleted=False)
        self.append(side, document_id, then, answer.document)

    @rule(by=PICKS, pick=PICKS, only_deleted=st.booleans(), force=st.booleans())
    def purge(self, by: int, pick: int, only_deleted: bool, force: bool) -> None:
        side, document_id = self.picked(pick, DELETED if only_deleted else LIVE)
        filter = f'document_id = "{document_id}"' + (" delete_time:*" if only_deleted else "")
        parent = self.parent(side, by)
        request = k.PurgeDocumentsRequest(parent=parent, filter=filter, force=force)
        now = self.current(side, document_id)
        matches = now is not None and (now.deleted or not only_deleted)
        assert self.done("PurgeDocuments", request).purge_count == matches
        if matches and force:
            del self.model.documents[side][document_id]

    @rule(side=SIDES, by=PICKS, title=TITLES)
    def retitle_all_in_a_batch(self, side: int, by: int, title: str) -> None:
        live = self.live(side)
        requests = [
            k.UpdateDocumentRequest(
                document=d.Document(name=self.name(side, by, document_id), title=title),
                update_mask=FieldMask(paths=["title"]),
            )
            for document_id in live
        ]
        if not live:
            return
        batch = k.BatchUpdateDocumentsRequest(parent=self.parent(side, by), requests=requests)
        answer = self.done("BatchUpdateDocuments", batch)
        for (document_id, now), each in zip(live.items(), answer.responses, strict=True):
            self.append(side, document_id, replace(now, title=title), each.document)

    @rule(side=SIDES, by=PICKS, pick=PICKS)
    def read_as_of(self, side: int, by: int, pick: int) -> None:
        for document_id, past in self.model.documents[side].items():
            place = pick % len(past)
            self.compare(side, by, document_id, past[place], as_of=stamp(past[place]))
            before = stamp(past[place], -1)
            if place:
                self.compare(side, by, document_id, past[place - 1], as_of=before)
            else:
                name = self.name(side, by, document_id)
                request = k.GetDocumentRequest(name=name, as_of=before)
                self.refused("GetDocument", request, Code.NOT_FOUND)

    @rule(side=SIDES, by=PICKS)
    def search(self, side: int, by: int) -> None:
        request = v.SearchRequest(collection=self.parent(side, by), text="asthma", limit=100)
        hits = self.run(self.world.vectors.Search, request).hits
        found = {hit.document.name.rsplit("/", 1)[-1]: hit for hit in hits}
        live = self.live(side)
        assert found.keys() == live.keys()
        for document_id, hit in found.items():
            assert hit.document.title == live[document_id].title
            assert live[document_id].content.startswith(hit.chunk.content)

    @invariant()
    def every_document_is_as_the_model_has_it(self) -> None:
        request = k.ListDocumentsRequest(
            parent=self.world.collections[self.touched].name,
            show_deleted=True,
            order_by="document_id",
            view=d.VIEW_FULL,
        )
        listed = self.done("ListDocuments", request).documents
        assert {each.name.rsplit("/", 1)[-1]: (seen(each), each.revision) for each in listed} == {
            document_id: (past[-1], len(past))
            for document_id, past in self.model.documents[self.touched].items()
        }

    def teardown(self) -> None:
        for side, collection in enumerate(self.world.collections):
            self.touched = side
            if self.model.documents[side]:
                self.every_revision_is_as_the_model_has_it()
                self.search(side, 0)
            purge = k.PurgeDocumentsRequest(
                parent=collection.name, filter="create_time:*", force=True
            )
            self.done("PurgeDocuments", purge)

    def every_revision_is_as_the_model_has_it(self) -> None:
        for document_id, past in self.model.documents[self.touched].items():
            parent = self.name(self.touched, 0, document_id)
            request = k.ListDocumentRevisionsRequest(parent=parent, order_by="revision")
            listed = self.done("ListDocumentRevisions", request).revisions
            assert [seen(each.document) for each in listed] == [
                replace(revision, content="") for revision in past
            ]
            for number, revision in enumerate(past, 1):
                self.compare(self.touched, 0, document_id, revision, revision=number)

    def picked(self, pick: int, wanted: bool) -> tuple[int, str]:
        """A document in the state that is wanted, or, one time in eight, any name."""
        there = [
            (side, document_id)
            for side, documents in enumerate(self.model.documents)
            for document_id, past in documents.items()
            if past[-1].deleted is wanted
        ]
        if pick % 8 != 7 and there:
            return there[pick // 8 % len(there)]
        return pick // 8 % 2, ("one", "two", "three")[pick // 16 % 3]

    def parent(self, side: int, by: int) -> str:
        """The collection's name, or its alias."""
        self.touched = side
        by_alias = self.model.alias == side and by % 2
        return f"collections/{self.world.alias}" if by_alias else self.world.collections[side].name

    def name(self, side: int, by: int, document_id: str) -> str:
        return f"{self.parent(side, by)}/documents/{document_id}"

    def current(self, side: int, document_id: str) -> Any:
        past = self.model.documents[side].get(document_id)
        return past[-1] if past else None

    def live(self, side: int) -> dict[str, Revision]:
        current = {i: past[-1] for i, past in self.model.documents[side].items()}
        return {i: revision for i, revision in current.items() if not revision.deleted}

    def lives(self, side: int, document_id: str, method: str, request: Any) -> bool:
        """Whether it does; if not, the request must be refused."""
        now = self.current(side, document_id)
        if now is not None and not now.deleted:
            return True
        self.refused(method, request, Code.NOT_FOUND if now is None else Code.FAILED_PRECONDITION)
        return False

    def append(self, side: int, document_id: str, revision: Revision, answer: d.Document) -> None:
        past = self.model.documents[side][document_id]
        at = replace(revision, since=instant(answer.update_time))
        assert (seen(answer), answer.revision) == (replace(at, content=""), len(past) + 1)
        assert not past or stamp(at).ToNanoseconds() > stamp(past[-1]).ToNanoseconds()
        past.append(at)

    def compare(
        self, side: int, by: int, document_id: str, expected: Revision, **moment: Any
    ) -> None:
        request = k.GetDocumentRequest(name=self.name(side, by, document_id), **moment)
        assert seen(self.done("GetDocument", request).document) == expected

    def done(self, method: str, request: Any) -> Any:
        return self.run(getattr(self.world.knowledge, method), request)

    def refused(self, method: str, request: Any, code: grpc.StatusCode) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            self.done(method, request)
        assert caught.value.code() is code

    def run(self, call: Callable[[Any], Awaitable[Any]], request: Any) -> Any:
        """Calls in the loop of the stubs; hypothesis runs in a thread of its own."""

        async def called() -> Any:
            return await call(request)

        return asyncio.run_coroutine_threadsafe(called(), self.world.loop).result(60)


def seen(document: d.Document) -> Revision:
    """What the model knows of a document."""
    deleted = document.HasField("delete_time")
    return Revision(document.title, document.content, deleted, instant(document.update_time))


def instant(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(UTC)


def stamp(revision: Revision, microseconds: int = 0) -> Timestamp:
    """When the revision began, and so much later."""
    made = Timestamp()
    assert revision.since is not None
    made.FromDatetime(revision.since + timedelta(microseconds=microseconds))
    return made
