"""PurgeDocuments: what it would remove, and what is left once it did."""

import uuid
from typing import Any

import grpc
from asking import MARKER, creation, update
from refusal import refused

from knowledge.v1 import audit_service_pb2 as a
from knowledge.v1 import chunk_pb2 as ch
from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import vector_service_pb2 as v

Code = grpc.StatusCode


def purge(collection: c.Collection, filter: str, **fields: Any) -> k.PurgeDocumentsRequest:
    return k.PurgeDocumentsRequest(parent=collection.name, filter=filter, **fields)


async def names(knowledge: Any, collection: c.Collection) -> list[str]:
    """Of all its documents, deleted ones too, oldest first."""
    request = k.ListDocumentsRequest(parent=collection.name, show_deleted=True, page_size=1000)
    return [document.name for document in (await knowledge.ListDocuments(request)).documents]


async def test_without_force_a_purge_only_tells(
    knowledge: Any, collection: c.Collection, create: Any
) -> None:
    made = [await create(f"d{i}", content="x", labels={"n": str(i % 2)}) for i in range(6)]
    answer = await knowledge.PurgeDocuments(purge(collection, 'labels.n = "1"'))
    assert (answer.purge_count, answer.held_count, answer.more) == (3, 0, False)
    assert list(answer.purge_sample) == [made[i].name for i in (1, 3, 5)]
    assert not answer.receipts
    assert await names(knowledge, collection) == [document.name for document in made]


async def test_a_dry_run_names_at_most_100(knowledge: Any, collection: c.Collection) -> None:
    requests = [creation(collection, f"d{i}", origin=d.ORIGIN_CALLER) for i in range(120)]
    for request in requests:
        await knowledge.CreateDocument(request)
    answer = await knowledge.PurgeDocuments(purge(collection, "create_time:*"))
    assert (answer.purge_count, len(answer.purge_sample)) == (120, 100)
    assert answer.purge_sample[0] == f"{collection.name}/documents/d0"


async def test_a_purge_removes_what_matches_and_nothing_else(
    knowledge: Any, vectors: Any, collection: c.Collection, create: Any, found: Any
) -> None:
    doomed = await create("doomed", content="Asthma narrows the airways.", title="x")
    await knowledge.UpdateDocument(update(doomed, content="Asthma and cough."))
    stays = await create("stays", content="A broken arm.")
    answer = await knowledge.PurgeDocuments(purge(collection, 'title = "x"', force=True))
    assert (answer.purge_count, answer.more, len(answer.receipts)) == (1, False, 1)
    assert await names(knowledge, collection) == [stays.name]
    assert await found("asthma") == [stays.name]
    for request in (
        k.GetDocumentRequest(name=doomed.name),
        k.GetDocumentRequest(name=doomed.name, revision=1),
        k.ListDocumentRevisionsRequest(parent=doomed.name),
        k.UndeleteDocumentRequest(name=doomed.name),
        k.RollbackDocumentRequest(name=doomed.name, revision=1),
    ):
        method = getattr(knowledge, type(request).__name__.removesuffix("Request"))
        assert (await refused(method(request))).code is Code.NOT_FOUND
    chunk = v.ListChunksRequest(parent=doomed.name)
    assert not (await vectors.ListChunks(chunk)).chunks
    again = await create("doomed", content="Another text under its id.")
    assert (again.revision, again.uid != doomed.uid) == (1, True)


async def test_a_purge_takes_the_deleted_alone_if_asked(
    knowledge: Any, collection: c.Collection, create: Any
) -> None:
    gone, stays = await create("gone", content="x"), await create("stays", content="y")
    await knowledge.DeleteDocument(k.DeleteDocumentRequest(name=gone.name))
    answer = await knowledge.PurgeDocuments(purge(collection, "delete_time:*", force=True))
    assert answer.purge_count == 1
    assert await names(knowledge, collection) == [stays.name]


