"""Documents as they were: read, listed, rolled back to."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from asking import creation, struct, update
from google.protobuf.timestamp_pb2 import Timestamp
from refusal import refused

from knowledge.v1 import chunk_pb2 as ch
from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k

Code = grpc.StatusCode
AS_IT_WAS = ("title", "content", "mime_type", "source_uri", "metadata", "labels", "subject_ids")


def values(document: d.Document) -> dict[str, Any]:
    return {name: getattr(document, name) for name in AS_IT_WAS}


def at(document: d.Document, **moment: Any) -> k.GetDocumentRequest:
    return k.GetDocumentRequest(name=document.name, **moment)


def rollback(document: d.Document, revision: int, **fields: Any) -> k.RollbackDocumentRequest:
    return k.RollbackDocumentRequest(name=document.name, revision=revision, **fields)


@pytest.fixture
def as_of(knowledge: Any) -> Callable[..., Any]:
    """`await as_of(document, revision=1)`: the document as it was then."""

    async def get(document: d.Document, **moment: Any) -> d.Document:
        return (await knowledge.GetDocument(at(document, **moment))).document

    return get


@pytest.fixture
def listed(knowledge: Any) -> Callable[..., Any]:
    """`await listed(document)`: all its revisions, newest first, by pages of two."""

    async def pages(document: d.Document, **fields: Any) -> AsyncIterator[d.DocumentRevision]:
        request = k.ListDocumentRevisionsRequest(parent=document.name, page_size=2, **fields)
        while True:
            page = await knowledge.ListDocumentRevisions(request)
            assert len(page.revisions) <= 2
            for revision in page.revisions:
                yield revision
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def every(document: d.Document, **fields: Any) -> list[d.DocumentRevision]:
        return [revision async for revision in pages(document, **fields)]

    return every


async def test_every_revision_can_be_read_as_it_was(
    knowledge: Any, create: Any, read: Any, as_of: Any
) -> None:
    made = await create(title="one", content="The first text.", labels={"a": "b"})
    states = [await read(made)]
    for change in (
        {"title": "two"},
        {"content": "The second text."},
        {"content": "The second text, longer.", "metadata": struct(year=2020)},
        {"mime_type": "text/markdown", "subject_ids": ["patient-1"]},
    ):
        await knowledge.UpdateDocument(update(made, **change))
        states.append(await read(made))
    for revision, state in enumerate(states, 1):
        assert await as_of(made, revision=revision) == state
        assert await as_of(made, as_of=state.update_time) == state


async def test_a_revision_is_valid_until_the_next_one(
    knowledge: Any, create: Any, as_of: Any
) -> None:
    made = await create(content="first")
    await knowledge.UpdateDocument(update(made, content="second"))
    second = await as_of(made, revision=2)
    before = Timestamp()
    before.FromDatetime(second.update_time.ToDatetime(UTC) - timedelta(microseconds=1))
    assert (await as_of(made, as_of=before)).content == "first"
    assert (await as_of(made, as_of=second.update_time)).content == "second"


async def test_the_basic_view_of_a_revision_has_no_content(
    knowledge: Any, create: Any, as_of: Any
) -> None:
    made = await create(title="one", content="first")
    await knowledge.UpdateDocument(update(made, title="two", content="second"))
    basic = await as_of(made, revision=1, view=d.VIEW_BASIC)
    assert (basic.title, basic.content) == ("one", "")


@pytest.mark.parametrize("revision", [2, 99, 2**62])
async def test_an_unknown_revision_is_not_found(knowledge: Any, create: Any, revision: int) -> None:
    made = await create(content="x")
    for call in (
        knowledge.GetDocument(at(made, revision=revision)),
        knowledge.RollbackDocument(rollback(made, revision)),
    ):
        assert (await refused(call)).code is Code.NOT_FOUND


async def test_before_its_creation_a_document_is_not_found(knowledge: Any, create: Any) -> None:
    made = await create(content="x")
    early = Timestamp()
    early.FromDatetime(made.create_time.ToDatetime(UTC) - timedelta(seconds=1))
    assert (await refused(knowledge.GetDocument(at(made, as_of=early)))).code is Code.NOT_FOUND


async def test_the_future_is_refused_and_every_fault_named(knowledge: Any, create: Any) -> None:
    made = await create(content="x")
    later = Timestamp()
    later.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
    refusal = await refused(knowledge.GetDocument(at(made, as_of=later, revision=-1)))
    assert (refusal.code, set(refusal.fields)) == (Code.INVALID_ARGUMENT, {"as_of", "revision"})
    nonsense = Timestamp(seconds=2**60)
    refusal = await refused(knowledge.GetDocument(at(made, as_of=nonsense)))
    assert list(refusal.fields) == ["as_of"]


async def test_revisions_are_listed_with_their_times_and_events(
    knowledge: Any, create: Any, listed: Any, as_of: Any
) -> None:
    made = await create(title="one", content="x")
    answers = [
        await knowledge.UpdateDocument(update(made, title=title)) for title in ("two", "three")
    ]
    newest, middle, first = await listed(made)
    assert [r.document.title for r in (newest, middle, first)] == ["three", "two", "one"]
    assert not newest.HasField("until_time")
    assert middle.until_time == newest.document.update_time
    assert [newest.event_id, middle.event_id] == [
        answer.receipt.event_id for answer in reversed(answers)
    ]
    for revision in (newest, middle, first):
        whole = await as_of(made, revision=revision.document.revision, view=d.VIEW_BASIC)
        assert revision.document == whole


async def test_revisions_can_be_filtered_and_turned(
    knowledge: Any, create: Any, listed: Any
) -> None:
    made = await create(title="0", content="x")
    for i in range(1, 7):
        await knowledge.UpdateDocument(update(made, title=str(i % 2)))
    turned = await listed(made, order_by="revision")
    assert [r.document.revision for r in turned] == [1, 2, 3, 4, 5, 6, 7]
    odd = await listed(made, filter='title = "1"')
    assert [r.document.revision for r in odd] == [6, 4, 2]


async def test_bad_lists_of_revisions_are_refused(
    knowledge: Any, create: Any, collection: c.Collection
) -> None:
    made = await create(content="x")
    bad = k.ListDocumentRevisionsRequest(
        parent=made.name, page_size=-1, filter="nonsense = 1", order_by="title"
    )
    refusal = await refused(knowledge.ListDocumentRevisions(bad))
    assert set(refusal.fields) == {"page_size", "filter", "order_by"}
    missing = k.ListDocumentRevisionsRequest(parent=f"{collection.name}/documents/none")
    assert (await refused(knowledge.ListDocumentRevisions(missing))).code is Code.NOT_FOUND


async def test_a_rollback_gives_the_values_of_then_as_a_new_revision(
    knowledge: Any, create: Any, read: Any, found: Any
) -> None:
    made = await create(title="one", content="Asthma narrows the airways.", labels={"a": "b"})
    first = await read(made)
    await knowledge.UpdateDocument(update(made, ["*"], title="two", content="A broken arm."))
    answer = await knowledge.RollbackDocument(rollback(made, 1))
    now = await read(made)
    assert values(now) == values(first)
    assert (now.revision, answer.document.etag, answer.document.content) == (3, now.etag, "")
    assert len(answer.receipt.leaf_hash) == 32
    assert await found("asthma") == [made.name]
    again = await knowledge.RollbackDocument(rollback(made, 2))
    assert (await read(made)).title == "two"
    assert again.document.revision == 4


def long_text(topic: str) -> str:
    return "\n\n".join(f"Paragraph {i} tells of {topic} number {i}." for i in range(100))


async def test_a_rollback_embeds_nothing_that_the_document_held(
    knowledge: Any, make_collection: Any, chunks: Any, read: Any
) -> None:
    """Of a text this long, anything to embed would be left to the workers, and be PENDING."""
    small = await make_collection(chunking=c.ChunkingPolicy(max_tokens=16, overlap_tokens=0))
    request = creation(small, content=long_text("fevers"))
    request.wait = True
    made = (await knowledge.CreateDocument(request, timeout=60)).document
    before = await chunks(made)
    await knowledge.UpdateDocument(update(made, content="Something else."))
    assert [chunk.content for chunk in await chunks(made)] == ["Something else."]
    answer = await knowledge.RollbackDocument(rollback(made, 1))
    assert answer.document.state == d.DOCUMENT_STATE_ACTIVE
    after = await chunks(made)
    assert [chunk.uid for chunk in after] == [chunk.uid for chunk in before]
    assert {chunk.state for chunk in after} == {ch.CHUNK_STATE_ACTIVE}


async def test_a_search_finds_the_current_revision_alone(
    knowledge: Any, create: Any, vectors: Any, collection: c.Collection, found: Any
) -> None:
    made = await create(content="Asthma narrows the airways.")
    other = await create(content="A cough.")
    await knowledge.UpdateDocument(update(made, content="A broken arm."))
    assert sorted(await found("asthma")) == sorted([made.name, other.name])
    await knowledge.RollbackDocument(rollback(made, 1))
    assert (await found("asthma"))[0] == made.name


async def test_a_rollback_takes_etag_validate_only_and_request_id(
    knowledge: Any, create: Any, read: Any
) -> None:
    made = await create(title="one", content="x")
    await knowledge.UpdateDocument(update(made, title="two"))
    stale = await refused(knowledge.RollbackDocument(rollback(made, 1, etag=made.etag)))
    assert (stale.code, stale.reason) == (Code.ABORTED, "ETAG_MISMATCH")
    dry = await knowledge.RollbackDocument(rollback(made, 1, validate_only=True))
    assert (dry.document.title, dry.HasField("receipt")) == ("one", False)
    assert (await read(made)).title == "two"
    request = rollback(made, 1, request_id=str(uuid.uuid4()))
    first = await knowledge.RollbackDocument(request)
    assert await knowledge.RollbackDocument(request) == first
    assert (await read(made)).revision == 3


async def test_bad_rollbacks_are_refused(knowledge: Any, create: Any) -> None:
    made = await create(content="x")
    refusal = await refused(knowledge.RollbackDocument(rollback(made, 0, request_id="x")))
    assert set(refusal.fields) == {"revision", "request_id"}
    await knowledge.DeleteDocument(k.DeleteDocumentRequest(name=made.name))
    gone = await refused(knowledge.RollbackDocument(rollback(made, 1)))
    assert (gone.code, gone.reason) == (Code.FAILED_PRECONDITION, "WRONG_STATE")


async def test_deletion_and_undeletion_are_revisions(
    knowledge: Any, create: Any, read: Any, listed: Any, as_of: Any
) -> None:
    made = await create(title="one", content="x")
    gone = (await knowledge.DeleteDocument(k.DeleteDocumentRequest(name=made.name))).document
    await knowledge.UndeleteDocument(k.UndeleteDocumentRequest(name=made.name))
    assert [r.document.HasField("delete_time") for r in await listed(made)] == [
        False,
        True,
        False,
    ]
    then = await as_of(made, as_of=gone.update_time)
    assert (then.delete_time, then.content) == (gone.delete_time, "x")
    assert not (await read(made)).HasField("delete_time")


async def test_sixty_edits_of_a_long_text_all_come_back(
    knowledge: Any, make_collection: Any, as_of: Any
) -> None:
    held = await make_collection(dimension=3)
    words = [f"word-{i}" for i in range(3_000)]
    caller = creation(held, content=" ".join(words), origin=d.ORIGIN_CALLER)
    made = (await knowledge.CreateDocument(caller)).document
    contents = [" ".join(words)]
    for i in range(60):
        words[(i * 997) % 3_000] = f"edit {i} 🩺"
        contents.append(contents[-1] if i % 5 == 4 else " ".join(words))
        await knowledge.UpdateDocument(update(made, content=contents[-1], title=str(i)))
    for revision, content in enumerate(contents, 1):
        assert (await as_of(made, revision=revision)).content == content


async def test_of_forty_updaters_every_acknowledged_revision_is_there(
    knowledge: Any, create: Any, listed: Any, as_of: Any
) -> None:
    made = await create(title="at first", content="x")
    titles = [f"by {i}" for i in range(40)]
    answers = await asyncio.gather(
        *(knowledge.UpdateDocument(update(made, title=title)) for title in titles)
    )
    acknowledged = {a.document.revision: (a.document.title, a.receipt.event_id) for a in answers}
    kept = {r.document.revision: (r.document.title, r.event_id) for r in await listed(made)}
    assert set(kept) == set(range(1, 42))
    assert {revision: kept[revision] for revision in acknowledged} == acknowledged
    assert sorted(title for title, _ in acknowledged.values()) == sorted(titles)
    for revision, (title, _) in acknowledged.items():
        assert (await as_of(made, revision=revision)).title == title
