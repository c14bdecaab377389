"""ImportDocuments: the stream protocol, what becomes of items, and breaks."""

import asyncio
import hashlib
import random
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import grpc
import grpc.aio
import pytest
from refusal import Refusal, refused, told_by_the_server
from secured import SecuredServer

from knowledge.v1 import audit_service_pb2 as a
from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import intake_pb2 as i
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub

Code = grpc.StatusCode
CREATED, UPDATED = i.INTAKE_STATE_CREATED, i.INTAKE_STATE_UPDATED
UNCHANGED, DUPLICATE = i.INTAKE_STATE_UNCHANGED, i.INTAKE_STATE_DUPLICATE
FAILED = i.INTAKE_STATE_FAILED


def start(parent: str, session_id: str = "", acknowledged: int = 0, **fields: Any) -> Any:
    session = i.IntakeSession(session_id=session_id, acknowledged=acknowledged)
    return k.ImportDocumentsRequest(start=k.ImportStart(parent=parent, session=session, **fields))


def item(sequence: int, document_id: str = "", **fields: Any) -> Any:
    document = d.Document(**({"content": f"text {document_id}"} | fields))
    return k.ImportDocumentsRequest(
        item=k.ImportItem(sequence=sequence, document_id=document_id, document=document)
    )


class Imported:
    """What a whole import answered."""

    def __init__(self, answers: Sequence[k.ImportDocumentsResponse]) -> None:
        kinds = [answer.WhichOneof("message") for answer in answers]
        assert kinds == ["started", *["acks"] * (len(kinds) - 2), "finished"]
        self.started = answers[0].started
        self.acks = [ack for answer in answers[1:-1] for ack in answer.acks.acks]
        self.finished = answers[-1].finished
        self.states = [ack.state for ack in self.acks]


async def import_all(knowledge: Any, messages: Iterable[Any]) -> Imported:
    return Imported([answer async for answer in knowledge.ImportDocuments(iter(messages))])


async def refused_import(knowledge: Any, messages: Iterable[Any]) -> Refusal:
    sent = list(messages)
    return await refused(told_by_the_server(lambda: import_all(knowledge, sent)))


async def names(knowledge: Any, parent: str) -> list[str]:
    """The ids of all documents there, as often as they are there."""
    found: list[str] = []
    request = k.ListDocumentsRequest(parent=parent, page_size=1000)
    while True:
        page = await knowledge.ListDocuments(request)
        found += [document.name.rpartition("/")[2] for document in page.documents]
        request.page_token = page.next_page_token
        if not request.page_token:
            return found


async def test_documents_come_in_each_with_its_ack_and_event(
    knowledge: Any, audit_log: Any, collection: c.Collection
) -> None:
    items = [item(n, f"d{n}", title=f"Title {n}") for n in range(1, 31)]
    done = await import_all(knowledge, [start(collection.name), *items])
    assert [ack.sequence for ack in done.acks] == list(range(1, 31))
    assert done.states == [CREATED] * 30
    assert done.started.resume_after == 0
    assert done.started.credit > 0
    uuid.UUID(done.started.session_id)
    assert (done.finished.last_sequence, done.finished.created_count) == (30, 30)
    stored = await knowledge.GetDocument(k.GetDocumentRequest(name=done.acks[6].name))
    assert (stored.document.title, stored.document.content) == ("Title 7", "text d7")
    assert stored.document.state == d.DOCUMENT_STATE_ACTIVE
    receipt = done.acks[6].receipt
    event = await audit_log.GetAuditEvent(
        a.GetAuditEventRequest(name=f"auditEvents/{receipt.event_id}")
    )
    assert event.event.action == "documents.create"
    assert event.event.leaf_hash == receipt.leaf_hash
    assert list(event.event.resources) == [done.acks[6].name]
    assert len({ack.receipt.event_id for ack in done.acks}) == 30


