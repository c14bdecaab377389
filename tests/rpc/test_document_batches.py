"""Batches of changes to documents: all or none, in order, each with its event."""

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from asking import MARKER, creation, struct, update
from batch_requests import creations, deletion, deletions, item, updates
from refusal import refused

from knowledge.v1 import audit_service_pb2 as a
from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k

Code = grpc.StatusCode


@pytest.fixture
def listed(knowledge: Any, collection: c.Collection) -> Callable[..., Any]:
    """`await listed()`: all documents of `collection` that live."""

    async def every() -> list[d.Document]:
        request = k.ListDocumentsRequest(parent=collection.name, page_size=1000)
        return list((await knowledge.ListDocuments(request)).documents)

    return every


@pytest.fixture
def events(audit_log: Any, collection: c.Collection) -> Callable[..., Any]:
    """`await events("documents.create")`: the ids of the collection's events by their resource."""

    async def of(action: str) -> dict[str, str]:
        filter = f'collection_uid = "{collection.uid}" AND action = "{action}"'
        request = a.ListAuditEventsRequest(filter=filter, page_size=1000)
        found = (await audit_log.ListAuditEvents(request)).events
        assert all(len(event.resources) == 1 for event in found)
        return {event.resources[0]: event.event_id for event in found}

    return of


async def test_a_batch_of_creations_is_answered_in_order(
    knowledge: Any, collection: c.Collection, read: Any, events: Any
) -> None:
    items = [item(f"d{i % 7}{i}", title=f"title {i}", content=f"text {i}") for i in range(20)]
    answer = await knowledge.BatchCreateDocuments(creations(collection, *items))
    made = [each.document for each in answer.responses]
    assert [document.title for document in made] == [f"title {i}" for i in range(20)]
    assert all(document.state == d.DOCUMENT_STATE_ACTIVE for document in made)
    for i, document in enumerate(made):
        whole = await read(document)
        assert whole.content == f"text {i}"
        whole.content = ""
        assert whole == document
    of = await events("documents.create")
    assert [of[x.document.name] for x in answer.responses] == [
        x.receipt.event_id for x in answer.responses
    ]


async def test_what_a_batch_made_is_found(
    knowledge: Any, collection: c.Collection, found: Any
) -> None:
    items = [item("lung", content="Asthma narrows the airways."), item(content="A broken arm.")]
    answer = await knowledge.BatchCreateDocuments(creations(collection, *items))
    assert (await found("asthma"))[0] == answer.responses[0].document.name
    await knowledge.BatchUpdateDocuments(
        updates(
            collection,
            update(answer.responses[0].document, content="A sprained ankle."),
            update(answer.responses[1].document, content="Whooping cough."),
        )
    )
    assert (await found("pertussis, a cough"))[0] == answer.responses[1].document.name
    await knowledge.BatchDeleteDocuments(
        deletions(collection, *(deletion(x.document) for x in answer.responses))
    )
    assert await found("cough") == []


async def test_a_thousand_documents_are_made_at_once(
    knowledge: Any, collection: c.Collection, listed: Any
) -> None:
    items = [item(f"d{i}", content="", origin=d.ORIGIN_CALLER) for i in range(1000)]
    answer = await knowledge.BatchCreateDocuments(creations(collection, *items))
    assert len(answer.responses) == len(await listed()) == 1000
    items.append(item("one-more"))
    refusal = await refused(knowledge.BatchCreateDocuments(creations(collection, *items)))
    assert (refusal.code, list(refusal.fields)) == (Code.INVALID_ARGUMENT, ["requests"])
    empty = await refused(knowledge.BatchCreateDocuments(creations(collection)))
    assert list(empty.fields) == ["requests"]


async def test_with_wait_a_batch_of_much_text_is_answered_when_it_can_be_searched(
    knowledge: Any, collection: c.Collection
) -> None:
    items = [item(content=f"Text number {i}.") for i in range(80)]
    pending = await knowledge.BatchCreateDocuments(creations(collection, *items))
    assert pending.responses[0].document.state == d.DOCUMENT_STATE_PENDING
    waited = await knowledge.BatchCreateDocuments(
        creations(collection, *items, wait=True), timeout=60
    )
    assert {x.document.state for x in waited.responses} == {d.DOCUMENT_STATE_ACTIVE}


