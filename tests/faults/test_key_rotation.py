"""Keys change under load on two replicas: nobody's call fails, and no key shows anywhere."""

import asyncio
import os
import secrets
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc.aio
import numpy as np
import pytest

from caller import Caller, caller
from hugging_face_server import GOOD, MODEL, HuggingFaceServer, hugging_face
from knowledge.v1.collection_pb2 import EGRESS_PROVIDER_ALLOWED, Collection
from knowledge.v1.config_service_pb2 import (
    GetProviderCredentialRequest,
    SetProviderCredentialRequest,
    ValidateProviderCredentialRequest,
)
from knowledge.v1.knowledge_service_pb2 import CreateCollectionRequest
from knowledge.v1.vector_service_pb2 import SearchRequest
from knowledged.connection import connect
from outside_postgres import OutsidePostgres, outside_postgres
from server_process import (
    KNOWLEDGED,
    ServerProcess,
    environment,
    free_port,
    reachable_folder,
    server_process,
)

CANARY = "canary5e1fcanary"
# As text, and as PostgreSQL and logs show bytes.
SHAPES = (CANARY, CANARY.encode().hex())
USED_WITHIN_SECONDS = 5.0
NAME = "providers/huggingface"
COLLECTION = "collections/remote"


def key(number: int) -> str:
    return f"hf_{CANARY}{number:08}"


def vectors(texts: Sequence[str]) -> Any:
    """Cheap ones: here the keys matter."""
    rows = [np.random.default_rng(abs(hash(text))).standard_normal(384) for text in texts]
    return np.array(rows)


@dataclass(slots=True)
class Load:
    """Searches by text on one replica, one after the other; each text tells the replica."""

    replica: int
    client: Caller
    done: int = 0
    failures: list[str] = field(default_factory=list[str])

    async def run(self) -> None:
        for number in count():
            request = SearchRequest(collection=COLLECTION, text=f"r{self.replica} {number}")
            try:
                await self.client.vectors.Search(request, timeout=20)
            except grpc.aio.AioRpcError as error:
                self.failures.append(f"{error.code().name} {error.details()}")
            self.done += 1
            await asyncio.sleep(0.03)


@dataclass(frozen=True, slots=True)
class Replicas:
    """Two servers on one database, the provider outside, and the file both read the key from."""

    servers: list[ServerProcess]
    clients: list[Caller]
    metrics: list[int]
    outside: HuggingFaceServer
    key_file: Path
    postgres: OutsidePostgres
    told: list[str] = field(default_factory=list[str])

    async def used(self, new: str) -> float:
        """Seconds until both replicas send texts with the key."""
        began = time.monotonic()
        async with asyncio.timeout(3 * USED_WITHIN_SECONDS):
            while len({text[:2] for text in self.outside.texts_with(new)} & {"r0", "r1"}) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return time.monotonic() - began

    def swap_file(self, text: str) -> None:
        draft = self.key_file.with_name("draft")
        draft.write_text(text)
        draft.chmod(0o600)
        draft.replace(self.key_file)

    async def refused(self, replica: int, text: str) -> str:
        """Sets a key that must not be taken; what the caller reads."""
        request = SetProviderCredentialRequest(name=NAME, api_key=text)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.clients[replica].config.SetProviderCredential(request, timeout=20)
        self.told.append(f"{caught.value} {caught.value.trailing_metadata()}")
        return caught.value.code().name


@asynccontextmanager
async def replicas(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Replicas]:
    async with AsyncExitStack() as stack:
        outside = stack.enter_context(hugging_face(vectors))
        folder = stack.enter_context(reachable_folder())
        postgres = await stack.enter_async_context(outside_postgres())
        assert postgres.addresses is not None
        secret, key_file = folder / "secret.key", folder / "hugging_face_api_key"
        secret.write_bytes(secrets.token_bytes(32))
        outside.keys[key(0)] = GOOD
        key_file.write_text(key(0))
        key_file.chmod(0o600)
        monkeypatch.setenv("HUGGING_FACE_API_KEY_FILE", str(key_file))
        servers, clients, ports = list[ServerProcess](), list[Caller](), [free_port(), free_port()]
        for port in ports:
            server = await stack.enter_async_context(
                server_process(
                    database_url=postgres.addresses.server_dsn,
                    maintenance_database_url=postgres.addresses.owner_dsn,
                    secret_key_file=secret,
                    hugging_face_models=f"{MODEL}:384",
                    hugging_face_router_url=outside.url,
                    hugging_face_hub_url=outside.url,
                    metrics_port=port,
                    log_level="debug",
                    embedding_threads=1,
                )
            )
            servers.append(server)
            clients.append(await stack.enter_async_context(caller(server.address)))
        yield Replicas(servers, clients, ports, outside, key_file, postgres)


