"""What is told of a collection as a whole: counts, indexes, recall; and batches of searches."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from google.protobuf.struct_pb2 import Struct
from numpy.typing import NDArray
from refusal import refused

from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import vector_service_pb2 as v
from knowledge.v1.chunk_pb2 import Chunk
from knowledge.v1.vector_pb2 import Vector

Code = grpc.StatusCode
NUMBER = c.FILTER_FIELD_TYPE_NUMBER
ROWS = 3_200
Fill = Callable[..., Awaitable[None]]


def struct(**values: Any) -> Struct:
    made = Struct()
    made.update(values)
    return made


def vector(values: Any) -> Vector:
    return Vector(f32_le=np.asarray(values, "<f4").tobytes())


def clouds(count: int, seed: int) -> NDArray[np.float32]:
    """Vectors of 16 values around 30 centres; (count, 16)."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(1).normal(size=(30, 16))
    noise = 0.4 * random.normal(size=(count, 16))
    return (centres[random.integers(30, size=count)] + noise).astype(np.float32)


async def fill(knowledge: Any, vectors: Any, collection: c.Collection, rows: Any) -> None:
    """Chunks `c0`, … with metadata: `part` 0 to 999, `tags`, and `odd` on every second."""
    for first in range(0, len(rows), 800):
        request = k.CreateDocumentRequest(
            parent=collection.name,
            document=d.Document(
                origin=d.ORIGIN_CALLER,
                metadata=struct(place=first, note={"by": "nurse"}),
                labels={"kind": "test"},
            ),
        )
        parent = (await knowledge.CreateDocument(request)).document.name
        chunks = [
            Chunk(
                chunk_id=f"c{i}",
                embedding=vector(row),
                metadata=struct(part=i % 1000, tags=["all", f"t{i % 3}"], odd=i % 2 == 1 or None),
            )
            for i, row in enumerate(rows[first : first + 800], first)
        ]
        await vectors.UpsertChunks(v.UpsertChunksRequest(parent=parent, chunks=chunks))


async def make(knowledge: Any, vectors: Any, rows: Any) -> c.Collection:
    field = c.FilterField(path="chunk_metadata.part", type=NUMBER)
    request = k.CreateCollectionRequest(
        collection=c.Collection(dimension=16, filter_fields=[field]),
        collection_id=f"test-{uuid.uuid4().hex}",
    )
    collection = (await knowledge.CreateCollection(request)).collection
    await fill(knowledge, vectors, collection, rows)
    return collection


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def small(knowledge: Any, vectors: Any) -> c.Collection:
    return await make(knowledge, vectors, clouds(30, 2))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def indexed(knowledge: Any, vectors: Any) -> c.Collection:
    """Large enough for an index, and it is there."""
    collection = await make(knowledge, vectors, clouds(ROWS, 3))
    async with asyncio.timeout(90):
        while True:
            stats = await stats_of(vectors, collection)
            if stats.state == v.INDEX_STATE_READY and all(f.ready for f in stats.filter_fields):
                return collection
            await asyncio.sleep(0.3)


async def stats_of(vectors: Any, collection: c.Collection) -> v.GetIndexStatsResponse:
    return await vectors.GetIndexStats(v.GetIndexStatsRequest(collection=collection.name))


async def test_facets_count_values_and_what_has_none(vectors: Any, small: c.Collection) -> None:
    answer = await vectors.AggregateChunks(
        v.AggregateChunksRequest(
            collection=small.name,
            facets=["chunk_metadata.tags", "chunk_metadata.odd", "metadata.note.by", "labels.kind"],
            facet_limit=2,
        )
    )
    assert (answer.chunk_count, answer.document_count) == (30, 1)
    tags, odd, by, kind = answer.facets
    counts = [(each.value.string_value, each.chunk_count) for each in tags.values]
    assert counts == [("all", 30), ("t0", 10)]
    assert (tags.distinct_count, tags.missing_count) == (4, 0)
    assert [(each.value.bool_value, each.chunk_count) for each in odd.values] == [(True, 15)]
    assert odd.missing_count == 15
    assert by.values[0].value.string_value == "nurse"
    assert kind.values[0].chunk_count == 30


