"""grpc.health.v1 with the names of our services, and `liveness`."""

import asyncio
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1.health_pb2 import (
    HealthCheckRequest,
    HealthCheckResponse,
    HealthListRequest,
)
from grpc_health.v1.health_pb2_grpc import HealthStub

from cluster import DatabaseUrls
from served import Serve

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
SERVICES = (
    "knowledge.v1.KnowledgeService",
    "knowledge.v1.VectorService",
    "knowledge.v1.AuditService",
    "knowledge.v1.ConfigService",
)
NAMES = ("", "liveness", *SERVICES)


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def ready(health: Any) -> None:
    """A server that was just started says NOT_SERVING until it has asked its database."""
    async with asyncio.timeout(10):
        async for answer in health.Watch(HealthCheckRequest()):
            if answer.status == SERVING:
                return


@pytest.mark.parametrize("name", NAMES)
async def test_a_name_is_serving(health: Any, name: str) -> None:
    assert (await health.Check(HealthCheckRequest(service=name))).status == SERVING


@pytest.mark.parametrize("name", ["nonsense", "knowledge.v1", "Liveness"])
async def test_another_name_is_not_found(health: Any, name: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health.Check(HealthCheckRequest(service=name))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_list_gives_every_name(health: Any) -> None:
    statuses = (await health.List(HealthListRequest())).statuses
    assert {name: answer.status for name, answer in statuses.items()} == dict.fromkeys(
        NAMES, SERVING
    )


async def test_watch_gives_the_state_at_once(health: Any) -> None:
    watching = health.Watch(HealthCheckRequest(service=SERVICES[0]))
    assert (await asyncio.wait_for(watching.read(), 5)).status == SERVING
    watching.cancel()


async def test_watch_of_another_name_waits_for_it(health: Any) -> None:
    watching = health.Watch(HealthCheckRequest(service="nonsense"))
    first = await asyncio.wait_for(watching.read(), 5)
    assert first.status == HealthCheckResponse.SERVICE_UNKNOWN
    watching.cancel()


async def test_health_needs_no_token(secured_server: Any) -> None:
    answer = await HealthStub(secured_server.channel).Check(HealthCheckRequest(service="liveness"))
    assert answer.status == SERVING


async def test_a_server_that_stops_says_so_first(
    only_here: None, stopping_database: DatabaseUrls, serve: Serve
) -> None:
    server = serve(stopping_database, shutdown_wait_seconds=0.5)
    running = await server.__aenter__()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel:
        watching = HealthStub(channel).Watch(HealthCheckRequest())
        while (await asyncio.wait_for(watching.read(), 10)).status != SERVING:
            pass
        stopping = asyncio.create_task(server.__aexit__(None, None, None))
        answer = await asyncio.wait_for(watching.read(), 0.4)
        assert answer.status == NOT_SERVING
        assert not stopping.done()
        watching.cancel()
        await stopping


@pytest.fixture
def stopping_database(only_here: None, request: pytest.FixtureRequest) -> DatabaseUrls:
    """Asked for late, so that no PostgreSQL starts for a TARGET."""
    urls: DatabaseUrls = request.getfixturevalue("database_urls")
    return urls
