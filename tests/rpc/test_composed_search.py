"""Searches for words, by example, over several collections; diverse, grouped and explained hits."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from google.protobuf.struct_pb2 import Struct
from refusal import refused

from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import vector_service_pb2 as v
from knowledge.v1.chunk_pb2 import Chunk
from knowledge.v1.vector_pb2 import Vector

Code = grpc.StatusCode
TEXTS = {
    "diabetes": "E11.9 Type 2 diabetes mellitus without complications.",
    "insulin": "E10.9 Type 1 diabetes mellitus, treated with insulin.",
    "pressure": "I10 Essential hypertension: chronic increased pressure in the arteries.",
    "arm": "S52.501A Fracture of the lower end of the radius, a bone of the arm.",
    "metformin": "Metformin lowers the glucose that the liver makes.",
    "heart": "Heart failure: the heart pumps less blood than the body needs.",
}
HITS = v.INCOMPLETE_REASON_UNSPECIFIED

Search = Callable[..., Awaitable[v.SearchResponse]]


@pytest.fixture
def search(vectors: Any) -> Search:
    async def ask(collection: c.Collection | None, **fields: Any) -> v.SearchResponse:
        name = collection.name if collection else ""
        return await vectors.Search(v.SearchRequest(collection=name, **fields))

    return ask


async def write(knowledge: Any, collection: c.Collection, texts: dict[str, str]) -> None:
    for document_id, content in texts.items():
        await knowledge.CreateDocument(
            k.CreateDocumentRequest(
                parent=collection.name,
                document_id=document_id,
                document=d.Document(content=content, title=document_id),
            )
        )


@pytest_asyncio.fixture(loop_scope="session")
async def notes(knowledge: Any, collection: c.Collection) -> c.Collection:
    await write(knowledge, collection, TEXTS)
    return collection


@pytest_asyncio.fixture(loop_scope="session")
async def points(knowledge: Any, vectors: Any, make_collection: Any) -> c.Collection:
    """Three documents of four chunks each, with vectors around three directions."""
    collection = await make_collection(dimension=4)
    for place in range(3):
        parent = (
            await knowledge.CreateDocument(
                k.CreateDocumentRequest(
                    parent=collection.name,
                    document_id=f"d{place}",
                    document=d.Document(origin=d.ORIGIN_CALLER),
                )
            )
        ).document.name
        rows = np.eye(4, dtype="<f4")[[place] * 4] + 0.1 * np.arange(4)[:, None] * np.eye(4)[3]
        chunks = [
            Chunk(chunk_id=f"d{place}c{i}", ordinal=i, content=f"part {i}", embedding=point(row))
            for i, row in enumerate(rows)
        ]
        await vectors.UpsertChunks(v.UpsertChunksRequest(parent=parent, chunks=chunks))
    return collection


def point(values: Any) -> Vector:
    return Vector(f32_le=np.asarray(values, "<f4").tobytes())


def documents(answer: v.SearchResponse) -> list[str]:
    return [hit.document.name.rsplit("/", 1)[1] for hit in answer.hits]


def chunks(answer: v.SearchResponse) -> list[str]:
    return [hit.chunk.chunk_id for hit in answer.hits]


def by_words(text: str, **fields: Any) -> v.HybridQuery:
    return v.HybridQuery(text=text, vector_weight=0, **fields)


@pytest.mark.parametrize("text", ["E11.9", "what is E11.9?", "plan after a diagnosis of E11.9"])
async def test_a_code_is_found_first(text: str, search: Search, notes: c.Collection) -> None:
    answer = await search(notes, hybrid=v.HybridQuery(text=text))
    assert documents(answer)[0] == "diabetes"
    assert answer.hits[0].score > answer.hits[1].score + 0.15


async def test_other_words_for_the_same_are_found_by_hybrid_but_not_by_words(
    search: Search, notes: c.Collection
) -> None:
    hybrid = await search(notes, hybrid=v.HybridQuery(text="broken wrist"))
    assert documents(hybrid)[0] == "arm"
    assert len(hybrid.hits) == len(TEXTS)
    words = await search(notes, hybrid=by_words("broken wrist"))
    assert documents(words) == []
    assert words.incomplete_reason == v.INCOMPLETE_REASON_TEXT_EXHAUSTED


async def test_words_alone_find_what_holds_any_of_them_in_any_form(
    search: Search, notes: c.Collection
) -> None:
    answer = await search(notes, hybrid=by_words("fractures of bones and metformin"))
    assert documents(answer) == ["arm", "metformin"]


async def test_what_is_quoted_must_stand_in_every_hit(search: Search, notes: c.Collection) -> None:
    loose = await search(notes, hybrid=v.HybridQuery(text="type 2 diabetes"))
    quoted = await search(notes, hybrid=v.HybridQuery(text='"type 2 diabetes" insulin'))
    assert len(loose.hits) == len(TEXTS)
    assert documents(quoted) == ["diabetes"]
    assert quoted.incomplete_reason == v.INCOMPLETE_REASON_TEXT_EXHAUSTED


async def test_the_score_is_the_weighted_sum_of_its_parts(
    search: Search, notes: c.Collection
) -> None:
    query = v.HybridQuery(text="chronic hypertension", vector_weight=0.5, text_weight=0.25)
    answer = await search(notes, hybrid=query, explain=True)
    for hit in answer.hits:
        parts = hit.score_parts
        expected = 0.5 * parts.vector_score + 0.25 * parts.text_score
        assert hit.score == pytest.approx(expected, abs=1e-6)
    best = answer.hits[0].score_parts
    # Both words stand in a chunk of seven different ones, none of them counted yet.
    assert best.text_score == pytest.approx(1 / (1 + 0.1 * np.log(1 + 6)), rel=0.03)
    (explained,) = answer.explanations
    assert explained.plan == v.SEARCH_PLAN_EXACT
    assert (explained.vector_candidates, explained.text_candidates) == (6, 1)


async def test_a_hybrid_query_takes_a_given_vector(search: Search, points: c.Collection) -> None:
    query = v.HybridQuery(text="part 2", vector=point([0, 1, 0, 0]))
    answer = await search(points, hybrid=query, limit=1)
    assert chunks(answer) == ["d1c2"]


async def test_words_keep_to_a_filter(search: Search, notes: c.Collection) -> None:
    answer = await search(
        notes, hybrid=by_words("diabetes mellitus"), filter="title = 'insulin'", limit=5
    )
    assert documents(answer) == ["insulin"]


@pytest.mark.parametrize(
    "text",
    [
        "it's o'clock \\ 'quoted' \\\\'",
        "a & b | !c <-> (d:*) E11.9:A",
        '"unbalanced',
        '"" "the" heart',
        "http://x.y/z?q='1' user@host.org -5 1e10 \u00df \u4e2d\u6587",
        "heart " * 1300,
    ],
)
async def test_no_text_breaks_a_search_for_words(
    text: str, search: Search, notes: c.Collection
) -> None:
    both = await search(notes, hybrid=v.HybridQuery(text=text), highlight=True)
    assert len(both.hits) == len(TEXTS)
    words = await search(notes, hybrid=by_words(text), explain=True)
    assert all(hit.score > 0 for hit in words.hits)


@pytest.mark.parametrize("text", ["the of and", "x" * 3000, '"the"', "& | ()"])
@pytest.mark.parametrize("vector_weight", [0.0, 0.7])
async def test_a_text_without_words_is_refused(
    text: str, vector_weight: float, search: Search, notes: c.Collection
) -> None:
    query = v.HybridQuery(text=text, vector_weight=vector_weight)
    refusal = await refused(search(notes, hybrid=query))
    assert refusal.code == Code.INVALID_ARGUMENT
    assert list(refusal.fields) == ["hybrid.text"]
    assert not (await search(notes, text=text, highlight=True)).hits[0].highlights


async def test_highlights_tell_where_the_words_stand(search: Search, notes: c.Collection) -> None:
    answer = await search(
        notes, hybrid=v.HybridQuery(text="increasing pressures"), highlight=True, limit=1
    )
    (hit,) = answer.hits
    shown = [hit.chunk.content[r.start : r.end] for r in hit.highlights]
    assert shown == ["increased", "pressure"]


async def test_a_text_that_has_the_marks_itself_gets_no_highlights(
    knowledge: Any, search: Search, collection: c.Collection
) -> None:
    await write(knowledge, collection, {"odd": "A \ue000heart\ue001 with marks."})
    (hit,) = (await search(collection, text="heart", highlight=True)).hits
    assert not hit.highlights
    assert hit.chunk.content == "A \ue000heart\ue001 with marks."


async def test_an_example_finds_its_like_but_not_itself(
    search: Search, points: c.Collection
) -> None:
    name = f"{points.name}/documents/d1"
    by_chunk = await search(points, example=v.ExampleQuery(names=[f"{name}/chunks/d1c0"]), limit=3)
    assert chunks(by_chunk) == ["d1c1", "d1c2", "d1c3"]
    by_document = await search(points, example=v.ExampleQuery(names=[name]))
    assert len(by_document.hits) == 8
    assert "d1" not in documents(by_document)


async def test_examples_that_are_gone_are_named(search: Search, points: c.Collection) -> None:
    names = [f"{points.name}/documents/d1", f"{points.name}/documents/none"]
    refusal = await refused(search(points, example=v.ExampleQuery(names=names)))
    assert refusal.code == Code.NOT_FOUND
    assert refusal.message.startswith("example.names[1]:")


async def test_an_example_outside_what_is_searched_is_refused(
    search: Search, points: c.Collection, notes: c.Collection
) -> None:
    names = [f"{notes.name}/documents/arm"]
    refusal = await refused(search(points, example=v.ExampleQuery(names=names)))
    assert (refusal.code, list(refusal.fields)) == (Code.INVALID_ARGUMENT, ["example.names[0]"])


async def test_several_collections_give_one_list(
    knowledge: Any, search: Search, make_collection: Any
) -> None:
    one, other = await make_collection(), await make_collection()
    await write(knowledge, one, {"pressure": TEXTS["pressure"], "arm": TEXTS["arm"]})
    await write(knowledge, other, {"heart": TEXTS["heart"]})
    answer = await search(None, collections=[one.name, other.name], text="the heart's blood")
    assert set(documents(answer)) == {"pressure", "arm", "heart"}
    assert answer.hits[0].chunk.name.startswith(other.name)
    scores = [hit.score for hit in answer.hits]
    assert scores == sorted(scores, reverse=True)
    alone = await search(other, text="the heart's blood")
    assert alone.hits[0].score == pytest.approx(scores[0], abs=1e-6)


async def test_collections_that_differ_in_kind_are_refused(
    search: Search, notes: c.Collection, points: c.Collection
) -> None:
    refusal = await refused(search(None, collections=[notes.name, points.name], text="x"))
    assert (refusal.code, list(refusal.fields)) == (Code.INVALID_ARGUMENT, ["collections"])


async def test_hits_by_document_count_documents(search: Search, points: c.Collection) -> None:
    query = point([1, 0.5, 0.2, 0])
    answer = await search(
        points,
        vector=query,
        limit=2,
        group_by_document=v.DocumentGrouping(chunks_per_document=2),
    )
    assert documents(answer) == ["d0", "d0", "d1", "d1"]
    assert answer.incomplete_reason == HITS
    all_three = await search(points, vector=query, limit=5, group_by_document=v.DocumentGrouping())
    assert documents(all_three) == ["d0", "d1", "d2"]
    assert all_three.incomplete_reason == v.INCOMPLETE_REASON_COLLECTION_EXHAUSTED


async def test_diversity_leaves_out_what_repeats(search: Search, points: c.Collection) -> None:
    query = point([1, 0.9, 0.8, 0])
    near = await search(points, vector=query, limit=3)
    assert documents(near) == ["d0", "d0", "d0"]
    diverse = await search(
        points, vector=query, limit=3, diversity=v.Diversity(candidates=12), explain=True
    )
    assert set(documents(diverse)) == {"d0", "d1", "d2"}
    assert diverse.hits[0].chunk.chunk_id == near.hits[0].chunk.chunk_id
    assert all(hit.score_parts.HasField("diversity_score") for hit in diverse.hits)
    assert not diverse.hits[0].chunk.HasField("embedding")
    same = await search(points, vector=query, limit=3, diversity=v.Diversity(strength=0))
    assert chunks(same) == chunks(near)


async def test_neighbours_stand_before_and_after(search: Search, points: c.Collection) -> None:
    answer = await search(
        points,
        vector=point([0, 0, 1, 0]),
        limit=2,
        neighbours=v.Neighbours(before=1, after=2),
    )
    first, second = answer.hits
    assert [first.chunk.chunk_id, second.chunk.chunk_id] == ["d2c0", "d2c1"]
    assert [each.chunk_id for each in first.before] == []
    assert [each.chunk_id for each in first.after] == ["d2c1", "d2c2"]
    assert [each.chunk_id for each in second.before] == ["d2c0"]
    assert second.before[0].content == "part 0"
    assert second.before[0].name == f"{points.name}/documents/d2/chunks/d2c0"


async def test_every_bad_field_is_named_at_once(search: Search, notes: c.Collection) -> None:
    query = v.HybridQuery(text=" ", vector_weight=float("nan"), text_weight=-1)
    refusal = await refused(
        search(
            notes,
            collections=[notes.name],
            hybrid=query,
            limit=1001,
            ef=0,
            min_score=float("nan"),
            diversity=v.Diversity(strength=2),
            group_by_document=v.DocumentGrouping(chunks_per_document=11),
            neighbours=v.Neighbours(before=-1, after=11),
            filter="nothing = 1 and",
        )
    )
    assert refusal.code == Code.INVALID_ARGUMENT
    assert set(refusal.fields) >= {
        "collection",
        "hybrid.text",
        "hybrid.vector_weight",
        "hybrid.text_weight",
        "limit",
        "ef",
        "min_score",
        "diversity.strength",
        "group_by_document.chunks_per_document",
        "neighbours.before",
        "neighbours.after",
        "filter",
    }


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"hybrid": v.HybridQuery(text="x", vector_weight=0, text_weight=0)}, "hybrid.text_weight"),
        ({"hybrid": v.HybridQuery(text="the of and", vector_weight=0)}, "hybrid.text"),
        ({"hybrid": v.HybridQuery(text="x", vector=Vector(f32_le=b"1"))}, "hybrid.vector"),
        ({"example": v.ExampleQuery()}, "example.names"),
        ({"example": v.ExampleQuery(names=["x", "x"])}, "example.names"),
        ({"vector": point([1] * 384), "highlight": True}, "highlight"),
        ({"text": "x", "diversity": v.Diversity(candidates=5)}, "diversity.candidates"),
    ],
    ids=str,
)
async def test_a_bad_field_is_named(
    fields: dict[str, Any], field: str, search: Search, notes: c.Collection
) -> None:
    refusal = await refused(search(notes, **fields))
    assert refusal.code == Code.INVALID_ARGUMENT
    assert field in refusal.fields


async def test_a_filter_is_explained(
    knowledge: Any, vectors: Any, search: Search, make_collection: Any
) -> None:
    collection = await make_collection(dimension=4)
    parent = (
        await knowledge.CreateDocument(
            k.CreateDocumentRequest(
                parent=collection.name, document=d.Document(origin=d.ORIGIN_CALLER)
            )
        )
    ).document.name
    odd = Struct()
    odd.update({"odd": True})
    written = [
        Chunk(chunk_id=f"c{i}", embedding=point([1, i, 0, 0]), metadata=odd if i % 2 else None)
        for i in range(7)
    ]
    await vectors.UpsertChunks(v.UpsertChunksRequest(parent=parent, chunks=written))
    answer = await search(
        collection, vector=point([1, 1, 0, 0]), filter="chunk_metadata.odd = true", explain=True
    )
    assert chunks(answer) == ["c1", "c3", "c5"]
    assert answer.incomplete_reason == v.INCOMPLETE_REASON_FILTER_EXHAUSTED
    assert answer.exact
    assert [e.plan for e in answer.explanations] == [v.SEARCH_PLAN_EXACT]
