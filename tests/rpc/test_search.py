"""Search, over the wire: what is found, in which order, with which score, and what is refused."""

import uuid
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from filled import (
    NUMBER,
    STRING,
    Filled,
    Search,
    fill,
    found_documents,
    found_ids,
    random_vectors,
    struct,
    vector,
)
from google.protobuf.struct_pb2 import Value
from refusal import refused

from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import vector_service_pb2 as v
from knowledge.v1.vector_pb2 import FloatVector, Vector

Code = grpc.StatusCode
COMPLETE = v.INCOMPLETE_REASON_UNSPECIFIED
COLLECTION_EXHAUSTED = v.INCOMPLETE_REASON_COLLECTION_EXHAUSTED
FILTER_EXHAUSTED = v.INCOMPLETE_REASON_FILTER_EXHAUSTED
MIN_SCORE = v.INCOMPLETE_REASON_MIN_SCORE
MARKER = "Zebrafinch"


@pytest_asyncio.fixture(loop_scope="session")
async def small(knowledge: Any, vectors: Any, make_collection: Any) -> Filled:
    """Sixty chunks of 8 values, compared by L2."""
    collection = await make_collection(
        dimension=8,
        distance=c.DISTANCE_L2,
        filter_fields=[
            c.FilterField(path="chunk_metadata.place", type=NUMBER),
            c.FilterField(path="metadata.topic", type=STRING),
        ],
    )
    rows = random_vectors(60, 8)
    topic = struct(topic="gout", note={"by": "nurse"})
    await fill(knowledge, vectors, collection, rows, title="one", metadata=topic)
    return Filled(collection, rows)


@pytest_asyncio.fixture(loop_scope="session")
async def two_texts(knowledge: Any, collection: c.Collection) -> c.Collection:
    """A collection with the documents `pressure` and `arm`, cut by the server."""
    for document_id, content in (
        ("pressure", "Hypertension. The presence of chronic increased pressure in the arteries."),
        ("arm", "A fracture of the bones of the lower arm."),
    ):
        await knowledge.CreateDocument(
            k.CreateDocumentRequest(
                parent=collection.name,
                document_id=document_id,
                document=d.Document(content=content, title=document_id, labels={"k": "v"}),
            )
        )
    return collection


async def test_a_text_finds_what_means_the_same(search: Search, two_texts: c.Collection) -> None:
    answer = await search(two_texts, text="high blood pressure")
    assert found_documents(answer) == ["pressure", "arm"]
    assert answer.hits[0].score > answer.hits[1].score
    assert answer.incomplete_reason == COLLECTION_EXHAUSTED


async def test_a_hit_carries_the_chunks_text_and_its_document_without_content(
    search: Search, two_texts: c.Collection
) -> None:
    (hit,) = (await search(two_texts, text="blood pressure", limit=1)).hits
    assert hit.chunk.content.startswith("Hypertension.")
    assert hit.chunk.name == f"{hit.document.name}/chunks/{hit.chunk.chunk_id}"
    assert (hit.chunk.start_offset, hit.chunk.end_offset) == (0, len(hit.chunk.content))
    assert not hit.chunk.HasField("embedding")
    assert (hit.document.title, dict(hit.document.labels)) == ("pressure", {"k": "v"})
    assert hit.document.content == ""
    assert hit.document.revision == 1


async def test_a_text_and_its_embedding_find_the_same(
    search: Search, vectors: Any, two_texts: c.Collection
) -> None:
    request = v.EmbedTextsRequest(texts=["broken bone"], task=v.EMBEDDING_TASK_QUERY)
    (embedded,) = (await vectors.EmbedTexts(request)).embeddings
    by_text = await search(two_texts, text="broken bone")
    by_vector = await search(two_texts, vector=embedded)
    assert found_documents(by_text) == found_documents(by_vector) == ["arm", "pressure"]
    for one, other in zip(by_text.hits, by_vector.hits, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-3)


