"""The real server with its whole hall, served on a database of a test."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from cluster import DatabaseUrls
from knowledged.access import Access
from knowledged.app import Running, serving
from knowledged.commands import offering
from knowledged.database import Database
from knowledged.embedding.catalogue import Offered
from knowledged.embedding.chunker import Chunker
from knowledged.embedding.local import LocalEmbedder
from knowledged.ledger.keys import KeyRing
from knowledged.metrics import Metrics
from knowledged.parts import Parts
from knowledged.secret import RootSecret
from knowledged.settings import Settings


@dataclass(frozen=True, slots=True)
class Model:
    """The bundled embedding model, loaded; the slow part of a server's start."""

    embedder: LocalEmbedder
    chunker: Chunker

    @property
    def offered(self) -> Offered:
        return Offered(self.embedder, self.chunker)


Serve = Callable[..., AbstractAsyncContextManager[Running]]


def serve_on(
    urls: DatabaseUrls, model: Model, parts: dict[str, Any], **given: Any
) -> AbstractAsyncContextManager[Running]:
    """Settings differ from the defaults by `given`, what the server is made of by `parts`."""
    soon = {"audit_sequence_interval_seconds": 0.2, "audit_checkpoint_interval_seconds": 0.4}
    small = {"port": 0, "metrics_port": 0, "pool_min_size": 1}
    settings = Settings(**(small | soon | given))
    return _in_own_task(_server(urls, settings, model, parts))


@asynccontextmanager
async def _server(
    urls: DatabaseUrls, settings: Settings, model: Model, parts: dict[str, Any]
) -> AsyncGenerator[Running]:
    database = await Database.connect(
        urls.server_dsn,
        min_size=settings.pool_min_size,
        max_size=settings.pool_max_size,
        command_timeout_seconds=settings.command_timeout_seconds,
        acquire_timeout_seconds=settings.acquire_timeout_seconds,
    )
    secrets, metrics = [RootSecret(b"a root secret for tests, 32 byte")], Metrics()
    secrets = parts.pop("secrets", secrets)
    of = await offering.providers(settings, secrets, database)
    catalogue = offering.with_remote(settings, of, metrics, [model.offered])
    whole = Parts(
        settings=settings,
        database=database,
        maintenance_dsn=urls.owner_dsn,
        catalogue=catalogue,
        providers=of,
        key_check=offering.key_check(settings, catalogue),
        secret=secrets[0],
        access=Access(settings.access_file) if settings.access_file else None,
        metrics=metrics,
        keys=KeyRing((b"a key to sign with in all tests!",)),
    )
    try:
        async with serving(replace(whole, **parts)) as running:
            yield running
    finally:
        for embedder in catalogue.remote:
            await embedder.close()
        await database.close()


@asynccontextmanager
async def _in_own_task(server: AbstractAsyncContextManager[Running]) -> AsyncGenerator[Running]:
    """A fixture is set up in one task and torn down in another; a server needs one for its life."""
    started: asyncio.Future[Running] = asyncio.get_running_loop().create_future()
    stopped = asyncio.Event()

    async def live() -> None:
        async with server as running:
            started.set_result(running)
            await stopped.wait()

    life = asyncio.create_task(live())
    try:
        await asyncio.wait([life, started], return_when=asyncio.FIRST_COMPLETED)
        yield started.result() if started.done() else await _never_started(life)
    finally:
        stopped.set()
        await life


async def _never_started(life: asyncio.Task[None]) -> Running:
    await life
    raise AssertionError("the server ended at once")
