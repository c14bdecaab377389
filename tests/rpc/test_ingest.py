"""IngestChunks: what becomes of items, breaks, and the events that are recorded."""

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
import pytest_asyncio
from refusal import Refusal, refused, told_by_the_server
from secured import SecuredServer

from knowledge.v1 import audit_service_pb2 as a
from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import intake_pb2 as i
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import vector_service_pb2 as v
from knowledge.v1.chunk_pb2 import Chunk, ChunkState
from knowledge.v1.vector_pb2 import Vector
from knowledge.v1.vector_service_pb2_grpc import VectorServiceStub

Code = grpc.StatusCode
CREATED, UPDATED = i.INTAKE_STATE_CREATED, i.INTAKE_STATE_UPDATED
DUPLICATE, FAILED = i.INTAKE_STATE_DUPLICATE, i.INTAKE_STATE_FAILED
INSERT_ONLY, UPDATE_ONLY = v.WRITE_MODE_INSERT_ONLY, v.WRITE_MODE_UPDATE_ONLY


def f32(*values: float) -> bytes:
    return np.asarray(values, "<f4").tobytes()


def start(parent: str, session_id: str = "", acknowledged: int = 0, **fields: Any) -> Any:
    session = i.IntakeSession(session_id=session_id, acknowledged=acknowledged)
    return v.IngestChunksRequest(start=v.IngestStart(parent=parent, session=session, **fields))


def item(sequence: int, chunk_id: str, document_id: str = "", **fields: Any) -> Any:
    """A chunk with the vector `f32_le`, (1, 0, 0, 0) unless given; None for none."""
    f32_le = fields.pop("f32_le", f32(1, 0, 0, 0))
    embedding = None if f32_le is None else Vector(f32_le=f32_le)
    chunk = Chunk(chunk_id=chunk_id, embedding=embedding, **fields)
    return v.IngestChunksRequest(
        item=v.IngestItem(sequence=sequence, document_id=document_id, chunk=chunk)
    )


class Ingested:
    """What a whole ingest answered."""

    def __init__(self, answers: Sequence[v.IngestChunksResponse]) -> None:
        kinds = [answer.WhichOneof("message") for answer in answers]
        assert kinds == ["started", *["acks"] * (len(kinds) - 2), "finished"]
        self.started = answers[0].started
        self.acks = [ack for answer in answers[1:-1] for ack in answer.acks.acks]
        self.finished = answers[-1].finished
        self.states = [ack.state for ack in self.acks]
        self.errors = [(ack.error.code, ack.error.reason) for ack in self.acks if ack.error.code]
        self.events = {ack.receipt.event_id for ack in self.acks if ack.HasField("receipt")}


async def ingest(vectors: Any, messages: Iterable[Any]) -> Ingested:
    return Ingested([answer async for answer in vectors.IngestChunks(iter(messages))])


async def refused_ingest(vectors: Any, messages: Iterable[Any]) -> Refusal:
    sent = list(messages)
    return await refused(told_by_the_server(lambda: ingest(vectors, sent)))


@pytest_asyncio.fixture(loop_scope="session")
async def space(make_collection: Any) -> c.Collection:
    """A collection of vectors with 4 values, compared by cosine."""
    year = c.FilterField(path="chunk_metadata.page", type=c.FILTER_FIELD_TYPE_NUMBER)
    return await make_collection(dimension=4, filter_fields=[year])


async def make_document(
    knowledge: Any, collection: c.Collection, document_id: str, **f: Any
) -> str:
    request = k.CreateDocumentRequest(
        parent=collection.name,
        document_id=document_id,
        document=d.Document(**({"origin": d.ORIGIN_CALLER} | f)),
    )
    return (await knowledge.CreateDocument(request)).document.name


async def chunks_of(vectors: Any, document: str) -> dict[str, Chunk]:
    request = v.ListChunksRequest(
        parent=document, page_size=1000, include_embedding=True, view=d.VIEW_FULL
    )
    chunks = (await vectors.ListChunks(request)).chunks
    assert len({chunk.chunk_id for chunk in chunks}) == len(chunks)
    return {chunk.chunk_id: chunk for chunk in chunks}