@pytest.mark.parametrize("distance", [c.DISTANCE_COSINE, c.DISTANCE_L2, c.DISTANCE_INNER_PRODUCT])
@pytest.mark.parametrize("dimension", [1, 3, 384])
async def test_scores_are_the_documented_formula_in_float32(
    distance: c.Distance,
    dimension: int,
    knowledge: Any,
    vectors: Any,
    make_collection: Any,
    search: Search,
) -> None:
    collection = await make_collection(dimension=dimension, distance=distance)
    filled = Filled(collection, random_vectors(40, dimension))
    await fill(knowledge, vectors, collection, filled.rows)
    query = random_vectors(1, dimension, seed=8)[0]
    expected = filled.scores(query)
    answer = await search(collection, vector=vector(query), limit=1000)
    places = [int(hit.chunk.metadata["place"]) for hit in answer.hits]
    assert sorted(places) == list(range(40))
    scores = np.asarray([hit.score for hit in answer.hits])
    np.testing.assert_allclose(scores, expected[places], rtol=2e-6, atol=2e-6)
    assert list(scores) == sorted(scores, reverse=True)
    assert answer.exact


async def test_equal_scores_come_in_the_order_of_their_uids(
    knowledge: Any, vectors: Any, make_collection: Any, search: Search
) -> None:
    collection = await make_collection(dimension=2)
    await fill(knowledge, vectors, collection, np.ones((30, 2), np.float32))
    answer = await search(collection, vector=vector([1, 1]), limit=30)
    uids = [hit.chunk.uid for hit in answer.hits]
    assert uids == sorted(uids)
    assert (
        found_ids(await search(collection, vector=vector([1, 1]), limit=7)) == found_ids(answer)[:7]
    )


async def test_a_smaller_limit_gives_the_beginning_of_a_larger_ones_answer(
    search: Search, small: Filled
) -> None:
    query = vector(small.rows[3])
    every = found_ids(await search(small.collection, vector=query, limit=60, exact=True))
    assert len(every) == 60
    for limit in (1, 2, 10, 59):
        answer = await search(small.collection, vector=query, limit=limit, exact=True)
        assert found_ids(answer) == every[:limit]
        assert answer.incomplete_reason == COMPLETE


async def test_the_limit_is_ten_by_default(search: Search, small: Filled) -> None:
    answer = await search(small.collection, vector=vector(small.rows[0]))
    assert len(answer.hits) == 10
    assert answer.hits[0].score == 1
    assert answer.incomplete_reason == COMPLETE


async def test_a_list_of_floats_is_a_vector_too(search: Search, small: Filled) -> None:
    floats = Vector(floats=FloatVector(values=small.rows[5].tolist()))
    as_floats = await search(small.collection, vector=floats)
    as_bytes = await search(small.collection, vector=vector(small.rows[5]))
    assert as_floats == as_bytes


async def test_hits_below_min_score_are_left_out_and_the_answer_says_so(
    search: Search, small: Filled
) -> None:
    query = vector(small.rows[0])
    every = (await search(small.collection, vector=query, limit=20)).hits
    least = every[4].score
    answer = await search(small.collection, vector=query, limit=20, min_score=least)
    assert [hit.score for hit in answer.hits] == [hit.score for hit in every if hit.score >= least]
    assert answer.incomplete_reason == MIN_SCORE
    full = await search(small.collection, vector=query, limit=3, min_score=least)
    assert (len(full.hits), full.incomplete_reason) == (3, COMPLETE)


async def test_a_min_score_of_zero_or_less_is_one_too(
    knowledge: Any, vectors: Any, make_collection: Any, search: Search
) -> None:
    collection = await make_collection(dimension=1, distance=c.DISTANCE_INNER_PRODUCT)
    await fill(knowledge, vectors, collection, np.asarray([[2], [0], [-1]], np.float32))
    for least, expected in ((0.0, ["c0", "c1"]), (-1.0, ["c0", "c1", "c2"]), (2.5, [])):
        answer = await search(collection, vector=vector([1]), min_score=least, limit=3)
        assert found_ids(answer) == expected