async def test_counts_keep_to_the_filter(vectors: Any, small: c.Collection) -> None:
    request = v.AggregateChunksRequest(collection=small.name, filter="chunk_metadata.part < 4")
    assert (await vectors.AggregateChunks(request)).chunk_count == 4
    request.filter = "chunk_metadata.part < 0"
    empty = await vectors.AggregateChunks(request)
    assert (empty.chunk_count, empty.document_count) == (0, 0)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"facets": ["content"]}, "facets[0]"),
        ({"facets": ["metadata"]}, "facets[0]"),
        ({"facets": ["metadata.a", "metadata.a"]}, "facets"),
        ({"facets": [f"metadata.{i}" for i in range(9)]}, "facets"),
        ({"facet_limit": 0}, "facet_limit"),
        ({"filter": "x ="}, "filter"),
    ],
    ids=str,
)
async def test_bad_counts_are_refused(
    fields: dict[str, Any], field: str, vectors: Any, small: c.Collection
) -> None:
    request = v.AggregateChunksRequest(collection=small.name, **fields)
    refusal = await refused(vectors.AggregateChunks(request))
    assert refusal.code == Code.INVALID_ARGUMENT
    assert field in refusal.fields


async def test_a_small_collection_has_no_index_and_full_recall(
    vectors: Any, small: c.Collection
) -> None:
    stats = await stats_of(vectors, small)
    assert stats.state == v.INDEX_STATE_NONE
    assert not stats.HasField("vector_index")
    assert stats.vector_bytes > 0
    measured = await vectors.MeasureRecall(v.MeasureRecallRequest(collection=small.name))
    assert (measured.recall, measured.query_count) == (1.0, 20)
    assert measured.plan == v.SEARCH_PLAN_EXACT


async def test_an_index_is_told_of_and_measured(vectors: Any, indexed: c.Collection) -> None:
    stats = await stats_of(vectors, indexed)
    assert stats.vector_index.bytes > 100_000
    assert (stats.vector_index.m, stats.vector_index.ef_construction) == (16, 200)
    assert stats.estimated_chunks == pytest.approx(ROWS, rel=0.1)
    assert [(field.path, field.ready) for field in stats.filter_fields] == [
        ("chunk_metadata.part", True)
    ]
    assert stats.filter_fields[0].bytes > 0
    request = v.MeasureRecallRequest(
        collection=indexed.name, queries=[vector(row) for row in clouds(20, 4)]
    )
    measured = await vectors.MeasureRecall(request)
    assert measured.plan == v.SEARCH_PLAN_INDEX
    assert measured.recall >= 0.9
    assert measured.lowest_recall <= measured.recall
    assert 0 < measured.latency.p50_milliseconds <= measured.latency.p95_milliseconds
    request.ef = 1
    request.limit = 1
    assert (await vectors.MeasureRecall(request)).ef == 1


async def test_a_measurement_keeps_to_its_filter(vectors: Any, indexed: c.Collection) -> None:
    request = v.MeasureRecallRequest(
        collection=indexed.name, sample_size=5, filter="chunk_metadata.part < 5"
    )
    measured = await vectors.MeasureRecall(request)
    assert measured.plan == v.SEARCH_PLAN_FILTER_FIRST
    assert (measured.recall, measured.query_count) == (1.0, 5)


async def test_bad_measurements_are_refused(vectors: Any, small: c.Collection) -> None:
    request = v.MeasureRecallRequest(
        collection=small.name, queries=[vector([1] * 16)], sample_size=0, limit=101, ef=0
    )
    refusal = await refused(vectors.MeasureRecall(request))
    assert set(refusal.fields) == {"sample_size", "limit", "ef"}
    request = v.MeasureRecallRequest(
        collection=small.name, queries=[vector([1] * 16), vector([1] * 15)]
    )
    assert list((await refused(vectors.MeasureRecall(request))).fields) == ["queries[1]"]


