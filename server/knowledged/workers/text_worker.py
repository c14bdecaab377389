"""Embeds the chunks that wait, in the background: what was too large to be embedded at once."""

import asyncio
from collections.abc import Sequence

import structlog

from knowledged.database import Database
from knowledged.declared_fields import CHUNK, DOCUMENT, stored_fields
from knowledged.embedding.catalogue import Offered
from knowledged.embedding.provider_faults import ProviderAway, ProviderRefuses
from knowledged.errors import Overloaded, status_of
from knowledged.store import text_queue
from knowledged.store.text_queue import Described, Embedded, Model, Waiting

_BATCH = 64
# Four requests of 32 at once, and as many again while those are on their way.
_REMOTE_BATCH = 256
_LEASE_SECONDS = 60.0
_REMOTE_LEASE_SECONDS = 180.0
_IDLE_SECONDS = 1.0
_MOST_ATTEMPTS = 5


class TextWorkers:
    """Leases waiting chunks, embeds them, and delivers their vectors. `run` once per worker."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Says that text waits, so that nobody sleeps on."""
        self._woken.set()

    async def run(self, model: Offered) -> None:
        """Works for ever on one model's chunks; they wait while its provider is away.

        A fault is logged and waited out; leased chunks come back in time.
        """
        while True:
            try:
                if model.seconds_away or not await self._work(model):
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

    async def _work(self, model: Offered) -> bool:
        """One batch; False if nothing waited."""
        remote = model.remote is not None
        most = _REMOTE_BATCH if remote else _BATCH
        seconds = _REMOTE_LEASE_SECONDS if remote else _LEASE_SECONDS
        asked = Model(model.model_id, model.embedder.model_digest, remote)
        async with self._database.write() as conn:
            waiting = await text_queue.lease(conn, asked, most, seconds)
        if waiting:
            await self._embed(model, waiting)
        return bool(waiting)

    async def _embed(self, model: Offered, waiting: Sequence[Waiting]) -> None:
        try:
            vectors = await model.embedder.embed([item.content for item in waiting])
        except Overloaded:
            raise
        except (ProviderAway, ProviderRefuses) as error:
            await self._give_back(waiting, error.message, model.seconds_away)
        except Exception as error:
            await self._apart(model, waiting, status_of(error).message)
        else:
            await self._deliver(waiting, [row.tobytes() for row in vectors])

    async def _apart(self, model: Offered, waiting: Sequence[Waiting], why: str) -> None:
        """What fails together is tried in halves, so that a bad text costs its own attempt only."""
        if len(waiting) == 1:
            await self._postpone(waiting, why)
            return
        middle = len(waiting) // 2
        await self._embed(model, waiting[:middle])
        await self._embed(model, waiting[middle:])

    async def _deliver(self, waiting: Sequence[Waiting], vectors: Sequence[bytes]) -> None:
        async with self._database.transaction() as conn:
            described = await text_queue.lock(conn, waiting)
            embedded = [
                Embedded(item.chunk_uid, item.content_sha256, vector, _fields(about))
                for item, vector in zip(waiting, vectors, strict=True)
                if (about := described.get(item.chunk_uid))
            ]
            await text_queue.deliver(conn, embedded)

    async def _give_back(self, waiting: Sequence[Waiting], why: str, seconds: float) -> None:
        async with self._database.write() as conn:
            uids = [item.chunk_uid for item in waiting]
            await text_queue.give_back(conn, uids, min(seconds, _IDLE_SECONDS), why)

    async def _postpone(self, waiting: Sequence[Waiting], why: str) -> None:
        async with self._database.write() as conn:
            uids = [item.chunk_uid for item in waiting]
            await text_queue.postpone(conn, uids, _MOST_ATTEMPTS, why)


def _fields(about: Described) -> dict[str, object]:
    """What the vector row keeps for filters, as the collection declares it now."""
    declared = about.filter_fields
    of_document = stored_fields(declared, DOCUMENT, about.metadata)
    return of_document | stored_fields(declared, CHUNK, about.chunk_metadata)