FILTERS = [
    ("chunk_metadata.place < 5", lambda i: i < 5),
    ("chunk_metadata.place >= 10 chunk_metadata.place < 13", lambda i: 10 <= i < 13),
    ('chunk_metadata.kind = "odd"', lambda i: i % 2 == 1),
    ('chunk_metadata.place < 9 NOT chunk_metadata.kind = "odd"', lambda i: i < 9 and i % 2 == 0),
    ('chunk_id = "c7" OR chunk_id = "c8"', lambda i: i in (7, 8)),
    ('metadata.topic = "gout" chunk_metadata.place = 3', lambda i: i == 3),
    ('metadata.note.by = "nurse" title = "one"', lambda i: True),
    ('metadata.topic = "asthma"', lambda i: False),
    ("chunk_metadata.place = null", lambda i: False),
]


@pytest.mark.parametrize(("filter", "passes"), FILTERS)
async def test_a_filter_leaves_what_passes_and_says_when_there_is_no_more(
    filter: str, passes: Callable[[int], bool], search: Search, small: Filled
) -> None:
    query = small.rows[0]
    order = np.argsort(-small.scores(query), kind="stable")
    expected = [f"c{i}" for i in order if passes(int(i))]
    answer = await search(small.collection, vector=vector(query), filter=filter, limit=60)
    assert found_ids(answer) == expected
    assert answer.incomplete_reason == (COMPLETE if len(expected) == 60 else FILTER_EXHAUSTED)


async def test_a_filter_takes_bound_values(search: Search, small: Filled) -> None:
    answer = await search(
        small.collection,
        vector=vector(small.rows[0]),
        filter="chunk_metadata.place = @place",
        filter_values={"place": Value(number_value=4)},
    )
    assert found_ids(answer) == ["c4"]


async def test_an_empty_collection_is_exhausted(search: Search, make_collection: Any) -> None:
    answer = await search(await make_collection(dimension=2), vector=vector([1, 0]))
    assert (len(answer.hits), answer.incomplete_reason) == (0, COLLECTION_EXHAUSTED)


async def test_embeddings_come_when_asked_for(search: Search, small: Filled) -> None:
    answer = await search(small.collection, vector=vector(small.rows[0]), include_embedding=True)
    for hit in answer.hits:
        place = int(hit.chunk.metadata["place"])
        assert hit.chunk.embedding == vector(small.rows[place])


async def test_a_deleted_document_is_found_no_more(
    search: Search, knowledge: Any, two_texts: c.Collection
) -> None:
    name = f"{two_texts.name}/documents/pressure"
    await knowledge.DeleteDocument(k.DeleteDocumentRequest(name=name))
    assert found_documents(await search(two_texts, text="high blood pressure")) == ["arm"]


async def test_a_changed_text_is_found_by_what_it_says_now(
    search: Search, knowledge: Any, two_texts: c.Collection
) -> None:
    changed = d.Document(name=f"{two_texts.name}/documents/arm", content="The common cold.")
    await knowledge.UpdateDocument(k.UpdateDocumentRequest(document=changed))
    answer = await search(two_texts, text="runny nose")
    assert found_documents(answer)[0] == "arm"
    assert answer.hits[0].chunk.content == "The common cold."
    assert not [hit for hit in answer.hits if "fracture" in hit.chunk.content]


async def test_changed_metadata_is_filtered_by_what_it_is_now(
    search: Search, knowledge: Any, two_texts: c.Collection
) -> None:
    changed = d.Document(name=f"{two_texts.name}/documents/arm", metadata=struct(ward="B"))
    await knowledge.UpdateDocument(k.UpdateDocumentRequest(document=changed))
    answer = await search(two_texts, text="anything", filter='metadata.ward = "B"')
    assert found_documents(answer) == ["arm"]