async def test_an_item_that_breaks_a_rule_fails_alone(knowledge: Any, make_collection: Any) -> None:
    year = c.FilterField(path="metadata.year", type=c.FILTER_FIELD_TYPE_NUMBER)
    collection = await make_collection(filter_fields=[year])
    typed = item(5, "typed")
    typed.item.document.metadata["year"] = "2024"
    items = [
        item(1, "good"),
        item(2, "long", content="x" * 1_000_001),
        item(3, "a/b"),
        item(4, "blank", content=" ", title="t" * 513),
        typed,
        item(6, "last"),
    ]
    done = await import_all(knowledge, [start(collection.name), *items])
    assert done.states == [CREATED, FAILED, FAILED, FAILED, FAILED, CREATED]
    errors = [ack.error for ack in done.acks if ack.state == FAILED]
    assert {(error.code, error.reason) for error in errors} == {(3, "INVALID_FIELD")}
    assert "document.content: 1000001 characters; at most 1000000" in errors[0].message
    assert errors[1].message.startswith("document_id: ")
    assert "document.content: " in errors[2].message
    assert "document.title: 513 characters" in errors[2].message
    assert errors[3].message.startswith("document.metadata.year: ")
    assert not any(ack.HasField("receipt") or ack.name for ack in done.acks if ack.state == FAILED)
    assert sorted(await names(knowledge, collection.name)) == ["good", "last"]
    assert done.finished.failed_count == 4


async def test_duplicates_by_id_or_text_are_reported_and_not_doubled(
    knowledge: Any, collection: c.Collection
) -> None:
    items = [
        item(1, "a", content="one text"),
        item(2, "a", content="another text"),
        item(3, "", content="one text"),
        item(4, "", content="a third text"),
        item(5, "", content="a third text"),
        item(6, "b", content="one text"),
    ]
    done = await import_all(knowledge, [start(collection.name), *items])
    assert done.states == [CREATED, DUPLICATE, DUPLICATE, CREATED, DUPLICATE, CREATED]
    named = [ack.name for ack in done.acks]
    assert named[0] == named[1] == named[2] == f"{collection.name}/documents/a"
    assert named[3] == named[4]
    assert len(await names(knowledge, collection.name)) == 3
    again = await import_all(
        knowledge, [start(collection.name, unique_content=True), item(1, "c", content="one text")]
    )
    assert again.states == [DUPLICATE]
    assert again.finished.duplicate_count == 1


async def test_what_is_there_is_updated_where_it_differs_if_asked(
    knowledge: Any, collection: c.Collection
) -> None:
    first = [start(collection.name), item(1, "same"), item(2, "text"), item(3, "title")]
    await import_all(knowledge, first)
    second = [
        start(collection.name, if_exists=k.IF_EXISTS_UPDATE),
        item(1, "same"),
        item(2, "text", content="a changed text"),
        item(3, "title", title="A changed title"),
        item(4, "title", title="Changed again"),
        item(5, "same", origin=d.ORIGIN_CALLER),
    ]
    done = await import_all(knowledge, second)
    assert done.states == [UNCHANGED, UPDATED, UPDATED, UPDATED, FAILED]
    assert [ack.revision for ack in done.acks] == [1, 2, 2, 3, 0]
    assert done.acks[4].error.reason == "WRONG_STATE"
    name = f"{collection.name}/documents/text"
    text = (await knowledge.GetDocument(k.GetDocumentRequest(name=name))).document
    assert text.content == "a changed text"
    assert text.content_sha256 == hashlib.sha256(b"a changed text").digest()


async def test_the_id_of_a_deleted_document_is_not_free(
    knowledge: Any, collection: c.Collection
) -> None:
    await import_all(knowledge, [start(collection.name), item(1, "gone")])
    await knowledge.DeleteDocument(
        k.DeleteDocumentRequest(name=f"{collection.name}/documents/gone")
    )
    done = await import_all(knowledge, [start(collection.name), item(1, "gone")])
    assert done.states == [FAILED]
    assert done.acks[0].error.reason == "RESOURCE_ALREADY_EXISTS"


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "start"),
        ([item(1, "a")], "start"),
        ([k.ImportDocumentsRequest()], "start"),
        (["start", "start"], "item"),
        (["start", item(2, "a")], "item.sequence"),
        (["start", item(1, "a"), item(1, "b")], "item.sequence"),
        (["start", item(0, "a")], "item.sequence"),
        ([start("collections/a b/c")], "start.parent"),
    ],
)
async def test_a_stream_that_breaks_the_protocol_is_refused(
    knowledge: Any, collection: c.Collection, messages: list[Any], field: str
) -> None:
    sent = [start(collection.name) if message == "start" else message for message in messages]
    refusal = await refused_import(knowledge, sent)
    assert (refusal.code, set(refusal.fields)) == (Code.INVALID_ARGUMENT, {field})