async def event_of(audit_log: Any, event_id: str) -> Any:
    request = a.GetAuditEventRequest(name=f"auditEvents/{event_id}")
    return (await audit_log.GetAuditEvent(request)).event


async def test_chunks_come_in_bit_for_bit_with_one_event_for_each_document(
    knowledge: Any, vectors: Any, audit_log: Any, space: c.Collection
) -> None:
    names = [
        await make_document(knowledge, space, "a", subject_ids=["patient-1"]),
        await make_document(knowledge, space, "b"),
    ]
    given = np.random.default_rng(5).standard_normal((600, 4), np.float32)
    items = [
        item(
            n,
            f"c{n}",
            "ab"[n % 2],
            f32_le=given[n - 1].tobytes(),
            content=f"text {n}",
            ordinal=n,
        )
        for n in range(1, 601)
    ]
    done = await ingest(vectors, [start(space.name), *items])
    assert done.states == [CREATED] * 600
    assert [ack.sequence for ack in done.acks] == list(range(1, 601))
    assert done.acks[2].name == f"{names[1]}/chunks/c3"
    assert (done.finished.last_sequence, done.finished.created_count) == (600, 600)
    found = await chunks_of(vectors, names[0]) | await chunks_of(vectors, names[1])
    assert all(
        (each.embedding.f32_le, each.content, each.ordinal, each.state)
        == (given[n - 1].tobytes(), f"text {n}", n, ChunkState.CHUNK_STATE_ACTIVE)
        for n in range(1, 601)
        for each in [found[f"c{n}"]]
    )
    for name in names:
        stored = await knowledge.GetDocument(k.GetDocumentRequest(name=name))
        assert stored.document.chunk_count == 300
        assert stored.document.state == d.DOCUMENT_STATE_ACTIVE
    batches = 1 + len({ack.receipt.event_id for ack in done.acks[1::2]})
    assert 4 <= len(done.events) <= 2 * batches
    event = await event_of(audit_log, done.acks[1].receipt.event_id)
    assert (event.action, list(event.subject_ids)) == ("chunks.ingest", ["patient-1"])
    assert event.leaf_hash == done.acks[1].receipt.leaf_hash
    assert set(event.resources) == {
        ack.name for ack in done.acks if ack.receipt.event_id == event.name.rpartition("/")[2]
    }


async def test_a_bad_item_fails_alone_and_is_named(
    knowledge: Any, vectors: Any, space: c.Collection
) -> None:
    name = await make_document(knowledge, space, "a")
    typed = item(10, "typed")
    typed.item.chunk.metadata["page"] = "three"
    items = [
        item(1, "good"),
        item(2, "short", f32_le=f32(1, 2, 3)),
        item(3, "nan", f32_le=f32(1, float("nan"), 0, 0)),
        item(4, "infinite", f32_le=f32(1, float("inf"), 0, 0)),
        item(5, "large", f32_le=f32(7e4, 0, 0, 0)),
        item(6, "zero", f32_le=f32(0, 0, 0, 0)),
        item(7, "long", content="x" * 65_537),
        item(8, "a/b"),
        item(9, "other", "a"),
        typed,
        item(11, "empty", f32_le=None),
        item(12, "ordinal", ordinal=-1, content="\0"),
        item(13, "last"),
    ]
    done = await ingest(vectors, [start(name), *items])
    assert done.states == [CREATED, *[FAILED] * 11, CREATED]
    assert done.errors == [(3, "INVALID_FIELD")] * 11
    messages = [ack.error.message for ack in done.acks[1:12]]
    assert messages[0] == "chunk.embedding: 12 bytes; 4 float32 values take 16"
    assert "not finite" in messages[1]
    assert "not finite" in messages[2]
    assert "65504" in messages[3]
    assert "no direction" in messages[4]
    assert messages[5] == "chunk.content: 65537 characters; at most 65536 are allowed"
    assert messages[6].startswith("chunk.chunk_id: ")
    assert messages[7].startswith("document_id: must be empty")
    assert messages[8].startswith("chunk.chunk_metadata.page: ")
    assert messages[9].startswith("chunk.content: is required")
    assert "chunk.content: " in messages[10]
    assert "chunk.ordinal: " in messages[10]
    assert set(await chunks_of(vectors, name)) == {"good", "last"}
    assert (done.finished.created_count, done.finished.failed_count) == (2, 11)


