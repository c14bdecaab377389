"""Search by the index, over the wire: it finds what comparing all finds."""

import asyncio
from typing import Any

import numpy as np
from filled import NUMBER, Filled, Floats, Search, fill, found_ids, random_vectors, vector

from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import vector_service_pb2 as v

COMPLETE = v.INCOMPLETE_REASON_UNSPECIFIED
FILTER_EXHAUSTED = v.INCOMPLETE_REASON_FILTER_EXHAUSTED


async def test_the_index_finds_what_comparing_all_finds(
    knowledge: Any, vectors: Any, make_collection: Any, search: Search
) -> None:
    collection = await make_collection(
        dimension=32, filter_fields=[c.FilterField(path="chunk_metadata.place", type=NUMBER)]
    )
    filled = Filled(collection, random_vectors(3_500, 32))
    document = await fill(knowledge, vectors, collection, filled.rows)
    queries = random_vectors(20, 32, seed=9)
    await by_index(search, collection, queries[0])
    await check_recall(search, filled, queries)
    await check_filtered(search, filled, queries[0])
    await check_large_limit(search, filled, queries[1])
    await fill(knowledge, vectors, collection, filled.rows[:20])
    await knowledge.DeleteDocument(k.DeleteDocumentRequest(name=document))
    await check_remembered(search, filled, queries[0])


async def by_index(search: Search, collection: c.Collection, query: Floats) -> None:
    """Waits until searches go by the index."""
    async with asyncio.timeout(40):
        while (await search(collection, vector=vector(query))).exact:  # noqa: ASYNC110
            await asyncio.sleep(0.2)


async def check_recall(search: Search, filled: Filled, queries: Floats) -> None:
    shares: list[float] = []
    for query in queries:
        asked = {"vector": vector(query), "limit": 10}
        quick = await search(filled.collection, **asked)
        whole = await search(filled.collection, exact=True, **asked)
        assert (quick.exact, whole.exact) == (False, True)
        nearest = np.argsort(-filled.scores(query))[:10]
        assert set(found_ids(whole)) == {f"c{i}" for i in nearest}
        shares.append(len({*found_ids(quick)} & {*found_ids(whole)}) / 10)
        scores = {hit.chunk.uid: hit.score for hit in whole.hits}
        shared = [hit for hit in quick.hits if hit.chunk.uid in scores]
        assert all(hit.score == scores[hit.chunk.uid] for hit in shared)
    assert sum(shares) / len(shares) >= 0.95


async def check_filtered(search: Search, filled: Filled, query: Floats) -> None:
    """However narrow the filter, the answer is full as long as there is enough that passes."""
    for passing in (5, 12, 350, 3_000):
        answer = await search(
            filled.collection,
            vector=vector(query),
            filter=f"chunk_metadata.place < {passing}",
        )
        assert len(answer.hits) == min(10, passing)
        assert all(hit.chunk.metadata["place"] < passing for hit in answer.hits)
        assert answer.incomplete_reason == (FILTER_EXHAUSTED if passing < 10 else COMPLETE)
        again = await search(
            filled.collection,
            vector=vector(query),
            filter=f"chunk_metadata.place < {passing}",
            explain=True,
        )
        assert found_ids(again) == found_ids(answer)
        assert again.explanations[0].filter_passes == min(1_001, passing)


async def check_remembered(search: Search, filled: Filled, query: Floats) -> None:
    """That a filter was wide is known for a minute, in which nobody counts that it no longer is."""
    asked = {"vector": vector(query), "explain": True}
    known = await search(filled.collection, filter="chunk_metadata.place < 3000", **asked)
    counted = await search(filled.collection, filter="chunk_metadata.place < 3001", **asked)
    assert known.explanations[0].filter_passes == 1_001
    assert counted.explanations[0].filter_passes == 20
    assert len(known.hits) == len(counted.hits) == 10


async def check_large_limit(search: Search, filled: Filled, query: Floats) -> None:
    """A limit beyond ef is served in full, and a greater ef is taken."""
    answer = await search(filled.collection, vector=vector(query), limit=900, ef=1)
    assert (len(answer.hits), answer.incomplete_reason) == (900, COMPLETE)
    scores = [hit.score for hit in answer.hits]
    assert scores == sorted(scores, reverse=True)
    careful = await search(filled.collection, vector=vector(query), ef=1000)
    whole = await search(filled.collection, vector=vector(query), exact=True)
    assert found_ids(careful) == found_ids(whole)