async def test_all_faults_of_a_start_are_named_at_once(
    knowledge: Any, collection: c.Collection
) -> None:
    bad = start(collection.name, "no-uuid", -1)
    bad.start.if_exists = 7
    refusal = await refused_import(knowledge, [bad])
    assert set(refusal.fields) == {
        "start.session.session_id",
        "start.session.acknowledged",
        "start.if_exists",
    }


async def test_a_session_keeps_to_its_start(knowledge: Any, make_collection: Any) -> None:
    one, other, session = await make_collection(), await make_collection(), str(uuid.uuid4())
    await import_all(knowledge, [start(one.name, session), item(1, "a")])
    for changed in (start(other.name, session), start(one.name, session, unique_content=True)):
        refusal = await refused_import(knowledge, [changed])
        assert (refusal.code, set(refusal.fields)) == (Code.INVALID_ARGUMENT, {"start"})


async def test_a_session_that_the_server_does_not_know_is_not_gone_on_with(
    knowledge: Any, collection: c.Collection
) -> None:
    unknown = start(collection.name, str(uuid.uuid4()), acknowledged=5)
    refusal = await refused_import(knowledge, [unknown])
    assert (refusal.code, refusal.reason) == (Code.FAILED_PRECONDITION, "WRONG_STATE")


async def test_acks_that_were_not_read_come_again(knowledge: Any, collection: c.Collection) -> None:
    session = str(uuid.uuid4())
    items = [item(n, f"d{n}") for n in range(1, 8)]
    items[4] = item(5, "d5", title="t" * 513)
    first = await import_all(knowledge, [start(collection.name, session), *items])
    again = await import_all(knowledge, [start(collection.name, session, 3), item(8, "d8")])
    assert again.started.resume_after == 7
    assert again.acks[:4] == first.acks[3:]
    assert [ack.sequence for ack in again.acks] == [4, 5, 6, 7, 8]
    assert (again.finished.created_count, again.finished.failed_count) == (7, 1)


async def test_a_stream_ends_when_another_one_goes_on_with_its_session(
    knowledge: Any, collection: c.Collection
) -> None:
    session = str(uuid.uuid4())
    old = knowledge.ImportDocuments()
    await old.write(start(collection.name, session))
    await old.read()
    done = await import_all(knowledge, [start(collection.name, session), item(1, "new")])
    assert done.states == [CREATED]
    await old.write(item(1, "old"))

    async def read_on() -> None:
        while await old.read() is not grpc.aio.EOF:
            pass

    refusal = await refused(read_on())
    assert (refusal.code, refusal.reason) == (Code.ABORTED, "CONCURRENT_CHANGE")
    assert await names(knowledge, collection.name) == ["new"]


async def test_two_streams_that_bring_the_same_ids_double_nothing(
    knowledge: Any, collection: c.Collection
) -> None:
    ids = [f"d{n}" for n in range(60)]
    orders = [ids, ids[::-1], random.Random(1).sample(ids, len(ids))]
    done = await asyncio.gather(
        *(
            import_all(
                knowledge,
                [start(collection.name), *(item(n, each) for n, each in enumerate(order, 1))],
            )
            for order in orders
        )
    )
    assert sorted(await names(knowledge, collection.name)) == sorted(ids)
    assert sum(each.finished.created_count for each in done) == len(ids)
    assert all(set(each.states) <= {CREATED, DUPLICATE} for each in done)


async def test_nobody_streams_into_a_collection_not_granted(secured_server: SecuredServer) -> None:
    knowledge: Any = KnowledgeServiceStub(secured_server.channel)
    foreign = [start(secured_server.foreign.name)]
    stream = knowledge.ImportDocuments(
        iter(foreign), metadata=secured_server.metadata("confined-writer")
    )

    async def run() -> None:
        async for _ in stream:
            pass

    assert (await refused(run())).code is Code.NOT_FOUND
