"""Reads, refusals and failures: each is in the audit log before its answer is read."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import grpc
import grpc.aio
import numpy as np
import pytest
import pytest_asyncio
from refusal import refused
from secured import SecuredServer

from knowledge.v1 import audit_event_pb2 as e
from knowledge.v1 import audit_service_pb2 as a
from knowledge.v1 import chunk_pb2 as ch
from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import options_pb2 as o
from knowledge.v1 import vector_pb2 as ve
from knowledge.v1 import vector_service_pb2 as v
from knowledge.v1.audit_service_pb2_grpc import AuditServiceStub
from knowledge.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub

Code = grpc.StatusCode
Recorded = Callable[..., Awaitable[list[e.AuditEvent]]]
MARKER = "Zebrafinch"


@pytest.fixture
def recorded(audit_log: Any) -> Recorded:
    """`await recorded(call)`: the events of a call that has been answered."""

    async def of(call: Any) -> list[e.AuditEvent]:
        call_id = dict(await call.trailing_metadata())["x-call-id"]
        return await events_of(audit_log, call_id)

    return of


async def events_of(audit_log: Any, call_id: str, **metadata: Any) -> list[e.AuditEvent]:
    request = a.ListAuditEventsRequest(filter=f'call_id = "{call_id}"', order_by="occurred_at")
    return list((await audit_log.ListAuditEvents(request, **metadata)).events)


@pytest_asyncio.fixture(loop_scope="session")
async def document(knowledge: Any, collection: c.Collection) -> d.Document:
    """Of one chunk, about two patients."""
    request = k.CreateDocumentRequest(
        parent=collection.name,
        document_id="d",
        document=d.Document(content="fever and cough", subject_ids=["patient-1", "patient-2"]),
    )
    return (await knowledge.CreateDocument(request)).document


async def reads(knowledge: Any, vectors: Any, made: d.Document) -> list[tuple[Any, str]]:
    """A call of each kind that shows the document, and its action."""
    parent = made.name.rpartition("/documents/")[0]
    listed = await vectors.ListChunks(v.ListChunksRequest(parent=made.name))
    chunk = listed.chunks[0].name
    calls = [
        (knowledge.GetDocument(k.GetDocumentRequest(name=made.name)), "documents.get"),
        (knowledge.ListDocuments(k.ListDocumentsRequest(parent=parent)), "documents.list"),
        (vectors.GetChunk(v.GetChunkRequest(name=chunk)), "chunks.get"),
        (vectors.ListChunks(v.ListChunksRequest(parent=made.name)), "chunks.list"),
        (vectors.Search(v.SearchRequest(collection=parent, text="fever")), "search"),
    ]
    for call, _ in calls:
        await call
    return calls


async def test_whoever_sees_a_document_leaves_an_event_that_says_so(
    knowledge: Any, vectors: Any, document: d.Document, collection: c.Collection, recorded: Recorded
) -> None:
    for call, action in await reads(knowledge, vectors, document):
        (event,) = await recorded(call)
        assert event.action == action
        assert event.audit_class == o.AUDIT_CLASS_READ
        assert (event.outcome, event.grpc_code) == (e.AUDIT_OUTCOME_DONE, 0)
        assert event.collection_uid == collection.uid, action
        assert list(event.returned_uids) == [document.uid], action
        assert event.result_count == 1
        assert list(event.subject_ids) == ["patient-1", "patient-2"], action
        assert event.resources[0].startswith(collection.name)
        assert event.actor == "anonymous"


async def test_a_reads_receipt_is_its_events_hash(
    knowledge: Any, document: d.Document, recorded: Recorded
) -> None:
    call = knowledge.GetDocument(k.GetDocumentRequest(name=document.name))
    await call
    trailing = dict(await call.trailing_metadata())
    (event,) = await recorded(call)
    assert trailing["x-audit-event-id"] == event.event_id
    assert trailing["x-audit-leaf-hash-bin"] == hashlib.sha256(b"\x00" + event.leaf).digest()


async def test_collections_that_are_read_leave_an_event(
    knowledge: Any, collection: c.Collection, recorded: Recorded
) -> None:
    got = knowledge.GetCollection(k.GetCollectionRequest(name=collection.name))
    await got
    (event,) = await recorded(got)
    assert (event.action, event.collection_uid) == ("collections.get", collection.uid)
    listed = knowledge.ListCollections(k.ListCollectionsRequest(page_size=2))
    page = await listed
    (event,) = await recorded(listed)
    assert event.result_count == len(page.collections)
    assert list(event.returned_uids) == [each.uid for each in page.collections]


async def test_a_query_is_kept_as_its_hash_alone(
    vectors: Any, document: d.Document, recorded: Recorded
) -> None:
    parent = document.name.rpartition("/documents/")[0]
    seen: list[str] = []
    for text in (f"{MARKER} fever", f"{MARKER} fever", "another"):
        call = vectors.Search(v.SearchRequest(collection=parent, text=text))
        await call
        (event,) = await recorded(call)
        assert MARKER.encode() not in event.SerializeToString()
        name, query = event.resources
        assert name == parent
        kind, digest, length = query.split("/")
        assert (kind, len(digest), int(length)) == ("queries", 32, len(text))
        assert digest != hashlib.sha256(text.encode()).hexdigest()[:32]
        seen.append(digest)
    assert seen[0] == seen[1] != seen[2]


async def test_a_batch_of_searches_leaves_an_event_of_each_collection(
    vectors: Any, document: d.Document, make_collection: Any, recorded: Recorded
) -> None:
    full, empty = document.name.rpartition("/documents/")[0], await make_collection()
    asked = [(full, "fever"), (empty.name, "fever"), (full, "cough"), (empty.name, "rash")]
    searches = [v.SearchRequest(collection=name, text=text) for name, text in asked]
    call = vectors.BatchSearch(v.BatchSearchRequest(searches=searches))
    await call
    events = {event.collection_uid: event for event in await recorded(call)}
    of_empty, of_full = events.pop(empty.uid), events.popitem()[1]
    assert not events
    assert (of_full.result_count, list(of_full.returned_uids)) == (2, [document.uid])
    assert (of_empty.result_count, list(of_empty.returned_uids)) == (0, [])
    for event, name in ((of_full, full), (of_empty, empty.name)):
        queries = [each for each in event.resources if each.startswith("queries/")]
        assert len(queries) == len({text for _, text in asked})
        assert set(event.resources) == {name, *queries}


async def test_reading_the_log_is_in_the_log_once(audit_log: Any, recorded: Recorded) -> None:
    call = audit_log.ListAuditEvents(a.ListAuditEventsRequest(page_size=3))
    page = await call
    (event,) = await recorded(call)
    assert event.action == "audit_events.list"
    assert list(event.returned_uids) == [each.event_id for each in page.events]


async def test_a_large_reading_is_split_into_events_of_bounded_size(
    knowledge: Any, vectors: Any, make_collection: Any, recorded: Recorded
) -> None:
    collection, hits, documents = await make_collection(dimension=2), 1_000, 8
    made = [
        await knowledge.CreateDocument(
            k.CreateDocumentRequest(
                parent=collection.name,
                document=d.Document(origin=d.ORIGIN_CALLER, subject_ids=subjects(number)),
            )
        )
        for number in range(documents)
    ]
    chunks = [
        ch.Chunk(chunk_id=f"c{n}", content="x", embedding=ve.Vector(f32_le=direction(n)))
        for n in range(hits // documents)
    ]
    for each in made:
        await vectors.UpsertChunks(v.UpsertChunksRequest(parent=each.document.name, chunks=chunks))
    query = ve.Vector(f32_le=direction(0))
    call = vectors.Search(v.SearchRequest(collection=collection.name, vector=query, limit=hits))
    assert len((await call).hits) == hits
    events = await recorded(call)
    assert 1 < len(events) <= documents
    assert sum(event.result_count for event in events) == hits
    shown = {uid for event in events for uid in event.returned_uids}
    assert shown == {each.document.uid for each in made}
    about = {subject for event in events for subject in event.subject_ids}
    assert about == {subject for number in range(documents) for subject in subjects(number)}
    for event in events:
        assert len(event.leaf) < 65_536
        assert event.ByteSize() < 65_536


def subjects(number: int) -> list[str]:
    """As many, and as long ones, as a document may have."""
    return [f"{number}-{each:03d}".ljust(128, "x") for each in range(100)]


def direction(number: int) -> bytes:
    return np.array([np.cos(number / 500), np.sin(number / 500)], dtype="<f4").tobytes()


async def test_what_is_refused_leaves_an_event_that_says_why(
    knowledge: Any, collection: c.Collection, recorded: Recorded
) -> None:
    missing = f"{collection.name}/documents/missing"
    taken = k.CreateDocumentRequest(
        parent=collection.name, document_id="d", document=d.Document(origin=d.ORIGIN_CALLER)
    )
    await knowledge.CreateDocument(taken)
    deletion = k.DeleteDocumentRequest(name=missing)
    expected = [
        (knowledge.GetDocument(k.GetDocumentRequest(name=missing)), Code.NOT_FOUND, missing),
        (knowledge.DeleteDocument(deletion), Code.NOT_FOUND, missing),
        (knowledge.CreateDocument(taken), Code.ALREADY_EXISTS, f"{collection.name}/documents/d"),
        (
            knowledge.ListDocuments(k.ListDocumentsRequest(parent=collection.name, page_size=-1)),
            Code.INVALID_ARGUMENT,
            collection.name,
        ),
    ]
    for call, code, resource in expected:
        refusal = await refused(call)
        assert refusal.code is code
        (event,) = await recorded(call)
        assert (event.outcome, event.grpc_code) == (e.AUDIT_OUTCOME_REFUSED, code.value[0])
        assert resource in event.resources
        assert (event.result_count, list(event.returned_uids)) == (0, [])
        assert event.action.endswith((".get", ".delete", ".create", ".list"))


async def test_content_in_the_place_of_a_name_is_not_kept(
    knowledge: Any, recorded: Recorded
) -> None:
    for name in (MARKER, f"collections/x/{MARKER}", f"documents/{MARKER}\n", MARKER * 100):
        call = knowledge.GetDocument(k.GetDocumentRequest(name=name))
        await refused(call)
        (event,) = await recorded(call)
        assert MARKER.encode() not in event.SerializeToString()


async def test_a_call_past_its_deadline_has_failed(
    knowledge: Any, audit_log: Any, make_collection: Any
) -> None:
    """Its event comes once the work is given up; the caller has no call id then."""
    small = await make_collection(chunking=c.ChunkingPolicy(max_tokens=16, overlap_tokens=0))
    purpose = f"test {uuid4()}"
    request = k.CreateDocumentRequest(
        parent=small.name, document=d.Document(content="fever and cough. " * 20_000)
    )
    with pytest.raises(grpc.aio.AioRpcError) as late:
        await knowledge.CreateDocument(request, timeout=0.05, metadata=(("x-purpose", purpose),))
    assert late.value.code() is Code.DEADLINE_EXCEEDED
    listing = a.ListAuditEventsRequest(filter=f'purpose = "{purpose}"')
    async with asyncio.timeout(20):
        while not (events := (await audit_log.ListAuditEvents(listing)).events):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert [event.outcome for event in events] == [e.AUDIT_OUTCOME_FAILED]


async def test_a_caller_without_the_right_is_named(secured_server: SecuredServer) -> None:
    knowledge = KnowledgeServiceStub(secured_server.channel)
    log = AuditServiceStub(secured_server.channel)
    name = f"{secured_server.own.name}/documents/d"
    request = k.DeleteDocumentRequest(name=name)
    metadata = secured_server.metadata("reader")
    refusal = await refused(knowledge.DeleteDocument(request, metadata=metadata))
    (event,) = await events_of(log, refusal.call_id, metadata=secured_server.metadata("auditor"))
    assert (event.actor, event.grpc_code) == ("reader", Code.PERMISSION_DENIED.value[0])
    assert event.audit_class == o.AUDIT_CLASS_WRITE
    assert list(event.resources) == [name]


async def test_strangers_are_counted_by_the_second(secured_server: SecuredServer) -> None:
    knowledge = KnowledgeServiceStub(secured_server.channel)
    log = AuditServiceStub(secured_server.channel)
    auditor = secured_server.metadata("auditor")
    listing = a.ListAuditEventsRequest(filter="grpc_code = 16", page_size=1_000)

    async def counted() -> tuple[int, int]:
        found = (await log.ListAuditEvents(listing, metadata=auditor)).events
        assert {(each.action, each.actor) for each in found} <= {("calls.refuse", "")}
        return sum(each.result_count for each in found), len(found)

    await asyncio.sleep(2.0)  # those of other tests
    calls, events = await counted()
    for _ in range(200):
        await refused(knowledge.GetDocument(k.GetDocumentRequest(name="x")))
    async with asyncio.timeout(10):
        while (await counted())[0] < calls + 200:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    after = await counted()
    assert after[0] == calls + 200
    assert 1 <= after[1] - events <= 5


async def test_a_confined_auditor_sees_reads_of_granted_collections_only(
    secured_server: SecuredServer,
) -> None:
    knowledge = KnowledgeServiceStub(secured_server.channel)
    log = AuditServiceStub(secured_server.channel)
    seen: dict[str, int] = {}
    for furniture in (secured_server.own, secured_server.foreign):
        request = k.GetDocumentRequest(name=f"{furniture.name}/documents/d")
        call = knowledge.GetDocument(request, metadata=secured_server.metadata("reader"))
        await call
        call_id = dict(await call.trailing_metadata())["x-call-id"]
        confined = secured_server.metadata("confined-auditor")
        seen[furniture.name] = len(await events_of(log, call_id, metadata=confined))
    assert seen == {secured_server.own.name: 1, secured_server.foreign.name: 0}