async def test_items_of_documents_that_take_none_fail_alone(
    knowledge: Any, vectors: Any, space: c.Collection, make_collection: Any
) -> None:
    good = await make_document(knowledge, space, "good")
    other = await make_collection(dimension=4)
    await make_document(knowledge, other, "elsewhere")
    gone = await make_document(knowledge, space, "gone")
    await knowledge.DeleteDocument(k.DeleteDocumentRequest(name=gone))
    items = [
        item(1, "c", "good"),
        item(2, "c", "elsewhere"),
        item(3, "c", "gone"),
        item(4, "c"),
        item(5, "d", "good"),
    ]
    done = await ingest(vectors, [start(space.name), *items])
    assert done.states == [CREATED, FAILED, FAILED, FAILED, CREATED]
    assert done.errors == [(5, "RESOURCE_NOT_FOUND"), (9, "WRONG_STATE"), (3, "INVALID_FIELD")]
    assert set(await chunks_of(vectors, good)) == {"c", "d"}
    assert len(done.events) == 1


async def test_chunks_of_a_document_that_the_server_cuts_are_not_written(
    knowledge: Any, vectors: Any, collection: c.Collection
) -> None:
    name = await make_document(
        knowledge, collection, "cut", origin=d.ORIGIN_SERVER, content="A text of the server's."
    )
    before = await chunks_of(vectors, name)
    vector = np.ones(collection.dimension, "<f4").tobytes()
    done = await ingest(vectors, [start(name), item(1, "mine", f32_le=vector)])
    assert (done.states, done.errors) == ([FAILED], [(9, "ORIGIN_MISMATCH")])
    assert set(await chunks_of(vectors, name)) == set(before)


async def test_a_text_without_a_vector_is_embedded_where_there_is_a_model(
    knowledge: Any, vectors: Any, collection: c.Collection, space: c.Collection
) -> None:
    name = await make_document(knowledge, collection, "a")
    done = await ingest(vectors, [start(name), item(1, "t", f32_le=None, content="A sore throat.")])
    assert done.states == [CREATED]
    found = (await chunks_of(vectors, name))["t"]
    assert found.state == ChunkState.CHUNK_STATE_ACTIVE
    assert len(found.embedding.f32_le) == 4 * collection.dimension
    name = await make_document(knowledge, space, "a")
    items = [item(1, "t", f32_le=None, content="A text."), item(2, "v", content="Another.")]
    done = await ingest(vectors, [start(name), *items])
    assert done.states == [FAILED, CREATED]
    assert done.errors == [(9, "MODEL_MISMATCH")]


async def test_the_mode_says_what_becomes_of_ids_that_are_there_or_missing(
    knowledge: Any, vectors: Any, space: c.Collection
) -> None:
    name = await make_document(knowledge, space, "a")
    first = [item(1, "x", content="one"), item(2, "x", content="two"), item(3, "y")]
    done = await ingest(vectors, [start(name, mode=INSERT_ONLY), *first])
    assert done.states == [CREATED, DUPLICATE, CREATED]
    assert done.acks[1].name == f"{name}/chunks/x"
    assert not done.acks[1].HasField("receipt")
    assert done.finished.duplicate_count == 1
    again = [item(1, "y", content="new"), item(2, "z"), item(3, "y", content="newer")]
    done = await ingest(vectors, [start(name, mode=UPDATE_ONLY), *again])
    assert (done.states, done.errors) == ([UPDATED, FAILED, UPDATED], [(5, "RESOURCE_NOT_FOUND")])
    done = await ingest(vectors, [start(name), item(1, "y"), item(2, "z"), item(3, "z")])
    assert done.states == [UPDATED, CREATED, UPDATED]
    found = await chunks_of(vectors, name)
    assert {key: chunk.content for key, chunk in found.items()} == {"x": "one", "y": "", "z": ""}
    stored = await knowledge.GetDocument(k.GetDocumentRequest(name=name))
    assert stored.document.chunk_count == 3


