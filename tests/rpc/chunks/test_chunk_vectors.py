"""Vectors that a caller gives: kept bit for bit, or refused and named."""

import struct as binary
from typing import Any

import grpc
import pytest
from given import chunk, f32, make_document
from refusal import refused

from knowledge.v1 import document_pb2 as d
from knowledge.v1 import vector_service_pb2 as v
from knowledge.v1.chunk_pb2 import Chunk
from knowledge.v1.vector_pb2 import FloatVector, Vector

Code = grpc.StatusCode
BITS = [
    "00000080" + "0000803f" + "01000000" + "01000080",  # -0.0, 1, the smallest denormals
    "ffff7f00" + "cdcc4c3e" + "00e07f47" + "00e07fc7",  # largest denormal, 0.2, ±65504
    "dbe84940" + "11223344" + "ffff7f3f" + "00008000",
]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("distance", [1, 2, 3])
async def test_an_embedding_comes_back_bit_for_bit(
    bits: str,
    distance: int,
    knowledge: Any,
    make_collection: Any,
    upsert: Any,
    get: Any,
    vectors: Any,
) -> None:
    collection = await make_collection(dimension=4, distance=distance)
    document = await make_document(knowledge, collection, d.ORIGIN_CALLER)
    await upsert(document, Chunk(chunk_id="a", embedding=Vector(f32_le=bytes.fromhex(bits))))
    assert (await get(document, "a")).embedding.f32_le.hex() == bits
    search = v.SearchRequest(
        collection=collection.name, vector=f32(1, 1, 1, 1), include_embedding=True
    )
    (hit,) = (await vectors.Search(search)).hits
    assert hit.chunk.embedding.f32_le.hex() == bits


async def test_both_forms_of_a_vector_mean_the_same(
    upsert: Any, get: Any, document: d.Document
) -> None:
    floats = Vector(floats=FloatVector(values=[0.1, -2.5, 1e-40, 3]))
    await upsert(document, Chunk(chunk_id="a", embedding=floats))
    assert (await get(document, "a")).embedding == f32(0.1, -2.5, 1e-40, 3)


BAD_VECTORS = {
    "nan": [1, float("nan"), 0, 0],
    "infinity": [1, float("inf"), 0, 0],
    "overflowing": [1, 7e4, 0, 0],
    "huge": [3e38, 0, 0, 0],
    "short": [1, 0, 0],
    "long": [1, 0, 0, 0, 0],
    "empty": [],
}


@pytest.mark.parametrize("name", BAD_VECTORS)
async def test_a_bad_vector_is_named_by_its_place_and_nothing_is_written(
    name: str, upsert: Any, listed: Any, document: d.Document
) -> None:
    bad = Chunk(chunk_id="c", embedding=f32(*BAD_VECTORS[name]))
    refusal = await refused(upsert(document, chunk("a"), chunk("b"), bad))
    assert (refusal.code, refusal.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert set(refusal.fields) == {"chunks[2].embedding"}
    assert await listed(document) == []


@pytest.mark.parametrize("tiny", [0.0, 1e-8, 1e-45])
async def test_a_vector_without_direction_is_refused_for_cosine_alone(
    tiny: float, knowledge: Any, make_collection: Any, upsert: Any, document: d.Document
) -> None:
    cosine = await make_document(knowledge, await make_collection(dimension=4), d.ORIGIN_CALLER)
    refusal = await refused(upsert(cosine, chunk("a"), chunk("b", tiny, 0, 0, 0)))
    assert set(refusal.fields) == {"chunks[1].embedding"}
    assert refusal.code is Code.INVALID_ARGUMENT
    await upsert(document, chunk("a"), chunk("b", tiny, 0, 0, 0))


def test_the_bits_tested_are_those_meant() -> None:
    values = [binary.unpack("<4f", bytes.fromhex(bits)) for bits in BITS]
    assert str(values[0][0]) == "-0.0"
    assert 0 < values[0][2] < 1.5e-45
    assert values[1][2:] == (65_504, -65_504)
