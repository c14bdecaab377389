"""What every provider must do: one suite for local, Hugging Face's router and TEI."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from hugging_face_server import DIGEST, GOOD, MODEL, HuggingFaceServer
from knowledged.credentials.api_key import ApiKey
from knowledged.credentials.keys import Held, Keys, Source
from knowledged.embedding.embedder import Embedder
from knowledged.embedding.hugging_face import HubAddress, HuggingFaceClient, RemoteModel
from knowledged.embedding.remote import Observer, RemoteEmbedder
from knowledged.errors import Overloaded
from knowledged.notices import Notices
from served import Model

KEY = "hf_conformancekeyconformancekey01"
TEXTS = [
    "Hypertension: the pressure in the arteries is too high.",
    "high blood pressure",
    "a broken arm",
    "Nierensteine, ein Stein in der Niere ☃",
    "x" * 2_000,
    "gout " * 2_000,
]
PROVIDERS = ("local", "router", "tei")


def remote(outside: HuggingFaceServer, url: str, model: Model, **more: Any) -> RemoteEmbedder:
    keys = Keys("huggingface", Notices())
    keys.offer(Held(ApiKey(KEY), Source.ENVIRONMENT, datetime.now(UTC)))
    described = RemoteModel(MODEL, 384, 254, DIGEST, url)
    client = HuggingFaceClient(described, HubAddress(outside.url, outside.url))
    observer = Observer(lambda _: None, lambda *_: None)
    return RemoteEmbedder(described, client, keys, model.chunker.tokenizer, observer, **more)


@pytest.fixture(params=PROVIDERS)
async def embedder(
    request: pytest.FixtureRequest, outside: HuggingFaceServer, model: Model
) -> AsyncIterator[Embedder]:
    if request.param == "local":
        yield model.embedder
        return
    outside.keys[KEY] = GOOD
    made = remote(outside, outside.tei if request.param == "tei" else "", model)
    yield made
    await made.close()


async def test_each_text_gets_a_row_of_length_one(embedder: Embedder) -> None:
    vectors = await embedder.embed(TEXTS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), embedder.dimension)
    assert vectors.flags.c_contiguous
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5


async def test_no_text_is_no_request(embedder: Embedder, outside: HuggingFaceServer) -> None:
    assert (await embedder.embed([])).shape == (0, embedder.dimension)
    assert outside.asked == []


async def test_rows_are_in_the_order_of_the_texts(embedder: Embedder) -> None:
    texts = [f"{word} number {i}" for i in range(25) for word in ("gout", "fever", "stone")]
    vectors = await embedder.embed(texts)
    for place in (0, 33, 50, 74):
        (alone,) = await embedder.embed([texts[place]])
        assert float(vectors[place] @ alone) > 0.999
    scores = vectors @ vectors[0]
    assert int(np.argmax(scores)) == 0


async def test_the_vectors_are_those_of_the_model(embedder: Embedder, model: Model) -> None:
    mine, theirs = await embedder.embed(TEXTS), await model.embedder.embed(TEXTS)
    assert np.einsum("td,td->t", mine, theirs).min() > 0.995


async def test_like_texts_are_near(embedder: Embedder) -> None:
    vectors = await embedder.embed(TEXTS[:3])
    assert vectors[1] @ vectors[0] > vectors[1] @ vectors[2] + 0.1


async def test_a_search_is_embedded_like_a_text(embedder: Embedder) -> None:
    (urgent,) = await embedder.embed([TEXTS[0]], urgent=True, seconds_left=20)
    (bulk,) = await embedder.embed([TEXTS[0]])
    assert float(urgent @ bulk) > 0.9999


async def test_it_says_what_it_is(embedder: Embedder) -> None:
    assert embedder.model_id
    assert embedder.dimension == 384
    assert embedder.max_tokens == 254
    assert len(embedder.model_digest) in (40, 64)


async def test_tokens_are_counted_beyond_what_is_read(embedder: Embedder) -> None:
    assert embedder.count_tokens("gout") == 2
    assert embedder.count_tokens("gout " * 2_000) > embedder.max_tokens


async def test_many_callers_get_their_own_vectors(embedder: Embedder) -> None:
    async def ask(i: int) -> float:
        texts = [f"disease {i}", f"remedy {i}"]
        first, second = await embedder.embed(texts)
        (again,) = await embedder.embed(texts[:1])
        return float(first @ again) if not np.allclose(first, second) else 0.0

    assert min(await asyncio.gather(*(ask(i) for i in range(20)))) > 0.999


async def test_a_caller_who_gives_up_leaves_the_others_alone(embedder: Embedder) -> None:
    lost = asyncio.create_task(embedder.embed(["a long text " * 30] * 40))
    await asyncio.sleep(0.01)
    lost.cancel()
    with pytest.raises(asyncio.CancelledError):
        await lost
    assert (await embedder.embed(["gout"])).shape == (1, 384)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_too_many_texts_at_once_are_refused(
    provider: str, outside: HuggingFaceServer, model: Model
) -> None:
    from knowledged.embedding import bundled
    from knowledged.embedding.local import LocalEmbedder

    outside.keys[KEY] = GOOD
    small: Any
    if provider == "local":
        small = LocalEmbedder(bundled.locate(), model.chunker.tokenizer, threads=1, max_waiting=10)
    else:
        small = remote(outside, outside.tei if provider == "tei" else "", model, max_waiting=10)
    first = asyncio.create_task(small.embed(["gout"] * 10))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await small.embed(["fever"])
    assert len(await first) == 10
    await small.close()
