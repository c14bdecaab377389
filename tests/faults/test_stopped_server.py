"""SIGTERM and SIGINT: callers are told first, calls under way are answered, nothing is lost."""

import asyncio
import itertools
import signal
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

import grpc.aio
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from caller import Caller, caller
from invariants import broken
from knowledge.v1.config_service_pb2 import GetServerInfoRequest
from knowledge.v1.vector_service_pb2 import EmbedTextsRequest
from server_process import ServerProcess, server_process, superuser

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
STOP_SECONDS = 15.0

NAMES = """
    select 'collections/' || c.collection_id || '/documents/' || d.document_id
      from knowledge.document d
      join knowledge.collection c using (collection_uid)
"""


async def test_a_stopping_server_loses_no_acknowledged_write() -> None:
    async with server_process() as server:
        for number in (signal.SIGTERM, signal.SIGINT):
            acknowledged = await stopped_under_load(server, number)
            await asyncio.to_thread(server.start)
            assert set(acknowledged) <= await stored(server)
        assert server.own_bugs() == []


async def stopped_under_load(server: ServerProcess, number: signal.Signals) -> list[str]:
    """The names of the documents that were acknowledged before the server ended."""
    acknowledged: list[str] = []
    async with caller(server.address) as client:
        parent = await client.create_collection(number.name)
        writers = [asyncio.create_task(write(client, parent, n, acknowledged)) for n in range(4)]
        async with asyncio.timeout(30):
            while len(acknowledged) < 20:  # noqa: ASYNC110 - a condition over four tasks
                await asyncio.sleep(0.01)
        postmaster = postmaster_pid(server)
        assert await ended(server, number) < STOP_SECONDS
        assert not is_alive(postmaster)
        await asyncio.gather(*writers)
    return acknowledged


async def test_calls_under_way_are_answered_and_health_says_so_first() -> None:
    async with (
        server_process(shutdown_wait_seconds=1) as server,
        caller(server.address) as client,
    ):
        embedding = asyncio.create_task(embed(client))
        seen = watch(client)
        assert await anext(seen) == SERVING
        await asyncio.sleep(0.2)
        assert not embedding.done()
        server.signal(signal.SIGTERM)
        assert await anext(seen) == NOT_SERVING
        assert not embedding.done()
        await client.config.GetServerInfo(GetServerInfoRequest(), timeout=5)
        assert [status async for status in seen] == []
        assert await embedding == 30
        assert await asyncio.to_thread(server.wait) == 0


@pytest.mark.slow
@pytest.mark.fault
async def test_the_second_start_is_quick() -> None:
    """On a machine that does nothing else."""
    async with server_process() as server:
        assert server.stop() == 0
        assert server.start() < 5


async def write(client: Caller, parent: str, writer: int, acknowledged: list[str]) -> None:
    """Creates documents until the server is gone."""
    with suppress(grpc.aio.AioRpcError):
        for number in itertools.count():
            document_id = f"{writer}-{number}"
            answer = await client.create_document(parent, document_id, f"Case {document_id}.", 10)
            acknowledged.append(answer.document.name)


async def stored(server: ServerProcess) -> set[str]:
    async with superuser(server) as conn:
        assert await broken(conn) == {}
        rows = await conn.fetch(NAMES)
    return {row[0] for row in rows}


async def embed(client: Caller) -> int:
    """A call of some seconds; how many vectors it got."""
    texts = [f"{n} " + "acute fever with chronic cough " * 40 for n in range(30)]
    answer = await client.vectors.EmbedTexts(EmbedTextsRequest(texts=texts), timeout=60)
    return len(answer.embeddings)


async def watch(client: Caller) -> AsyncGenerator[int]:
    async for answer in client.health.Watch(HealthCheckRequest()):
        yield answer.status


async def ended(server: ServerProcess, number: signal.Signals) -> float:
    """Sends the signal; how many seconds until the server had ended well."""
    began = time.monotonic()
    server.signal(number)
    assert await asyncio.to_thread(server.wait) == 0
    return time.monotonic() - began


def postmaster_pid(server: ServerProcess) -> int:
    pid_file = server.folder / "postgres/cluster/postmaster.pid"
    return int(pid_file.read_text().split()[0])


def is_alive(pid: int) -> bool:
    if sys.platform != "linux":
        return False
    return Path(f"/proc/{pid}").exists()
