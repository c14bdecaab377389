"""How a provider is asked: batches, tries, pauses, the breaker, and what is made of its answers."""

import asyncio
import time
from email.utils import formatdate
from typing import Any

import httpx2
import pytest
from embedding_calls import asking, cheap_vectors
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import hf_raise_for_status

from hugging_face_server import (
    DIGEST,
    MODEL,
    RESET,
    Fault,
    HuggingFaceServer,
    failing,
    limited,
    loading,
)
from knowledged.embedding import breaker as breaker_of
from knowledged.embedding import remote as remote_of
from knowledged.embedding.breaker import Breaker, Condition, State
from knowledged.embedding.provider_answers import fault_of
from knowledged.embedding.provider_faults import (
    DOWN,
    LIMITED,
    ProviderAway,
    ProviderRefuses,
    TextRefused,
)
from knowledged.embedding.provider_faults import EXPIRED as EXPIRED_KEY
from served import Model

A_THOUSAND = [f"disease number {i}" for i in range(100)]


@pytest.fixture(autouse=True)
def cheap(outside: HuggingFaceServer) -> None:
    """What is in the vectors does not matter here."""
    outside.encode = cheap_vectors


async def test_batches_keep_to_the_providers_limit_and_several_are_in_flight(
    outside: HuggingFaceServer, model: Model
) -> None:
    outside.always = Fault(seconds=0.05)
    async with asking(outside, model) as asked:
        assert (await asked.embedder.embed(A_THOUSAND * 3)).shape == (300, 384)
    assert [len(each.texts) for each in outside.embedded if len(each.texts) == 32]
    assert sorted(outside.texts()) == sorted(A_THOUSAND * 3)
    assert max(len(each.texts) for each in outside.embedded) == 32
    assert 2 <= outside.most_in_flight <= remote_of.IN_FLIGHT


async def test_a_tei_with_a_smaller_limit_gets_smaller_batches(
    outside: HuggingFaceServer, model: Model
) -> None:
    outside.most_texts = 8
    async with asking(outside, model, outside.tei) as asked:
        await asked.embed()
        assert (await asked.embedder.embed(A_THOUSAND)).shape == (100, 384)
    assert max(len(each.texts) for each in outside.embedded) == 8


async def test_long_texts_make_small_batches(outside: HuggingFaceServer, model: Model) -> None:
    async with asking(outside, model) as asked:
        await asked.embedder.embed(["x" * 60_000] * 20)
    sent = [sum(map(len, each.texts)) for each in outside.embedded]
    assert max(sent) <= remote_of.MOST_CHARACTERS


@pytest.mark.parametrize(
    "fault",
    [limited("0"), loading(0.1), failing(500), failing(502), failing(504), RESET],
    ids=["429", "503", "500", "502", "504", "reset"],
)
async def test_what_passes_is_tried_again(
    fault: Fault, outside: HuggingFaceServer, model: Model
) -> None:
    outside.faults.extend([fault, fault])
    async with asking(outside, model) as asked:
        assert (await asked.embed()).shape == (1, 384)
        assert asked.embedder.breaker.condition.state is State.READY
        assert asked.outcomes[-1] == "ok"
        assert len(asked.outcomes) == 3


async def test_a_pause_that_the_provider_asks_for_is_kept(
    outside: HuggingFaceServer, model: Model
) -> None:
    outside.faults.append(limited("1"))
    async with asking(outside, model) as asked:
        began = time.monotonic()
        await asked.embed()
        assert time.monotonic() - began >= 1.0


@pytest.mark.parametrize(
    ("status", "headers", "body", "seconds"),
    [
        (429, {"retry-after": "7"}, {}, 7),
        (429, {"retry-after": formatdate(time.time() + 9_000, usegmt=True)}, {}, 300),
        (429, {"ratelimit": '"api";r=0;t=55'}, {}, 55),
        (429, {"ratelimit": '"api";r=3;t=55', "retry-after": "soon"}, {}, None),
        (503, {}, {"error": "Model is currently loading", "estimated_time": 20.5}, 20.5),
        (503, {"retry-after": "99999"}, {}, 300),
        (503, {"retry-after": formatdate(0, usegmt=True)}, {}, 0),
    ],
)
def test_every_way_to_ask_for_a_pause_is_read(
    status: int, headers: dict[str, str], body: dict[str, Any], seconds: float | None
) -> None:
    asked = httpx2.Request("POST", "https://router.huggingface.co/hf-inference")
    answer = httpx2.Response(status, headers=headers, json=body, request=asked)
    with pytest.raises(HfHubHTTPError) as raised:
        hf_raise_for_status(answer)
    fault = fault_of(raised.value)
    assert isinstance(fault, ProviderAway)
    assert fault.asked is (seconds is not None)
    if seconds is not None:
        assert seconds <= (fault.retry_after_seconds or 0) <= seconds + 10


