"""Vectors of query texts are kept, without the texts."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from knowledged.services.query_vectors import QueryVectors
from served import Model

KEY = b"k" * 32


class Counting:
    """The real model; it keeps which texts it was asked for."""

    def __init__(self, model: Model) -> None:
        self._embedder = model.embedder
        self.model_id = model.embedder.model_id
        self.model_digest = model.embedder.model_digest
        self.asked: list[list[str]] = []
        self.fails = False

    async def embed(
        self, texts: Sequence[str], *, urgent: bool = False, seconds_left: float | None = None
    ) -> object:
        self.asked.append(list(texts))
        await asyncio.sleep(0)
        if self.fails:
            raise RuntimeError("no model")
        return await self._embedder.embed(texts, urgent=urgent, seconds_left=seconds_left)


@pytest.fixture
def counting(model: Model) -> Counting:
    return Counting(model)


async def test_a_text_is_embedded_once_however_it_is_spaced(counting: Counting) -> None:
    vectors = QueryVectors(KEY)
    first = await vectors.embed(counting, ["high blood pressure", "gout"])
    again = await vectors.embed(counting, ["gout", " high  blood\tpressure"])
    assert again == first[::-1]
    assert counting.asked == [["high blood pressure", "gout"]]
    assert np.frombuffer(first[0], "<f4").shape == (384,)


async def test_those_who_ask_at_once_share_one_embedding(counting: Counting) -> None:
    vectors = QueryVectors(KEY)
    answers = await asyncio.gather(*(vectors.embed(counting, ["gout"]) for _ in range(5)))
    assert len(counting.asked) == 1
    assert all(answer == answers[0] for answer in answers)


async def test_who_gives_up_takes_nobody_along(counting: Counting) -> None:
    vectors = QueryVectors(KEY)
    first = asyncio.ensure_future(vectors.embed(counting, ["gout"]))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(vectors.embed(counting, ["gout"]))
    await asyncio.sleep(0)
    first.cancel()
    assert len((await second)[0]) == 4 * 384
    assert first.cancelled()


async def test_a_fault_is_not_kept(counting: Counting) -> None:
    vectors = QueryVectors(KEY)
    counting.fails = True
    with pytest.raises(RuntimeError):
        await vectors.embed(counting, ["gout"])
    counting.fails = False
    assert await vectors.embed(counting, ["gout"])


async def test_the_longest_unused_is_forgotten(counting: Counting) -> None:
    vectors = QueryVectors(KEY, most=2)
    for text in ("one", "two", "one", "three", "one", "two"):
        await vectors.embed(counting, [text])
    assert counting.asked == [["one"], ["two"], ["three"], ["two"]]


async def test_no_text_is_kept(counting: Counting) -> None:
    vectors = QueryVectors(KEY)
    await vectors.embed(counting, ["Zebrafinch"])
    assert b"ebrafinch" not in repr(vars(vectors)).encode()