async def test_missing_documents_are_made_only_if_asked(
    knowledge: Any, vectors: Any, audit_log: Any, space: c.Collection
) -> None:
    items = [item(1, "a", "new-1"), item(2, "b", "new-2"), item(3, "c", "new-1")]
    items.append(item(4, "bad", "new-3", f32_le=b""))
    done = await ingest(vectors, [start(space.name), *items])
    assert done.states == [FAILED] * 4
    for mode, states in ((UPDATE_ONLY, [FAILED] * 3), (INSERT_ONLY, [CREATED] * 3)):
        begun = start(space.name, mode=mode, create_missing_documents=True)
        done = await ingest(vectors, [begun, *items])
        assert done.states == [*states, FAILED]
    listed = await knowledge.ListDocuments(k.ListDocumentsRequest(parent=space.name))
    documents = {each.name.rpartition("/")[2]: each for each in listed.documents}
    assert {key: each.chunk_count for key, each in documents.items()} == {"new-1": 2, "new-2": 1}
    assert all(each.origin == d.ORIGIN_CALLER for each in documents.values())
    request = a.ListAuditEventsRequest(filter='action = "documents.create"', page_size=1_000)
    events = (await audit_log.ListAuditEvents(request)).events
    made = [name for event in events for name in event.resources if name.startswith(space.name)]
    assert sorted(made) == sorted(each.name for each in documents.values())


async def test_a_broken_stream_goes_on_with_nothing_lost_or_doubled(
    knowledge: Any, vectors: Any, space: c.Collection
) -> None:
    name = await make_document(knowledge, space, "a")
    session = str(uuid.uuid4())
    stream = vectors.IngestChunks()
    await stream.write(start(name, session, mode=INSERT_ONLY))
    for n in range(1, 701):
        await stream.write(item(n, f"c{n}"))
    answers = [await stream.read(), await stream.read()]
    acknowledged = answers[1].acks.acks[-1].sequence
    stream.cancel()
    again = vectors.IngestChunks()
    await again.write(start(name, session, acknowledged, mode=INSERT_ONLY))
    resume_after = (await again.read()).started.resume_after
    assert acknowledged <= resume_after <= 700
    for n in range(resume_after + 1, 1001):
        await again.write(item(n, f"c{n}"))
    await again.done_writing()
    rest: list[Any] = []
    while (answer := await again.read()) is not grpc.aio.EOF:
        rest.append(answer)
    acks = [ack for answer in [*answers, *rest] for ack in answer.acks.acks]
    assert [ack.sequence for ack in acks] == list(range(1, 1001))
    assert {ack.state for ack in acks} == {CREATED}
    assert rest[-1].finished.created_count == 1000
    assert len(await chunks_of(vectors, name)) == 1000


@pytest.mark.parametrize(
    ("messages", "fields"),
    [
        ([item(1, "a")], {"start"}),
        ([start("collections/x/documents/y/chunks/z")], {"start.parent"}),
        (
            [start("collections/x", "no-uuid", -1, mode=9)],  # type: ignore[arg-type]
            {"start.session.session_id", "start.session.acknowledged", "start.mode"},
        ),
        (["start", item(2, "a")], {"item.sequence"}),
        (["start", "start"], {"item"}),
    ],
)
async def test_a_stream_that_breaks_the_protocol_is_refused(
    vectors: Any, space: c.Collection, messages: list[Any], fields: set[str]
) -> None:
    sent = [start(space.name) if message == "start" else message for message in messages]
    refusal = await refused_ingest(vectors, sent)
    assert (refusal.code, set(refusal.fields)) == (Code.INVALID_ARGUMENT, fields)


async def test_nobody_streams_into_a_collection_not_granted(secured_server: SecuredServer) -> None:
    vectors: Any = VectorServiceStub(secured_server.channel)
    stream = vectors.IngestChunks(
        iter([start(secured_server.foreign.name)]),
        metadata=secured_server.metadata("confined-writer"),
    )

    async def run() -> None:
        async for _ in stream:
            pass

    assert (await refused(run())).code is Code.NOT_FOUND
