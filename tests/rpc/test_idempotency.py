"""request_id: a repeat of a mutation gets the first answer and changes nothing."""

import asyncio
import uuid
from collections import Counter
from typing import Any

import grpc
import pytest
from refusal import refused

from knowledge.v1 import audit_service_pb2 as a
from knowledge.v1 import chunk_pb2 as ch
from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import vector_service_pb2 as v

Code = grpc.StatusCode


def new_request_id() -> str:
    return str(uuid.uuid4())


def creation(collection: c.Collection, request_id: str, **fields: Any) -> k.CreateDocumentRequest:
    document = d.Document(**({"content": "a text"} | fields))
    return k.CreateDocumentRequest(parent=collection.name, document=document, request_id=request_id)


async def events_of(audit_log: Any, collection: c.Collection, action: str) -> list[Any]:
    request = a.ListAuditEventsRequest(
        filter=f'collection_uid = "{collection.uid}" AND action = "{action}" AND outcome = DONE',
        page_size=1000,
    )
    return list((await audit_log.ListAuditEvents(request)).events)


async def test_a_repeated_creation_gets_the_first_answer(
    knowledge: Any, audit_log: Any, collection: c.Collection
) -> None:
    request = creation(collection, new_request_id())
    first = await knowledge.CreateDocument(request)
    assert await knowledge.CreateDocument(request) == first
    listed = await knowledge.ListDocuments(k.ListDocumentsRequest(parent=collection.name))
    assert [document.uid for document in listed.documents] == [first.document.uid]
    (event,) = await events_of(audit_log, collection, "documents.create")
    assert event.event_id == first.receipt.event_id


async def test_a_request_id_is_the_same_in_upper_case(
    knowledge: Any, collection: c.Collection
) -> None:
    request_id = new_request_id()
    first = await knowledge.CreateDocument(creation(collection, request_id))
    again = creation(collection, request_id.upper())
    refusal = await refused(knowledge.CreateDocument(again))
    assert refusal.reason == "REQUEST_ID_REUSED"
    assert first.document.uid


async def test_without_a_request_id_every_call_counts(
    knowledge: Any, collection: c.Collection
) -> None:
    request = creation(collection, "")
    first, second = [await knowledge.CreateDocument(request) for _ in range(2)]
    assert first.document.uid != second.document.uid