async def test_a_pause_beyond_the_callers_time_is_not_begun(
    outside: HuggingFaceServer, model: Model
) -> None:
    outside.always = limited("10")
    async with asking(outside, model) as asked:
        began = time.monotonic()
        with pytest.raises(ProviderAway) as away:
            await asked.embed(seconds_left=3.0)
        assert time.monotonic() - began < 2
        assert away.value.reason == "PROVIDER_RATE_LIMITED"
        assert (away.value.retry_after_seconds or 0) > 9
        assert len(outside.embedded) == 1


async def test_a_slow_provider_is_waited_for_as_long_as_the_caller_waits(
    outside: HuggingFaceServer, model: Model
) -> None:
    outside.always = Fault(seconds=5.0)
    async with asking(outside, model) as asked:
        began = time.monotonic()
        with pytest.raises(ProviderAway) as away:
            await asked.embed(seconds_left=0.5)
        assert time.monotonic() - began < 2
        assert away.value.reason == "PROVIDER_TIMEOUT"


async def test_callers_in_a_hurry_do_not_shut_the_others_out(
    outside: HuggingFaceServer, model: Model
) -> None:
    outside.always = Fault(seconds=0.4)
    async with asking(outside, model) as asked:
        for _ in range(breaker_of.FAILURES_TO_OPEN + 1):
            with pytest.raises(ProviderAway):
                await asked.embed(seconds_left=0.1)
        assert (await asked.embed()).shape == (1, 384)


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_refused_text_is_not_tried_again_and_tells_nothing_of_the_provider(
    status: int, outside: HuggingFaceServer, model: Model
) -> None:
    outside.faults.append(Fault(status, {"error": "`inputs` too long", "error_type": "Validation"}))
    async with asking(outside, model) as asked:
        with pytest.raises(TextRefused):
            await asked.embed()
        assert len(outside.embedded) == 1
        assert asked.embedder.breaker.condition.state is State.UNTRIED
        await asked.embed()


async def test_after_failures_in_a_row_the_provider_is_left_alone_for_a_while(
    outside: HuggingFaceServer, model: Model
) -> None:
    outside.down = True
    async with asking(outside, model) as asked:
        for _ in range(3):
            with pytest.raises(ProviderAway):
                await asked.embed(seconds_left=2.0)
        tries = len(outside.asked)
        assert tries <= breaker_of.FAILURES_TO_OPEN
        began = time.monotonic()
        with pytest.raises(ProviderAway) as away:
            await asked.embed()
        assert time.monotonic() - began < 0.1
        assert 0 < (away.value.retry_after_seconds or 0) <= breaker_of.FIRST_REST_SECONDS
        assert len(outside.asked) == tries
        outside.down = False
        await asyncio.sleep(asked.embedder.breaker.seconds_shut)
        assert (await asked.embed()).shape == (1, 384)
        states = [condition.state for condition in asked.conditions]
        assert states == [State.AWAY, State.READY]


async def test_nobody_listening_is_away_too(outside: HuggingFaceServer, model: Model) -> None:
    outside.close()
    async with asking(outside, model) as asked:
        with pytest.raises(ProviderAway) as away:
            await asked.embed(seconds_left=1.0)
        assert away.value.reason == "PROVIDER_UNAVAILABLE"
        assert "127.0.0.1" not in str(away.value)