@pytest.mark.parametrize("field", ["part", "undeclared"])
@pytest.mark.parametrize("share", [1, 10, 100, 500])
async def test_filters_give_full_answers_near_those_of_an_exact_search(
    share: int, field: str, vectors: Any, indexed: c.Collection
) -> None:
    """An undeclared field is the document's own place, which needs a join, beside the part."""
    filter = f"chunk_metadata.part < {share}"
    if field == "undeclared":
        filter += " metadata.place >= 0"
    queries = clouds(20, 5)
    found, wanted = 0, 0
    for row in queries:
        request = v.SearchRequest(
            collection=indexed.name, vector=vector(row), filter=filter, explain=True
        )
        answer = await vectors.Search(request)
        request.exact = True
        exact = await vectors.Search(request)
        assert len(answer.hits) == len(exact.hits) == min(10, ROWS * share // 1000 + 1)
        (explained,) = answer.explanations
        few = share * ROWS / 1000 <= 1_000
        assert (explained.plan == v.SEARCH_PLAN_FILTER_FIRST) == few
        truth = {hit.chunk.chunk_id for hit in exact.hits}
        wanted += len(truth)
        found += len(truth & {hit.chunk.chunk_id for hit in answer.hits})
    assert found / wanted >= 0.95


async def test_the_hits_of_a_smaller_limit_begin_those_of_a_larger_one(
    vectors: Any, indexed: c.Collection
) -> None:
    query = vector(clouds(1, 10)[0])
    lists = [
        [
            (hit.chunk.chunk_id, hit.score)
            for hit in (
                await vectors.Search(
                    v.SearchRequest(collection=indexed.name, vector=query, exact=True, limit=limit)
                )
            ).hits
        ]
        for limit in (1, 7, 100, 1000)
    ]
    assert [len(each) for each in lists] == [1, 7, 100, 1000]
    for shorter, longer in pairwise(lists):
        assert longer[: len(shorter)] == shorter


async def test_a_filter_that_three_match_gives_three_and_the_reason(
    vectors: Any, indexed: c.Collection
) -> None:
    request = v.SearchRequest(
        collection=indexed.name,
        vector=vector(clouds(1, 6)[0]),
        filter="chunk_metadata.part = 700",
        explain=True,
    )
    answer = await vectors.Search(request)
    assert {hit.chunk.chunk_id for hit in answer.hits} == {"c700", "c1700", "c2700"}
    assert answer.incomplete_reason == v.INCOMPLETE_REASON_FILTER_EXHAUSTED
    assert answer.exact
    assert answer.explanations[0].filter_passes == 3


async def test_a_batch_finds_what_its_searches_find_alone(
    vectors: Any, indexed: c.Collection, small: c.Collection
) -> None:
    plain = [v.SearchRequest(vector=vector(row)) for row in clouds(12, 7)]
    others = [
        v.SearchRequest(vector=vector(clouds(1, 8)[0]), filter="chunk_metadata.part < 50"),
        v.SearchRequest(vector=vector(clouds(1, 8)[0]), limit=3),
        v.SearchRequest(collection=small.name, vector=vector(clouds(1, 9)[0])),
    ]
    batch = v.BatchSearchRequest(collection=indexed.name, searches=[*plain, *others])
    answer = await vectors.BatchSearch(batch)
    for result, search in zip(answer.results, batch.searches, strict=True):
        search.collection = search.collection or indexed.name
        alone = await vectors.Search(search)
        assert result == alone


async def test_a_batch_of_texts_is_found_by_meaning(
    knowledge: Any, vectors: Any, collection: c.Collection
) -> None:
    for content in ("Pressure in the arteries.", "A bone of the arm."):
        await knowledge.CreateDocument(
            k.CreateDocumentRequest(parent=collection.name, document=d.Document(content=content))
        )
    texts = [
        v.SearchRequest(text="hypertension", limit=1),
        v.SearchRequest(hybrid=v.HybridQuery(text="broken bone"), limit=1),
    ]
    answer = await vectors.BatchSearch(
        v.BatchSearchRequest(collection=collection.name, searches=texts)
    )
    found = [result.hits[0].chunk.content for result in answer.results]
    assert found == ["Pressure in the arteries.", "A bone of the arm."]


async def test_a_batch_names_every_bad_field_of_every_search(
    vectors: Any, small: c.Collection
) -> None:
    searches = [
        v.SearchRequest(text="x"),
        v.SearchRequest(limit=0, explain=True),
        v.SearchRequest(text="x", filter="x =", neighbours=v.Neighbours(after=1)),
    ]
    batch = v.BatchSearchRequest(collection=small.name, searches=searches)
    refusal = await refused(vectors.BatchSearch(batch))
    assert refusal.code == Code.INVALID_ARGUMENT
    assert set(refusal.fields) == {
        "searches[1].query",
        "searches[1].limit",
        "searches[1].explain",
        "searches[2].filter",
        "searches[2].neighbours",
    }
    for count in (0, 101):
        batch = v.BatchSearchRequest(
            collection=small.name, searches=[v.SearchRequest(text="x")] * count
        )
        assert list((await refused(vectors.BatchSearch(batch))).fields) == ["searches"]