@pytest.mark.parametrize(
    "change",
    [
        {"content": "another text"},
        {"title": "another title"},
        {"labels": {"a": "b"}},
        {"origin": d.ORIGIN_SERVER},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_a_request_id_with_another_body_is_refused(
    knowledge: Any, collection: c.Collection, change: dict[str, Any]
) -> None:
    request_id = new_request_id()
    await knowledge.CreateDocument(creation(collection, request_id))
    refusal = await refused(knowledge.CreateDocument(creation(collection, request_id, **change)))
    assert (refusal.code, refusal.reason) == (Code.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_the_order_of_a_map_makes_no_other_body(
    knowledge: Any, collection: c.Collection
) -> None:
    request_id = new_request_id()
    labels = {f"key-{i}": str(i) for i in range(20)}
    first = await knowledge.CreateDocument(creation(collection, request_id, labels=labels))
    turned = dict(reversed(labels.items()))
    again = await knowledge.CreateDocument(creation(collection, request_id, labels=turned))
    assert again == first


async def test_one_request_id_serves_different_methods(
    knowledge: Any, collection: c.Collection
) -> None:
    request_id = new_request_id()
    made = (await knowledge.CreateDocument(creation(collection, request_id))).document
    answer = await knowledge.DeleteDocument(
        k.DeleteDocumentRequest(name=made.name, request_id=request_id)
    )
    assert answer.document.HasField("delete_time")


async def test_a_refused_request_does_not_use_up_its_id(
    knowledge: Any, collection: c.Collection
) -> None:
    request_id = new_request_id()
    await refused(knowledge.CreateDocument(creation(collection, request_id, content="")))
    answer = await knowledge.CreateDocument(creation(collection, request_id))
    assert answer.document.revision == 1


async def test_a_request_id_that_is_no_uuid_is_refused(
    knowledge: Any, collection: c.Collection
) -> None:
    refusal = await refused(knowledge.CreateDocument(creation(collection, "first-try")))
    assert (refusal.code, list(refusal.fields)) == (Code.INVALID_ARGUMENT, ["request_id"])


async def test_a_repeated_update_makes_one_revision(
    knowledge: Any, collection: c.Collection
) -> None:
    made = (await knowledge.CreateDocument(creation(collection, ""))).document
    request = k.UpdateDocumentRequest(
        document=d.Document(name=made.name, title="first"), request_id=new_request_id()
    )
    first = await knowledge.UpdateDocument(request)
    other = k.UpdateDocumentRequest(document=d.Document(name=made.name, title="second"))
    await knowledge.UpdateDocument(other)
    again = await knowledge.UpdateDocument(request)
    assert again == first
    now = await knowledge.GetDocument(k.GetDocumentRequest(name=made.name))
    assert (now.document.revision, now.document.title) == (3, "second")


async def test_a_repeated_deletion_gets_the_first_answer(
    knowledge: Any, collection: c.Collection
) -> None:
    made = (await knowledge.CreateDocument(creation(collection, ""))).document
    request = k.DeleteDocumentRequest(name=made.name, request_id=new_request_id())
    first = await knowledge.DeleteDocument(request)
    assert await knowledge.DeleteDocument(request) == first


async def test_repeats_of_collection_calls_get_the_first_answer(knowledge: Any) -> None:
    creation = k.CreateCollectionRequest(request_id=new_request_id())
    first = await knowledge.CreateCollection(creation)
    assert await knowledge.CreateCollection(creation) == first
    update = k.UpdateCollectionRequest(
        collection=c.Collection(name=first.collection.name, title="changed"),
        request_id=new_request_id(),
    )
    changed = await knowledge.UpdateCollection(update)
    assert await knowledge.UpdateCollection(update) == changed
    deletion = k.DeleteCollectionRequest(name=first.collection.name, request_id=new_request_id())
    deleted = await knowledge.DeleteCollection(deletion)
    assert await knowledge.DeleteCollection(deletion) == deleted


async def test_repeats_of_chunk_calls_get_the_first_answer(
    knowledge: Any, vectors: Any, collection: c.Collection
) -> None:
    caller = creation(collection, "", content="", origin=d.ORIGIN_CALLER)
    made = (await knowledge.CreateDocument(caller)).document
    upsert = v.UpsertChunksRequest(
        parent=made.name,
        chunks=[ch.Chunk(chunk_id="x", content="a text")],
        mode=v.WRITE_MODE_INSERT_ONLY,
        request_id=new_request_id(),
    )
    first = await vectors.UpsertChunks(upsert)
    assert await vectors.UpsertChunks(upsert) == first
    deletion = v.DeleteChunkRequest(name=f"{made.name}/chunks/x", request_id=new_request_id())
    deleted = await vectors.DeleteChunk(deletion)
    assert await vectors.DeleteChunk(deletion) == deleted


async def test_480_racing_copies_of_60_requests_leave_60_documents_and_60_events(
    knowledge: Any, audit_log: Any, collection: c.Collection
) -> None:
    requests = [creation(collection, new_request_id(), content=f"text {i}") for i in range(60)]
    answers = await asyncio.gather(*(knowledge.CreateDocument(r) for r in requests * 8))
    for copies in zip(*(answers[i : i + 60] for i in range(0, 480, 60)), strict=True):
        assert len({each.SerializeToString(deterministic=True) for each in copies}) == 1
    listed = await knowledge.ListDocuments(
        k.ListDocumentsRequest(parent=collection.name, page_size=1000)
    )
    assert len(listed.documents) == 60
    events = await events_of(audit_log, collection, "documents.create")
    assert {e.event_id for e in events} == {answer.receipt.event_id for answer in answers}
    written = Counter(name for event in events for name in event.resources)
    assert written == Counter(document.name for document in listed.documents)


async def test_racing_copies_of_an_update_make_one_revision(
    knowledge: Any, audit_log: Any, collection: c.Collection
) -> None:
    made = (await knowledge.CreateDocument(creation(collection, ""))).document
    request = k.UpdateDocumentRequest(
        document=d.Document(name=made.name, content="changed"), request_id=new_request_id()
    )
    answers = await asyncio.gather(*(knowledge.UpdateDocument(request) for _ in range(20)))
    assert {answer.document.revision for answer in answers} == {2}
    (event,) = await events_of(audit_log, collection, "documents.update")
    assert {answer.receipt.event_id for answer in answers} == {event.event_id}


async def test_racing_creations_of_one_id_leave_one(
    knowledge: Any, audit_log: Any, collection: c.Collection
) -> None:
    request = creation(collection, "")
    request.document_id = "the-one"
    outcomes = await asyncio.gather(
        *(knowledge.CreateDocument(request) for _ in range(20)), return_exceptions=True
    )
    codes = Counter(
        outcome.code() if isinstance(outcome, grpc.aio.AioRpcError) else Code.OK
        for outcome in outcomes
    )
    assert codes == {Code.OK: 1, Code.ALREADY_EXISTS: 19}
    assert len(await events_of(audit_log, collection, "documents.create")) == 1


async def test_racing_copies_that_carry_an_etag_get_one_answer(
    knowledge: Any, collection: c.Collection
) -> None:
    """Once the first is through, the etag is stale: the others must not stumble over that."""
    made = (await knowledge.CreateDocument(creation(collection, ""))).document
    request = k.UpdateDocumentRequest(
        document=d.Document(name=made.name, title="changed"),
        etag=made.etag,
        request_id=new_request_id(),
    )
    answers = await asyncio.gather(*(knowledge.UpdateDocument(request) for _ in range(20)))
    assert {answer.document.revision for answer in answers} == {2}
    assert len({answer.receipt.event_id for answer in answers}) == 1
