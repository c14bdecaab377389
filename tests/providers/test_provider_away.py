"""A provider that is away while texts come in: nothing is lost, nobody must help, others go on."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator

import grpc.aio
import pytest
from embedding_calls import cheap_vectors
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from serving import Caller, server

from cluster import DatabaseUrls
from hugging_face_server import GOOD, HuggingFaceServer, limited
from knowledge.v1 import config_service_pb2 as s
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from served import Model, Serve

KEY = "hf_awayawayawayawayawayaway0001"


@pytest.fixture
async def caller(
    serve: Serve, database_urls: DatabaseUrls, outside: HuggingFaceServer
) -> AsyncIterator[Caller]:
    outside.keys[KEY] = GOOD
    outside.encode = cheap_vectors
    async with server(
        serve, database_urls, outside, hugging_face_api_key=KEY, inline_chunks=2
    ) as opened:
        yield opened


@pytest.mark.parametrize(
    "seconds", [2.0, pytest.param(60.0, marks=[pytest.mark.slow, pytest.mark.timeout(300)])]
)
async def test_an_import_while_the_provider_is_away_ends_complete_by_itself(
    seconds: float, caller: Caller, outside: HuggingFaceServer, model: Model
) -> None:
    remote, local = await caller.collection(), await local_collection(caller, model)
    before = await searches(caller, local, min(seconds / 4, 5.0))
    documents = [await caller.document(remote, f"Disease {i} hurts.") for i in range(10)]
    outside.down = True
    began = time.monotonic()
    documents += [await caller.document(remote, f"Disease {i} hurts.") for i in range(10, 40)]
    documents += [await caller.document(remote, many(f"Remedy {i}")) for i in range(2)]
    during = await searches(caller, local, seconds - (time.monotonic() - began))
    told = await caller.status()
    assert (told.state, told.reason) == (s.PROVIDER_STATE_AWAY, "PROVIDER_UNAVAILABLE")
    assert await waiting(caller, remote) >= 32
    assert await serving(caller)
    outside.down = False
    async with asyncio.timeout(45):
        while await waiting(caller, remote):  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    assert await states(caller, remote) == {d.DOCUMENT_STATE_ACTIVE}
    assert len({document.name for document in documents}) == 42
    hits = await caller.search(remote, "Disease 33 hurts.")
    assert hits[0].chunk.content == "Disease 33 hurts."
    assert (await caller.status()).state == s.PROVIDER_STATE_READY
    print(f"local p50 before {before:.2f} ms, during {during:.2f} ms: {during / before:.2f}")


def many(word: str, sentences: int = 200) -> str:
    """A text of so many pieces that the workers embed it."""
    return " ".join(f"{word} number {i}." for i in range(sentences))


async def serving(caller: Caller) -> bool:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{caller.port}") as channel:
        answer = await HealthStub(channel).Check(HealthCheckRequest())
    return answer.status == HealthCheckResponse.SERVING


async def local_collection(caller: Caller, model: Model) -> str:
    name = await caller.collection(model.embedder.model_id, remote=False)
    for text in ("Gout hurts.", "A fever.", "A broken arm."):
        await caller.document(name, text)
    return name


async def searches(caller: Caller, name: str, seconds: float) -> float:
    """The median of local searches by text, one after the other for so long; milliseconds."""
    until, took = time.monotonic() + max(seconds, 0.5), list[float]()
    while time.monotonic() < until:
        began = time.monotonic()
        assert len(await caller.search(name, "gout")) == 3
        took.append(1_000 * (time.monotonic() - began))
    return statistics.median(took)


async def listed(caller: Caller, name: str) -> list[d.Document]:
    request = k.ListDocumentsRequest(parent=name, page_size=1_000)
    return list((await caller.knowledge.ListDocuments(request)).documents)


async def waiting(caller: Caller, name: str) -> int:
    return sum(each.state == d.DOCUMENT_STATE_PENDING for each in await listed(caller, name))


async def states(caller: Caller, name: str) -> set[int]:
    return {each.state for each in await listed(caller, name)}


async def test_local_texts_do_not_queue_behind_remote_ones_that_wait(
    caller: Caller, outside: HuggingFaceServer, model: Model
) -> None:
    outside.down = True
    remote = await caller.collection()
    for i in range(5):
        await caller.document(remote, many(f"Disease {i}"))
    local = await caller.collection(model.embedder.model_id, remote=False)
    document = await caller.document(local, many("Fever"), wait=True)
    assert document.state == d.DOCUMENT_STATE_ACTIVE
    assert await waiting(caller, remote) == 5


async def test_texts_wait_for_a_key_as_they_wait_for_a_provider(
    caller: Caller, outside: HuggingFaceServer
) -> None:
    outside.always = limited("30")
    remote = await caller.collection()
    document = await caller.document(remote, many("Disease"))
    assert document.state == d.DOCUMENT_STATE_PENDING
    outside.keys.clear()
    outside.always = None
    await asyncio.sleep(2)
    assert await waiting(caller, remote) == 1
    other = KEY.replace("0001", "0002")
    outside.keys[other] = GOOD
    await caller.set_key(other)
    async with asyncio.timeout(20):
        while await waiting(caller, remote):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert await states(caller, remote) == {d.DOCUMENT_STATE_ACTIVE}


async def test_one_text_that_is_refused_fails_alone(
    caller: Caller, outside: HuggingFaceServer
) -> None:
    outside.poison = "poison"
    remote = await caller.collection()
    outside.down = True
    good = [await caller.document(remote, f"Disease {i}.") for i in range(20)]
    await caller.document(remote, "poison")
    outside.down = False
    async with asyncio.timeout(20):
        while await waiting(caller, remote) > 1:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert len(good) == 20