async def test_every_bad_item_is_named_and_nothing_is_written(
    knowledge: Any, collection: c.Collection, listed: Any, events: Any
) -> None:
    bad = [
        item("good"),
        item("a/b", title="t" * 513),
        item("good"),
        k.CreateDocumentRequest(parent="collections/another", document=d.Document(content="x")),
        item(content=f"{MARKER}\0"),
    ]
    bad[0].request_id = "x"
    bad[4].wait = True
    request = creations(collection, *bad, request_id="y")
    refusal = await refused(knowledge.BatchCreateDocuments(request))
    assert refusal.code is Code.INVALID_ARGUMENT
    assert set(refusal.fields) == {
        "request_id",
        "requests[0].request_id",
        "requests[1].document_id",
        "requests[1].document.title",
        "requests[2]",
        "requests[3].parent",
        "requests[4].document.content",
        "requests[4].wait",
    }
    assert MARKER not in refusal.raw
    assert (await listed(), await events("documents.create")) == ([], {})


async def test_taken_ids_are_named_and_nothing_is_written(
    knowledge: Any, collection: c.Collection, create: Any, listed: Any
) -> None:
    await create("one", content="x")
    gone = await create("two", content="x")
    await knowledge.DeleteDocument(deletion(gone))
    items = [item("new"), item("two"), item("one")]
    for validate_only in (True, False):
        request = creations(collection, *items, validate_only=validate_only)
        refusal = await refused(knowledge.BatchCreateDocuments(request))
        assert (refusal.code, refusal.reason) == (
            Code.ALREADY_EXISTS,
            "RESOURCE_ALREADY_EXISTS",
        )
        assert set(refusal.fields) == {"requests[1]", "requests[2]"}
    assert [document.name.rsplit("/")[-1] for document in await listed()] == ["one"]


async def test_values_of_a_declared_type_are_checked_by_item(
    knowledge: Any, make_collection: Any
) -> None:
    year = c.FilterField(path="metadata.year", type=c.FILTER_FIELD_TYPE_NUMBER)
    typed = await make_collection(filter_fields=[year])
    items = [item(metadata=struct(year=2024)), item(metadata=struct(year="x"))]
    refusal = await refused(knowledge.BatchCreateDocuments(creations(typed, *items)))
    assert (refusal.code, list(refusal.fields)) == (
        Code.INVALID_ARGUMENT,
        ["requests[1].document.metadata.year"],
    )


async def test_a_batch_of_updates_makes_a_revision_each(
    knowledge: Any, collection: c.Collection, create: Any, read: Any, events: Any
) -> None:
    made = [await create(f"d{i}", title="before", content=f"text {i}") for i in range(4)]
    answer = await knowledge.BatchUpdateDocuments(
        updates(
            collection,
            update(made[3], title="third"),
            update(made[0], ["content", "labels"], content="changed", labels={"a": "b"}),
            update(made[1], ["metadata.year"], metadata=struct(year=2024)),
            update(made[2], mime_type="text/markdown"),
        )
    )
    assert [each.document.name for each in answer.responses] == [made[i].name for i in (3, 0, 1, 2)]
    assert [each.document.revision for each in answer.responses] == [2, 2, 2, 2]
    now = [await read(document) for document in made]
    assert [document.title for document in now] == ["before", "before", "before", "third"]
    assert [document.content for document in now] == ["changed", "text 1", "text 2", "text 3"]
    assert (now[0].labels["a"], now[1].metadata, now[2].mime_type) == (
        "b",
        struct(year=2024),
        "text/markdown",
    )
    for each in answer.responses:
        whole = await read(each.document)
        whole.content = ""
        assert whole == each.document
    assert len(await events("documents.update")) == 4


