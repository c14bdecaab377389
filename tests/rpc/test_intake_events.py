"""What items of a stream that change nothing leave in the audit log: an event for each reason and
batch, committed with the acks."""

import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import grpc.aio

from knowledge.v1 import audit_event_pb2 as e
from knowledge.v1 import audit_service_pb2 as a
from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import options_pb2 as o
from knowledge.v1 import vector_service_pb2 as v
from knowledge.v1.chunk_pb2 import Chunk
from knowledge.v1.vector_pb2 import FloatVector, Vector

DONE, REFUSED = e.AUDIT_OUTCOME_DONE, e.AUDIT_OUTCOME_REFUSED
READ, WRITE = o.AUDIT_CLASS_READ, o.AUDIT_CLASS_WRITE


async def streamed(method: Any, messages: Iterable[Any]) -> str:
    """The call id of a stream that has ended."""
    call = method(iter(messages))
    async for _ in call:
        pass
    return str(dict(await call.trailing_metadata())["x-call-id"])


async def quiet(audit_log: Any, call_id: str) -> list[e.AuditEvent]:
    """The events of a call that are not of what it wrote."""
    request = a.ListAuditEventsRequest(
        filter=f'call_id = "{call_id}"', order_by="occurred_at", page_size=1000
    )
    events = (await audit_log.ListAuditEvents(request)).events
    return [event for event in events if ":" in event.action]


def told(events: Sequence[e.AuditEvent]) -> dict[tuple[Any, ...], int]:
    """How many items of each kind: where a moment is slow a batch has fewer than came."""
    counts = Counter[tuple[Any, ...]]()
    for event in events:
        counts[event.action, event.outcome, event.audit_class] += event.result_count
    return counts


def resources(events: Sequence[e.AuditEvent], action: str) -> set[str]:
    return {name for event in events if event.action == action for name in event.resources}


def imported(parent: str, documents: Iterable[tuple[str, str]]) -> list[Any]:
    """An import of documents by their ids and titles."""
    items = [
        k.ImportDocumentsRequest(
            item=k.ImportItem(
                sequence=sequence,
                document_id=document_id,
                document=d.Document(title=title, origin=d.ORIGIN_CALLER),
            )
        )
        for sequence, (document_id, title) in enumerate(documents, 1)
    ]
    start = k.ImportStart(parent=parent, if_exists=k.IF_EXISTS_UPDATE)
    return [k.ImportDocumentsRequest(start=start), *items]


async def test_documents_that_are_refused_or_there_leave_an_event_for_each_reason(
    knowledge: Any, audit_log: Any, collection: c.Collection
) -> None:
    first = [("a", ""), ("b", ""), ("gone", "")]
    await streamed(knowledge.ImportDocuments, imported(collection.name, first))
    gone = k.DeleteDocumentRequest(name=f"{collection.name}/documents/gone")
    await knowledge.DeleteDocument(gone)
    second = [*first, ("new", ""), ("x/y", ""), ("long", "t" * 513), ("x/z", "")]
    call_id = await streamed(knowledge.ImportDocuments, imported(collection.name, second))
    events = await quiet(audit_log, call_id)
    assert told(events) == {
        ("documents.import:RESOURCE_ALREADY_EXISTS", REFUSED, WRITE): 1,
        ("documents.import:INVALID_FIELD", REFUSED, WRITE): 3,
        ("documents.import:UNCHANGED", DONE, READ): 2,
    }
    codes = {event.grpc_code for event in events if event.action.endswith(":INVALID_FIELD")}
    assert codes == {grpc.StatusCode.INVALID_ARGUMENT.value[0]}
    assert resources(events, "documents.import:INVALID_FIELD") == {collection.name}
    unchanged = {f"{collection.name}/documents/{each}" for each in "ab"}
    assert resources(events, "documents.import:UNCHANGED") == unchanged
    assert all("t" * 513 not in str(event) for event in events)


async def test_the_auditors_filter_finds_what_was_refused(
    knowledge: Any, audit_log: Any, collection: c.Collection
) -> None:
    documents = [("a", ""), ("x/y", "")]
    await streamed(knowledge.ImportDocuments, imported(collection.name, documents))
    call_id = await streamed(knowledge.ImportDocuments, imported(collection.name, documents))
    wanted = 'has_prefix(action, "documents.import:") AND outcome = "REFUSED"'
    request = a.ListAuditEventsRequest(filter=f'{wanted} AND call_id = "{call_id}"')
    (event,) = (await audit_log.ListAuditEvents(request)).events
    assert event.action == "documents.import:INVALID_FIELD"


async def test_items_that_are_acked_once_more_leave_no_more_events(
    knowledge: Any, audit_log: Any, collection: c.Collection
) -> None:
    messages = imported(collection.name, [("x/y", ""), ("x/z", "")])
    messages[0].start.session.session_id = str(uuid.uuid4())
    first = await streamed(knowledge.ImportDocuments, messages)
    again = await streamed(knowledge.ImportDocuments, messages[:1])
    assert sum(told(await quiet(audit_log, first)).values()) == 2
    assert await quiet(audit_log, again) == []


async def test_a_thousand_bad_items_leave_an_event_for_each_batch(
    knowledge: Any, audit_log: Any, collection: c.Collection
) -> None:
    bad = [(f"x/{n}", "") for n in range(1_000)]
    call_id = await streamed(knowledge.ImportDocuments, imported(collection.name, bad))
    events = await quiet(audit_log, call_id)
    assert {event.action for event in events} == {"documents.import:INVALID_FIELD"}
    assert sum(event.result_count for event in events) == 1_000
    # Batches of a hundred, but for what a slow moment cuts short.
    assert 10 <= len(events) <= 40


async def test_chunks_that_are_refused_or_there_leave_an_event_for_each_reason(
    knowledge: Any, vectors: Any, audit_log: Any, make_collection: Any
) -> None:
    space = await make_collection(dimension=2)
    request = k.CreateDocumentRequest(
        parent=space.name, document_id="d", document=d.Document(origin=d.ORIGIN_CALLER)
    )
    await knowledge.CreateDocument(request)

    def ingested(chunk_ids: Iterable[str]) -> list[Any]:
        """The fourth goes to a document that is missing."""
        start = v.IngestStart(parent=space.name, mode=v.WRITE_MODE_INSERT_ONLY)
        embedding = Vector(floats=FloatVector(values=[1, 0]))
        return [
            v.IngestChunksRequest(start=start),
            *(
                v.IngestChunksRequest(
                    item=v.IngestItem(
                        sequence=n,
                        document_id="d" if n < 4 else "missing",
                        chunk=Chunk(chunk_id=chunk_id, embedding=embedding),
                    )
                )
                for n, chunk_id in enumerate(chunk_ids, 1)
            ),
        ]

    assert await quiet(audit_log, await streamed(vectors.IngestChunks, ingested("ab"))) == []
    call_id = await streamed(vectors.IngestChunks, ingested(["a", "b", "x/y", "c"]))
    events = await quiet(audit_log, call_id)
    assert told(events) == {
        ("chunks.ingest:DUPLICATE", DONE, READ): 2,
        ("chunks.ingest:INVALID_FIELD", REFUSED, WRITE): 1,
        ("chunks.ingest:RESOURCE_NOT_FOUND", REFUSED, WRITE): 1,
    }
    assert resources(events, "chunks.ingest:DUPLICATE") == {
        f"{space.name}/documents/d/chunks/{each}" for each in "ab"
    }