async def test_a_deleted_collection_is_searched_no_more(
    search: Search, knowledge: Any, small: Filled
) -> None:
    await search(small.collection, vector=vector(small.rows[0]))
    request = k.DeleteCollectionRequest(name=small.collection.name, force=True)
    await knowledge.DeleteCollection(request)
    refusal = await refused(search(small.collection, vector=vector(small.rows[0])))
    assert refusal.code is Code.NOT_FOUND


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "query"),
        ({"text": ""}, "text"),
        ({"text": " \n\t"}, "text"),
        ({"text": "x" * 8193}, "text"),
        ({"text": f"{MARKER}\0"}, "text"),
        ({"text": "x", "limit": 0}, "limit"),
        ({"text": "x", "limit": 1001}, "limit"),
        ({"text": "x", "limit": -1}, "limit"),
        ({"text": "x", "ef": 0}, "ef"),
        ({"text": "x", "ef": 1001}, "ef"),
        ({"text": "x", "ef": -5}, "ef"),
        ({"text": "x", "min_score": float("nan")}, "min_score"),
        ({"text": "x", "filter": f"title = '{MARKER}"}, "filter"),
        ({"text": "x", "filter": f"{MARKER} = 1"}, "filter"),
        ({"text": "x", "filter": "content = 'x'"}, "filter"),
        ({"text": "x", "filter": "revision = 'x'"}, "filter"),
        ({"vector": Vector()}, "vector"),
        ({"vector": Vector(f32_le=b"\0\0\0")}, "vector"),
        ({"vector": vector([1] * 383)}, "vector"),
        ({"vector": vector([1] * 385)}, "vector"),
        ({"vector": vector([0] * 384)}, "vector"),
        ({"vector": vector([1e-9] * 384)}, "vector"),
        ({"vector": vector([float("nan")] * 384)}, "vector"),
        ({"vector": vector([float("inf")] + [0] * 383)}, "vector"),
        ({"vector": vector([7e4] + [0] * 383)}, "vector"),
        ({"vector": Vector(floats=FloatVector(values=[1]))}, "vector"),
    ],
    ids=str,
)
async def test_a_bad_field_is_named(
    fields: dict[str, Any], field: str, search: Search, collection: c.Collection
) -> None:
    refusal = await refused(search(collection, **fields))
    assert (refusal.code, refusal.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert set(refusal.fields) == {field}
    assert MARKER not in refusal.raw


async def test_all_bad_fields_are_named_at_once(search: Search, collection: c.Collection) -> None:
    refusal = await refused(search(collection, limit=0, ef=0, filter="=", min_score=float("nan")))
    assert set(refusal.fields) == {"query", "limit", "ef", "filter", "min_score"}


@pytest.mark.parametrize("name", ["", "x", "collections/", "collections/a/documents/b"])
async def test_a_name_of_another_shape_is_refused(name: str, vectors: Any) -> None:
    refusal = await refused(vectors.Search(v.SearchRequest(collection=name, text="x")))
    assert (refusal.code, set(refusal.fields)) == (Code.INVALID_ARGUMENT, {"collection"})


async def test_an_unknown_collection_is_not_found(vectors: Any) -> None:
    request = v.SearchRequest(collection=f"collections/{uuid.uuid4()}", text="x")
    assert (await refused(vectors.Search(request))).code is Code.NOT_FOUND


async def test_a_collection_of_another_model_is_searched_by_vector_alone(
    search: Search, small: Filled
) -> None:
    refusal = await refused(search(small.collection, text="high blood pressure"))
    assert (refusal.code, refusal.reason) == (Code.FAILED_PRECONDITION, "MODEL_MISMATCH")
    assert len((await search(small.collection, vector=vector(small.rows[0]))).hits) == 10


async def test_an_answer_that_would_pass_the_message_limit_says_what_to_ask_less_of(
    knowledge: Any, vectors: Any, make_collection: Any, search: Search
) -> None:
    collection = await make_collection(dimension=1900)
    await fill(knowledge, vectors, collection, random_vectors(600, 1900))
    asked = {"vector": vector(np.ones(1900)), "limit": 600}
    refusal = await refused(search(collection, include_embedding=True, **asked))
    assert (refusal.code, refusal.reason) == (Code.RESOURCE_EXHAUSTED, "ANSWER_TOO_LARGE")
    assert "limit" in refusal.message
    assert "include_embedding" in refusal.message
    assert len((await search(collection, **asked)).hits) == 600