async def test_a_purge_removes_chunks_that_callers_gave(
    knowledge: Any, vectors: Any, make_collection: Any
) -> None:
    small = await make_collection(dimension=3)
    made = (await knowledge.CreateDocument(creation(small, "one", origin=d.ORIGIN_CALLER))).document
    vector = ch.Chunk(chunk_id="x", embedding={"floats": {"values": [1, 0, 0]}})
    await vectors.UpsertChunks(v.UpsertChunksRequest(parent=made.name, chunks=[vector]))
    await knowledge.PurgeDocuments(purge(small, "create_time:*", force=True))
    search = v.SearchRequest(collection=small.name, vector={"floats": {"values": [1, 0, 0]}})
    assert not (await vectors.Search(search)).hits


async def test_every_purged_document_has_its_event(
    knowledge: Any, collection: c.Collection, create: Any, audit_log: Any
) -> None:
    made = [await create(f"d{i}", content="x", subject_ids=[f"p{i}"]) for i in range(3)]
    answer = await knowledge.PurgeDocuments(purge(collection, "create_time:*", force=True))
    request = a.ListAuditEventsRequest(
        filter=f'collection_uid = "{collection.uid}" AND action = "documents.purge"'
    )
    events = {e.event_id: e for e in (await audit_log.ListAuditEvents(request)).events}
    assert len(events) == 3
    for document, receipt, i in zip(made, answer.receipts, range(3), strict=True):
        event = events[receipt.event_id]
        assert list(event.resources) == [document.name]
        assert list(event.subject_ids) == [f"p{i}"]
        assert event.leaf_hash == receipt.leaf_hash
    earlier = a.ListAuditEventsRequest(filter=f'resources:"{made[0].name}"')
    actions = {event.action for event in (await audit_log.ListAuditEvents(earlier)).events}
    assert actions == {"documents.create", "documents.purge"}


async def test_a_repeated_purge_gets_the_first_answer(
    knowledge: Any, collection: c.Collection, create: Any
) -> None:
    for i in range(3):
        await create(f"d{i}", content="x")
    request = purge(collection, "create_time:*", force=True, request_id=str(uuid.uuid4()))
    first = await knowledge.PurgeDocuments(request)
    await create("later", content="x")
    assert await knowledge.PurgeDocuments(request) == first
    assert await names(knowledge, collection) == [f"{collection.name}/documents/later"]
    request.filter = "delete_time:*"
    assert (await refused(knowledge.PurgeDocuments(request))).reason == "REQUEST_ID_REUSED"


async def test_a_repeated_creation_does_not_bring_back_what_was_purged(
    knowledge: Any, collection: c.Collection
) -> None:
    request = creation(collection, "one", content="x")
    request.request_id = str(uuid.uuid4())
    await knowledge.CreateDocument(request)
    await knowledge.PurgeDocuments(purge(collection, "create_time:*", force=True))
    assert (await refused(knowledge.CreateDocument(request))).code is Code.NOT_FOUND
    assert await names(knowledge, collection) == []


async def test_a_purge_of_nothing_changes_nothing(knowledge: Any, collection: c.Collection) -> None:
    answer = await knowledge.PurgeDocuments(purge(collection, "create_time:*", force=True))
    assert (answer.purge_count, answer.more, len(answer.receipts)) == (0, False, 0)


async def test_bad_purges_are_refused(knowledge: Any, collection: c.Collection) -> None:
    refusal = await refused(
        knowledge.PurgeDocuments(purge(collection, " ", request_id=MARKER, force=True))
    )
    assert (refusal.code, set(refusal.fields)) == (
        Code.INVALID_ARGUMENT,
        {"filter", "request_id"},
    )
    refusal = await refused(knowledge.PurgeDocuments(purge(collection, f"{MARKER} = 1")))
    assert list(refusal.fields) == ["filter"]
    assert MARKER not in refusal.raw
    missing = c.Collection(name="collections/is-not-there")
    refusal = await refused(knowledge.PurgeDocuments(purge(missing, "create_time:*")))
    assert refusal.code is Code.NOT_FOUND