def test_each_rest_is_longer_but_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    told: list[Condition] = []
    breaker = Breaker(told.append, lambda: now[0])
    rests: list[float] = []
    for _ in range(5):
        breaker.failed(DOWN.error())
    for _ in range(10):
        rests.append(breaker.seconds_shut)
        now[0] += rests[-1] + 0.001
        breaker.admit()
        breaker.failed(DOWN.error())
    assert 0.5 <= rests[0] <= 1.0
    assert 15 <= rests[-1] <= breaker_of.LONGEST_REST_SECONDS
    assert len(told) == 1
    breaker.failed(LIMITED.error(120.0))
    now[0] += rests[-1] * 4
    breaker.succeeded()
    assert breaker.seconds_shut == 0
    breaker.failed(EXPIRED_KEY.error())
    assert breaker.seconds_shut == breaker_of.REFUSED_REST_SECONDS
    with pytest.raises(ProviderRefuses):
        breaker.admit()


@pytest.mark.parametrize(
    ("vectors", "reason"),
    [
        ([[0.1] * 383], "PROVIDER_MODEL_MISMATCH"),
        ([[float("nan")] * 384], "PROVIDER_ANSWER_INVALID"),
        ([[0.0] * 384], "PROVIDER_ANSWER_INVALID"),
        ([[0.1] * 384] * 2, "PROVIDER_ANSWER_INVALID"),
        ([], "PROVIDER_ANSWER_INVALID"),
        ([[[0.1] * 384] * 4], "PROVIDER_ANSWER_INVALID"),
        ([[0.1] * 384, [0.1]], "PROVIDER_ANSWER_INVALID"),
        ({"embeddings": [[0.1] * 384]}, "PROVIDER_ANSWER_INVALID"),
        ("<html>Welcome</html>", "PROVIDER_ANSWER_INVALID"),
        ([["a"] * 384], "PROVIDER_ANSWER_INVALID"),
    ],
    ids=[
        "dimension",
        "nan",
        "zero",
        "more",
        "none",
        "tokens",
        "ragged",
        "object",
        "page",
        "words",
    ],
)
async def test_an_answer_that_is_no_vectors_of_the_model_is_refused(
    vectors: Any, reason: str, outside: HuggingFaceServer, model: Model
) -> None:
    outside.always = Fault(200, vectors)
    async with asking(outside, model) as asked:
        with pytest.raises(ProviderRefuses) as refused:
            await asked.embed()
        assert refused.value.reason == reason


async def test_no_redirect_is_followed_and_no_text_goes_elsewhere(
    outside: HuggingFaceServer, model: Model, encode: Any
) -> None:
    from hugging_face_server import hugging_face

    with hugging_face(encode) as elsewhere:
        outside.always = Fault(307, {}, {"location": f"{elsewhere.url}/tei"})
        async with asking(outside, model) as asked:
            with pytest.raises(ProviderRefuses):
                await asked.embed()
        assert elsewhere.asked == []


@pytest.mark.parametrize(
    ("info", "revision", "good"),
    [
        ({"model_id": MODEL, "model_sha": DIGEST}, DIGEST, True),
        ({"model_id": MODEL, "model_sha": "f" * 40}, DIGEST, False),
        ({"model_id": MODEL, "model_sha": None}, DIGEST, False),
        ({"model_id": MODEL, "model_sha": None}, "", True),
        ({"model_id": "other/model", "model_sha": DIGEST}, "", False),
        ({"model_id": "/data", "model_sha": None}, "", True),
        (None, "", True),
        (None, DIGEST, False),
    ],
)
async def test_a_tei_must_serve_the_configured_model(
    info: Any, revision: str, good: bool, outside: HuggingFaceServer, model: Model
) -> None:
    outside.tei_info = info
    async with asking(outside, model, outside.tei, revision=revision) as asked:
        if good:
            assert (await asked.embed()).shape == (1, 384)
            return
        with pytest.raises(ProviderRefuses) as refused:
            await asked.embed("a text")
        assert refused.value.reason == "PROVIDER_MODEL_MISMATCH"
        assert outside.texts() == []


@pytest.mark.parametrize(("revision", "good"), [(DIGEST, True), ("f" * 40, False)])
async def test_the_hub_tells_which_revision_the_router_serves(
    revision: str, good: bool, outside: HuggingFaceServer, model: Model
) -> None:
    async with asking(outside, model, revision=revision) as asked:
        if good:
            await asked.embed()
        else:
            with pytest.raises(ProviderRefuses, match="another model"):
                await asked.embed()


async def test_offline_mode_of_the_hub_keeps_no_tei_away(
    outside: HuggingFaceServer, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    async with asking(outside, model, outside.tei) as asked:
        assert (await asked.embed()).shape == (1, 384)