async def test_updates_that_cannot_be_done_are_named_and_nothing_is_written(
    knowledge: Any, collection: c.Collection, create: Any, read: Any
) -> None:
    good, stale, gone = [await create(f"d{i}", title="before", content="x") for i in range(3)]
    await knowledge.UpdateDocument(update(stale, title="meanwhile"))
    await knowledge.DeleteDocument(deletion(gone))
    old = update(stale, title="y")
    old.etag = stale.etag
    missing = update(d.Document(name=f"{collection.name}/documents/none"), title="y")
    batch = updates(collection, update(good, title="y"), old, update(gone, title="y"), missing)
    refusal = await refused(knowledge.BatchUpdateDocuments(batch))
    assert (refusal.code, refusal.reason) == (Code.ABORTED, "ETAG_MISMATCH")
    assert set(refusal.fields) == {"requests[1]", "requests[2]", "requests[3]"}
    assert (await read(good)).title == "before"


async def test_a_batch_of_updates_makes_what_is_missing_if_allowed(
    knowledge: Any, collection: c.Collection, create: Any, read: Any, events: Any
) -> None:
    made = await create("there", title="before", content="x")
    name = f"{collection.name}/documents/new"
    new = update(d.Document(name=name), content="new text")
    new.allow_missing = True
    answer = await knowledge.BatchUpdateDocuments(
        updates(collection, new, update(made, title="after"))
    )
    assert [each.document.revision for each in answer.responses] == [1, 2]
    assert (await read(answer.responses[0].document)).content == "new text"
    assert name in await events("documents.create")


async def test_a_batch_of_deletions_deletes_all(
    knowledge: Any, collection: c.Collection, create: Any, listed: Any, events: Any
) -> None:
    made = [await create(f"d{i}", content="x") for i in range(3)]
    missing = d.Document(name=f"{collection.name}/documents/none")
    allowed = deletion(missing, allow_missing=True)
    answer = await knowledge.BatchDeleteDocuments(
        deletions(collection, deletion(made[2]), allowed, deletion(made[0]))
    )
    first, nothing, last = answer.responses
    assert nothing == k.DeleteDocumentResponse()
    assert (first.document.name, last.document.name) == (made[2].name, made[0].name)
    assert all(each.document.HasField("purge_time") for each in (first, last))
    assert [document.name for document in await listed()] == [made[1].name]
    assert await events("documents.delete") == {
        made[2].name: first.receipt.event_id,
        made[0].name: last.receipt.event_id,
    }


async def test_deletions_that_cannot_be_done_are_named_and_nothing_is_deleted(
    knowledge: Any, collection: c.Collection, create: Any, listed: Any
) -> None:
    good, stale = [await create(f"d{i}", content="x") for i in range(2)]
    missing = d.Document(name=f"{collection.name}/documents/none")
    request = deletions(
        collection, deletion(good), deletion(missing), deletion(stale, etag="1-nonsense")
    )
    refusal = await refused(knowledge.BatchDeleteDocuments(request))
    assert refusal.code is Code.NOT_FOUND
    assert set(refusal.fields) == {"requests[1]", "requests[2]"}
    assert len(await listed()) == 2


async def test_names_of_other_collections_and_twice_the_same_are_refused(
    knowledge: Any, collection: c.Collection, create: Any
) -> None:
    made = await create(content="x")
    foreign = d.Document(name="collections/another/documents/d")
    for request, fields in (
        (
            updates(collection, update(made), update(foreign), update(made)),
            {"requests[1].document.name", "requests[2]"},
        ),
        (
            deletions(collection, deletion(made), deletion(foreign), deletion(made)),
            {"requests[1].name", "requests[2]"},
        ),
    ):
        method = getattr(knowledge, type(request).__name__.removesuffix("Request"))
        refusal = await refused(method(request))
        assert (refusal.code, set(refusal.fields)) == (Code.INVALID_ARGUMENT, fields)


