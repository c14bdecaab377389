"""Embeds the chunks that wait, in the background: what was too large to be embedded at once."""

import asyncio
from collections.abc import Sequence

import structlog

from knowledged.database import Database
from knowledged.declared_fields import CHUNK, DOCUMENT, stored_fields
from knowledged.embedding.embedder import Embedder
from knowledged.errors import Overloaded, status_of
from knowledged.store import text_queue
from knowledged.store.text_queue import Described, Embedded, Waiting

_BATCH = 64
_LEASE_SECONDS = 60.0
_IDLE_SECONDS = 1.0
_MOST_ATTEMPTS = 5


class TextWorkers:
    """Leases waiting chunks, embeds them, and delivers their vectors. `run` once per worker."""

    def __init__(self, database: Database, embedder: Embedder) -> None:
        self._database = database
        self._embedder = embedder
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Says that text waits, so that nobody sleeps on."""
        self._woken.set()

    async def run(self) -> None:
        """Works for ever. A fault is logged and waited out; leased chunks come back in time."""
        while True:
            try:
                if not await self._work():
                    await self._sleep()
            except Exception as error:
                reason = status_of(error).reason
                structlog.get_logger().warning("text_worker_failed", reason=reason)
                await asyncio.sleep(_IDLE_SECONDS)

    async def _sleep(self) -> None:
        try:
            async with asyncio.timeout(_IDLE_SECONDS):
                await self._woken.wait()
        except TimeoutError:
            return
        self._woken.clear()

    async def _work(self) -> bool:
        """One batch; False if nothing waited."""
        async with self._database.write() as conn:
            waiting = await text_queue.lease(conn, _BATCH, _LEASE_SECONDS)
        own = [item for item in waiting if item.embedding_model == self._embedder.model_id]
        foreign = [item for item in waiting if item.embedding_model != self._embedder.model_id]
        await self._postpone(foreign, "no server with the collection's model runs")
        if own:
            await self._embed(own)
        return bool(waiting)

    async def _embed(self, waiting: Sequence[Waiting]) -> None:
        try:
            vectors = await self._embedder.embed([item.content for item in waiting])
        except Overloaded:
            raise
        except Exception as error:
            await self._postpone(waiting, status_of(error).message)
            return
        async with self._database.transaction() as conn:
            described = await text_queue.lock(conn, waiting)
            embedded = [
                Embedded(item.chunk_uid, item.content_sha256, row.tobytes(), _fields(about))
                for item, row in zip(waiting, vectors, strict=True)
                if (about := described.get(item.chunk_uid))
            ]
            await text_queue.deliver(conn, embedded)

    async def _postpone(self, waiting: Sequence[Waiting], why: str) -> None:
        if not waiting:
            return
        async with self._database.write() as conn:
            uids = [item.chunk_uid for item in waiting]
            await text_queue.postpone(conn, uids, _MOST_ATTEMPTS, why)


def _fields(about: Described) -> dict[str, object]:
    """What the vector row keeps for filters, as the collection declares it now."""
    declared = about.filter_fields
    of_document = stored_fields(declared, DOCUMENT, about.metadata)
    return of_document | stored_fields(declared, CHUNK, about.chunk_metadata)