@asynccontextmanager
async def under_load(world: Replicas) -> AsyncIterator[list[Load]]:
    loads = [Load(i % 2, world.clients[i % 2]) for i in range(4)]
    tasks = [asyncio.create_task(load.run()) for load in loads]
    try:
        yield loads
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@pytest.mark.fault
@pytest.mark.parametrize(
    "rotations", [3, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
async def test_keys_rotate_under_load_and_none_shows(
    rotations: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with replicas(monkeypatch) as world:
        made = Collection(embedding_model=MODEL, egress=EGRESS_PROVIDER_ALLOWED)
        request = CreateCollectionRequest(collection_id="remote", collection=made)
        await world.clients[0].knowledge.CreateCollection(request, timeout=20)
        async with under_load(world) as loads:
            waits = [await world.used(key(0))]
            for number in range(1, rotations + 1):
                waits.append(await rotate(world, number, by_file=number <= rotations // 2))
        failures = [failure for load in loads for failure in load.failures]
        calls = sum(load.done for load in loads)
        print(f"{rotations} rotations, {calls} calls, slowest {max(waits):.2f} s")
        assert failures == []
        assert calls > 10 * rotations
        assert max(waits) < USED_WITHIN_SECONDS
        assert [place async for place in leaking_places(world)] == []
        told = world.servers[0].log_text() + world.servers[1].log_text()
        assert "credentials.reject" in told
        assert "provider_key_file_rejected" in told
        state = f'provider_state{{model="{MODEL}",provider="huggingface",state="ready"}} 1.0'
        assert state in await asyncio.to_thread(page, world.metrics[0])


async def rotate(world: Replicas, number: int, *, by_file: bool) -> float:
    """A new key in place of the last one, which is revoked once both replicas use the new one."""
    new, old = key(number), key(number - 1)
    if by_file:
        await malformed_file(world, number)
        world.outside.keys[new] = GOOD
        world.swap_file(f"{new}\n")
    else:
        assert await world.refused(number % 2, f"{CANARY} {CANARY}") == "INVALID_ARGUMENT"
        assert await world.refused(number % 2, f"hf_{CANARY}unknown") == "FAILED_PRECONDITION"
        world.outside.keys[new] = GOOD
        await set_by_command(world, number % 2, new)
    seconds = await world.used(new)
    del world.outside.keys[old]
    return seconds


async def malformed_file(world: Replicas, number: int) -> None:
    """Now and then no key or one that nobody knows, for longer than a look takes."""
    if number % 10 in (1, 2):
        world.swap_file(f"{CANARY} \n{CANARY}" if number % 10 == 1 else f"hf_{CANARY}unknown")
        await asyncio.sleep(1.5)


async def set_by_command(world: Replicas, replica: int, new: str) -> None:
    """As an operator does; meanwhile `ps` is looked at."""
    process = await asyncio.create_subprocess_exec(
        KNOWLEDGED,
        "credential",
        "set",
        "--target",
        world.servers[replica].address,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    world.told.append(processes())
    output, _ = await process.communicate(f"{new}\n".encode())
    world.told.extend([output.decode(), processes()])
    assert process.returncode == 0, output


def processes() -> str:
    """What `ps` shows of every process: its arguments, and of our own its environment."""
    told = list[str]()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            told.append((folder / "cmdline").read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(told)


async def leaking_places(world: Replicas) -> AsyncIterator[str]:
    """Every place where the canary shows."""
    async for name, text in places(world):
        assert text, name
        if any(shape in text for shape in SHAPES):
            yield name


async def places(world: Replicas) -> AsyncIterator[tuple[str, str]]:
    yield "what callers and operators read", "\n".join(world.told)
    for number, server in enumerate(world.servers):
        yield f"log {number}", server.log_text()
        yield f"metrics {number}", await asyncio.to_thread(page, world.metrics[number])
        yield f"environment {number}", process_environment(server)
        yield f"answers {number}", await answers(world.clients[number])
    assert world.postgres.addresses is not None
    conn = await connect(world.postgres.addresses.superuser_dsn)
    try:
        names = "select tablename from pg_tables where schemaname = 'knowledge' order by 1"
        for (table,) in await conn.fetch(names):
            rows = await conn.fetch(f'select t::text from knowledge."{table}" t')  # noqa: S608
            yield f"table {table}", f"{table}: " + "\n".join(row[0] for row in rows)
    finally:
        await conn.close()


async def answers(client: Caller) -> str:
    asked = GetProviderCredentialRequest(name=NAME)
    tried = ValidateProviderCredentialRequest(name=NAME)
    return repr(
        [
            await client.config.GetProviderCredential(asked, timeout=20),
            await client.config.ValidateProviderCredential(tried, timeout=20),
        ]
    )


def process_environment(server: ServerProcess) -> str:
    assert server._process is not None
    return Path(f"/proc/{server._process.pid}/environ").read_text()


def page(port: int) -> str:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return answer.read().decode()


def test_a_leak_would_be_found() -> None:
    leaks: Iterator[str] = iter((f"Bearer {key(1)}", key(1).encode().hex(), repr({"k": key(2)})))
    assert all(any(shape in leak for shape in SHAPES) for leak in leaks)
    assert os.environ.get("HUGGING_FACE_API_KEY") is None