async def test_changes_too_large_to_be_answered_are_refused_before_they_are_written(
    knowledge: Any, make_collection: Any, read: Any
) -> None:
    held = await make_collection(dimension=3)
    large = struct(a="x" * 60_000)
    made = [
        (
            await knowledge.CreateDocument(
                creation(held, f"d{i}", origin=d.ORIGIN_CALLER, metadata=large)
            )
        ).document
        for i in range(80)
    ]
    batch = updates(held, *(update(document, title="y") for document in made))
    refusal = await refused(knowledge.BatchUpdateDocuments(batch))
    assert (refusal.code, refusal.reason) == (Code.RESOURCE_EXHAUSTED, "ANSWER_TOO_LARGE")
    assert (await read(made[0])).revision == 1


async def test_validate_only_writes_no_batch(
    knowledge: Any, collection: c.Collection, create: Any, read: Any, listed: Any
) -> None:
    made = await create(title="before", content="x")
    for request in (
        creations(collection, item("new")),
        updates(collection, update(made, title="after")),
        deletions(collection, deletion(made)),
    ):
        request.validate_only = True
        method = getattr(knowledge, type(request).__name__.removesuffix("Request"))
        answer = await method(request)
        assert not any(each.HasField("receipt") for each in answer.responses)
    assert [document.etag for document in await listed()] == [made.etag]


async def test_a_repeated_batch_gets_the_first_answer(
    knowledge: Any, collection: c.Collection, listed: Any, events: Any
) -> None:
    request = creations(
        collection, *(item(content=f"text {i}") for i in range(5)), request_id=str(uuid.uuid4())
    )
    first = await knowledge.BatchCreateDocuments(request)
    changed = updates(
        collection,
        *(update(each.document, title="after") for each in first.responses),
        request_id=str(uuid.uuid4()),
    )
    updated = await knowledge.BatchUpdateDocuments(changed)
    missing = d.Document(name=f"{collection.name}/documents/none")
    gone = deletions(
        collection,
        deletion(missing, allow_missing=True),
        *(deletion(each.document) for each in first.responses),
        request_id=str(uuid.uuid4()),
    )
    deleted = await knowledge.BatchDeleteDocuments(gone)
    assert await knowledge.BatchCreateDocuments(request) == first
    assert await knowledge.BatchUpdateDocuments(changed) == updated
    assert await knowledge.BatchDeleteDocuments(gone) == deleted
    assert len(await events("documents.create")) == len(await events("documents.update")) == 5
    request.requests[4].document.title = "another"
    refusal = await refused(knowledge.BatchCreateDocuments(request))
    assert (refusal.code, refusal.reason) == (Code.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_racing_copies_of_a_batch_write_it_once(
    knowledge: Any, collection: c.Collection, listed: Any, events: Any
) -> None:
    items = [item(f"d{i}", content=f"text {i}") for i in range(10)]
    request = creations(collection, *items, request_id=str(uuid.uuid4()))
    answers = await asyncio.gather(*(knowledge.BatchCreateDocuments(request) for _ in range(8)))
    assert len({each.SerializeToString(deterministic=True) for each in answers}) == 1
    changed = updates(
        collection,
        *(update(each, title="after") for each in await listed()),
        request_id=str(uuid.uuid4()),
    )
    answers = await asyncio.gather(*(knowledge.BatchUpdateDocuments(changed) for _ in range(8)))
    assert len({each.SerializeToString(deterministic=True) for each in answers}) == 1
    assert {document.revision for document in await listed()} == {2}
    assert len(await events("documents.update")) == 10


async def test_batches_over_the_same_documents_in_any_order_all_succeed(
    knowledge: Any, collection: c.Collection, create: Any, listed: Any
) -> None:
    made = [await create(f"d{i}", content="x") for i in range(10)]
    batches = [
        updates(collection, *(update(x, title=f"by {i}") for x in made[:: (-1) ** i]))
        for i in range(8)
    ]
    singles = [update(x, source_uri="by one") for x in made]
    await asyncio.gather(
        *map(knowledge.BatchUpdateDocuments, batches), *map(knowledge.UpdateDocument, singles)
    )
    now = await listed()
    assert {document.revision for document in now} == {10}
    assert len({document.title for document in now}) == 1
    assert {document.source_uri for document in now} == {"by one"}
