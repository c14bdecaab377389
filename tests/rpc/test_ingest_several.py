"""IngestChunks with several items in a message, and chunks that are new beside others."""

import asyncio
import random
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from test_ingest import (
    CREATED,
    FAILED,
    UPDATED,
    chunks_of,
    f32,
    ingest,
    item,
    make_document,
    refused_ingest,
    space,  # noqa: F401 - a fixture
    start,
)

from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import vector_service_pb2 as v


def several(items: Sequence[Any]) -> Any:
    return v.IngestChunksRequest(items=v.IngestItems(items=[each.item for each in items]))


async def test_items_that_share_messages_are_acked_each_in_order(
    knowledge: Any,
    vectors: Any,
    space: c.Collection,  # noqa: F811
) -> None:
    name = await make_document(knowledge, space, "a")
    given = np.random.default_rng(6).standard_normal((1_250, 4), np.float32)
    items = [
        item(n, f"c{n}", f32_le=given[n - 1].tobytes(), content=f"text é {n}", ordinal=2 * n)
        for n in range(1, 1_251)
    ]
    items[700] = item(701, "short", f32_le=f32(1, 2, 3))
    parts = [items[:300], items[300:800], items[800:801], items[801:]]
    done = await ingest(vectors, [start(name), *map(several, parts)])
    assert [ack.sequence for ack in done.acks] == list(range(1, 1_251))
    assert [n for n, state in enumerate(done.states) if state != CREATED] == [700]
    assert (done.finished.created_count, done.finished.failed_count) == (1_249, 1)
    listed = await knowledge.GetDocument(k.GetDocumentRequest(name=name))
    assert listed.document.chunk_count == 1_249
    for n in (1, 300, 301, 801, 1_250):
        request = v.GetChunkRequest(name=f"{name}/chunks/c{n}", include_embedding=True)
        chunk = (await vectors.GetChunk(request)).chunk
        assert (chunk.content, chunk.ordinal) == (f"text é {n}", 2 * n)
        assert chunk.embedding.f32_le == given[n - 1].tobytes()
        assert chunk.token_count >= len(["text", "é", n])


async def test_metadata_of_new_chunks_and_of_their_document_is_filtered_on(
    knowledge: Any, vectors: Any, make_collection: Any
) -> None:
    fields = [
        c.FilterField(path="chunk_metadata.page", type=c.FILTER_FIELD_TYPE_NUMBER),
        c.FilterField(path="metadata.ward", type=c.FILTER_FIELD_TYPE_STRING),
    ]
    made = await make_collection(dimension=4, filter_fields=fields)
    name = await make_document(knowledge, made, "a", metadata={"ward": "B"})
    items = [item(n, f"c{n}", content="x") for n in (1, 2, 3)]
    for n, each in enumerate(items, 1):
        each.item.chunk.metadata["page"] = n
    assert (await ingest(vectors, [start(name), several(items)])).states == [CREATED] * 3
    request = v.SearchRequest(
        collection=made.name, filter='chunk_metadata.page >= 2 AND metadata.ward = "B"'
    )
    request.vector.f32_le = f32(1, 0, 0, 0)
    hits = (await vectors.Search(request)).hits
    assert {hit.chunk.chunk_id for hit in hits} == {"c2", "c3"}


async def test_new_and_known_chunks_of_two_documents_share_a_message(
    knowledge: Any,
    vectors: Any,
    space: c.Collection,  # noqa: F811
) -> None:
    old = await make_document(knowledge, space, "old")
    new = await make_document(knowledge, space, "new")
    await ingest(vectors, [start(old), item(1, "x", content="before")])
    items = [
        item(1, "x", "old", content="after", f32_le=f32(0, 1, 0, 0)),
        item(2, "y", "old", content="too"),
        item(3, "x", "new"),
        item(4, "x", "none"),
    ]
    done = await ingest(vectors, [start(space.name), several(items)])
    assert done.states == [UPDATED, CREATED, CREATED, FAILED]
    assert len(done.events) == 2
    found = await chunks_of(vectors, old)
    assert {key: chunk.content for key, chunk in found.items()} == {"x": "after", "y": "too"}
    assert found["x"].embedding.f32_le == f32(0, 1, 0, 0)
    assert set(await chunks_of(vectors, new)) == {"x"}


@pytest.mark.parametrize(
    ("items", "fields"),
    [
        ([], {"items.items"}),
        ([item(n, f"c{n}") for n in range(1, 502)], {"items.items"}),
        ([item(1, "a"), item(3, "b")], {"items.sequence"}),
    ],
)
async def test_a_message_of_too_many_items_or_none_or_out_of_order_is_refused(
    knowledge: Any,
    vectors: Any,
    space: c.Collection,  # noqa: F811
    items: list[Any],
    fields: set[str],
) -> None:
    name = await make_document(knowledge, space, "a")
    refusal = await refused_ingest(vectors, [start(name), several(items)])
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert set(refusal.fields) == fields
    assert await chunks_of(vectors, name) == {}


async def test_of_a_batch_that_was_read_in_part_the_rest_is_acked_again(
    knowledge: Any,
    vectors: Any,
    space: c.Collection,  # noqa: F811
) -> None:
    name, session = await make_document(knowledge, space, "a"), str(uuid.uuid4())
    items = [item(n, f"c{n}", content="x") for n in range(1, 10)]
    first = await ingest(vectors, [start(name, session), several(items)])
    again = await ingest(vectors, [start(name, session, 4), several([item(10, "c10")])])
    assert [ack.sequence for ack in again.acks] == [5, 6, 7, 8, 9, 10]
    assert again.acks[:5] == first.acks[4:]
    assert again.finished.created_count == 10


async def test_streams_cut_off_at_any_moment_leave_nothing_half_done(
    knowledge: Any,
    vectors: Any,
    space: c.Collection,  # noqa: F811
) -> None:
    name, session = await make_document(knowledge, space, "a"), str(uuid.uuid4())
    items = [item(n, f"c{n}", content="x") for n in range(1, 6_001)]
    settled, dice = 0, random.Random(9)
    for _ in range(12):
        stream = vectors.IngestChunks()
        await stream.write(start(name, session))
        settled = (await stream.read()).started.resume_after
        sending = asyncio.create_task(send_rest(stream, items[settled:]))
        await asyncio.sleep(dice.random() * 0.1)
        stream.cancel()
        await asyncio.wait([sending])
    done = await ingest(
        vectors, rest_of(name, session, await resumed(vectors, name, session), items)
    )
    assert done.finished.created_count == 6_000
    stored = await knowledge.GetDocument(k.GetDocumentRequest(name=name))
    assert stored.document.chunk_count == 6_000
    counted = await vectors.AggregateChunks(v.AggregateChunksRequest(collection=space.name))
    assert counted.chunk_count == 6_000


async def resumed(vectors: Any, name: str, session: str) -> int:
    stream = vectors.IngestChunks()
    await stream.write(start(name, session))
    after: int = (await stream.read()).started.resume_after
    stream.cancel()
    return after


def rest_of(name: str, session: str, after: int, items: Sequence[Any]) -> list[Any]:
    parts = [items[n : n + 70] for n in range(after, len(items), 70)]
    return [start(name, session), *map(several, parts)]


async def send_rest(stream: Any, items: Sequence[Any]) -> None:
    with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError, asyncio.CancelledError):
        for n in range(0, len(items), 70):
            await stream.write(several(items[n : n + 70]))
