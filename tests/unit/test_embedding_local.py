import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from knowledged.embedding import bundled
from knowledged.embedding.embedder import Embedder
from knowledged.embedding.local import LocalEmbedder
from knowledged.embedding.tokenizer import TextTokenizer
from knowledged.errors import Overloaded, Unavailable

LONG = "The patient describes a dull pain behind the breastbone that grows worse on stairs. " * 30
SENTENCES = [f"Finding number {n}: " + "mild swelling of the joint " * (n % 7) for n in range(60)]

NewEmbedder = Callable[..., LocalEmbedder]


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return TextTokenizer(bundled.locate().tokenizer)


@pytest.fixture
async def new_embedder(tokenizer: TextTokenizer) -> AsyncIterator[NewEmbedder]:
    opened: list[LocalEmbedder] = []

    def new(**settings: int) -> LocalEmbedder:
        opened.append(LocalEmbedder(bundled.locate(), tokenizer, **settings))
        return opened[-1]

    yield new
    for embedder in opened:
        await embedder.close()


@pytest.fixture(scope="module")
def embedder(tokenizer: TextTokenizer) -> Iterator[LocalEmbedder]:
    embedder = LocalEmbedder(bundled.locate(), tokenizer)
    yield embedder
    asyncio.run(embedder.close())


def cosines(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.sum(left * right, axis=1)


async def test_the_bundled_model_says_what_it_is(embedder: LocalEmbedder):
    seam: Embedder = embedder
    assert seam.model_id == "all-MiniLM-L6-v2-int8"
    assert seam.model_digest == bundled.locate().model_sha256
    assert (seam.dimension, seam.max_tokens) == (384, 254)


async def test_lay_words_are_near_their_medical_term(embedder: LocalEmbedder):
    lay, term, other = await embedder.embed(
        ["high blood pressure", "Hypertension", "fracture of the arm"]
    )
    assert lay @ term > 0.6
    assert lay @ term > lay @ other + 0.3


async def test_vectors_are_unit_length_float32_in_one_block(embedder: LocalEmbedder):
    vectors = await embedder.embed(SENTENCES)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(SENTENCES), 384)
    assert vectors.flags.c_contiguous
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


async def test_order_is_kept_and_batch_mates_change_nothing(embedder: LocalEmbedder):
    together = await embedder.embed(SENTENCES)
    alone = np.concatenate([await embedder.embed([text]) for text in SENTENCES])
    assert cosines(together, alone).min() >= 0.999


async def test_no_texts_give_no_rows(embedder: LocalEmbedder):
    assert (await embedder.embed([])).shape == (0, 384)


async def test_an_empty_text_has_a_finite_vector(embedder: LocalEmbedder):
    assert np.isfinite(await embedder.embed([""])).all()


async def test_what_is_beyond_the_maximum_does_not_reach_the_vector(embedder: LocalEmbedder):
    assert embedder.count_tokens(LONG) > embedder.max_tokens
    cut, longer = await embedder.embed([LONG, LONG + "Unrelated: the recipe needs two eggs."])
    np.testing.assert_array_equal(cut, longer)


async def test_text_up_to_the_maximum_does_reach_the_vector(embedder: LocalEmbedder):
    words = " ".join(["pain"] * 253)
    assert embedder.count_tokens(f"{words} eggs") == embedder.max_tokens
    one, other = await embedder.embed([f"{words} eggs", f"{words} knee"])
    assert not np.array_equal(one, other)


async def test_tokens_are_counted_without_the_special_ones(embedder: LocalEmbedder):
    assert embedder.count_tokens("high blood pressure") == 3
    assert embedder.count_tokens("") == 0


async def test_urgent_texts_overtake_bulk(embedder: LocalEmbedder):
    finished: list[str] = []

    async def embed(name: str, texts: list[str], *, urgent: bool) -> None:
        await embedder.embed(texts, urgent=urgent)
        finished.append(name)

    bulk = asyncio.create_task(embed("bulk", [LONG] * 20, urgent=False))
    await asyncio.sleep(0.1)
    await embed("urgent", ["high blood pressure"], urgent=True)
    await bulk
    assert finished == ["urgent", "bulk"]


async def test_texts_beyond_the_bound_are_refused(new_embedder: NewEmbedder):
    embedder = new_embedder(max_waiting=4)
    waiting = asyncio.create_task(embedder.embed([LONG] * 4))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="4 texts wait to be embedded, the limit is 4"):
        await embedder.embed(["one more"])
    assert (await waiting).shape == (4, 384)
    assert (await embedder.embed(["there is room again"])).shape == (1, 384)


async def test_waiting_bulk_leaves_room_for_urgent_texts(new_embedder: NewEmbedder):
    embedder = new_embedder(max_waiting=4)
    waiting = asyncio.create_task(embedder.embed([LONG] * 4))
    await asyncio.sleep(0)
    assert (await embedder.embed(["high blood pressure"], urgent=True)).shape == (1, 384)
    await waiting


async def test_a_call_larger_than_the_bound_is_taken_when_none_waits(new_embedder: NewEmbedder):
    assert (await new_embedder(max_waiting=4).embed(SENTENCES[:6])).shape == (6, 384)


async def test_a_cancelled_call_gives_its_place_back(new_embedder: NewEmbedder):
    embedder = new_embedder(max_waiting=200)
    task = asyncio.create_task(embedder.embed([LONG] * 200))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # 200 such texts take some six seconds: nothing may be left of them.
    async with asyncio.timeout(3):
        assert (await embedder.embed(["next"])).shape == (1, 384)


async def test_closing_fails_the_texts_that_wait_and_those_that_come(new_embedder: NewEmbedder):
    embedder = new_embedder()
    waiting = asyncio.create_task(embedder.embed([LONG] * 100))
    await asyncio.sleep(0.3)
    async with asyncio.timeout(3):
        await embedder.close()
    for late in (waiting, embedder.embed(["too late"])):
        with pytest.raises(Unavailable) as refusal:
            await late
        assert refusal.value.reason == "MODEL_UNAVAILABLE"


async def test_the_event_loop_turns_while_a_long_text_is_tokenized(embedder: LocalEmbedder):
    # The model reads its first 254 tokens, about 50 ms; the rest of the time is the tokenizer's.
    task = asyncio.create_task(embedder.embed([LONG * 600]))
    turns = [time.perf_counter()]
    while not task.done():
        await asyncio.sleep(0.001)
        turns.append(time.perf_counter())
    longest_stop = max(later - earlier for earlier, later in pairwise(turns))
    assert longest_stop < (turns[-1] - turns[0]) / 3
