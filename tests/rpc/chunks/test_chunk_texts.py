"""Chunks that come as text: embedded at once, or later by the workers."""

import asyncio
from typing import Any

import numpy as np
from given import f32

from knowledge.v1 import document_pb2 as d
from knowledge.v1 import vector_service_pb2 as v
from knowledge.v1.chunk_pb2 import Chunk, ChunkState
from knowledge.v1.vector_pb2 import Vector

ACTIVE, PENDING = ChunkState.CHUNK_STATE_ACTIVE, ChunkState.CHUNK_STATE_PENDING
ACTIVE, PENDING = ChunkState.CHUNK_STATE_ACTIVE, ChunkState.CHUNK_STATE_PENDING


async def test_text_without_a_vector_is_embedded_by_the_server(
    upsert: Any, get: Any, vectors: Any, texts: d.Document
) -> None:
    await upsert(texts, Chunk(chunk_id="a", content="high blood pressure"))
    found = await get(texts, "a")
    embedded = await vectors.EmbedTexts(v.EmbedTextsRequest(texts=["high blood pressure"]))
    assert found.state == ACTIVE
    assert found.token_count == 3
    assert_near(found.embedding, embedded.embeddings[0])


def assert_near(found: Vector, expected: Vector) -> None:
    """Equal but for what a batch of another shape does to the last digits."""
    values = [np.frombuffer(vector.f32_le, "<f4") for vector in (found, expected)]
    assert values[0].shape == values[1].shape
    assert np.dot(*values) > 0.999


async def test_a_text_that_changes_is_embedded_again(
    upsert: Any, get: Any, vectors: Any, texts: d.Document
) -> None:
    await upsert(texts, Chunk(chunk_id="a", content="a broken arm"))
    before = await get(texts, "a")
    await upsert(texts, Chunk(chunk_id="a", content="a cold in the nose"))
    after = await get(texts, "a")
    expected = await vectors.EmbedTexts(v.EmbedTextsRequest(texts=["a cold in the nose"]))
    assert after.uid == before.uid
    assert after.create_time == before.create_time
    assert after.update_time.ToNanoseconds() > before.update_time.ToNanoseconds()
    assert_near(after.embedding, expected.embeddings[0])


async def test_a_text_that_comes_with_a_vector_keeps_that_vector(
    upsert: Any, get: Any, texts: d.Document
) -> None:
    given = f32(*[0.5] * 384)
    await upsert(texts, Chunk(chunk_id="a", content="a broken arm", embedding=given))
    assert (await get(texts, "a")).embedding == given


async def test_many_texts_wait_and_then_their_document_is_active(
    upsert: Any, get: Any, read: Any, texts: d.Document
) -> None:
    many = [Chunk(chunk_id=f"c{i}", content=f"text {i}", ordinal=i) for i in range(80)]
    answer = await upsert(texts, *many)
    assert {each.state for each in answer.chunks} <= {PENDING, ACTIVE}

    async with asyncio.timeout(20):
        while (await read(texts)).state != d.DOCUMENT_STATE_ACTIVE:  # noqa: ASYNC110 - a server works
            await asyncio.sleep(0.1)
    found = await get(texts, "c79")
    assert found.state == ACTIVE
    assert found.HasField("embedding")


async def test_texts_that_no_longer_wait_leave_their_document_active(
    upsert: Any, read: Any, texts: d.Document
) -> None:
    many = [Chunk(chunk_id=f"c{i}", content=f"text {i}") for i in range(80)]
    await upsert(texts, *many)
    vector = f32(*[1.0] * 384)
    await upsert(texts, *(Chunk(chunk_id=f"c{i}", embedding=vector) for i in range(80)))
    assert (await read(texts)).state == d.DOCUMENT_STATE_ACTIVE
