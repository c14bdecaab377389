"""How documents are exported: one snapshot, read one message ahead of its reader, in limited time.

The snapshot is read by a task of its own, so that a reader who stops reading does not hold it.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from knowledged.database import Connection
from knowledged.errors import Overloaded, SnapshotExpired
from knowledged.services.supplies import Supplies
from knowledged.store import document_exports
from knowledged.store.documents import Document
from knowledged.store.filter_sql import Condition

BATCH_BYTES = 1024 * 1024
BATCH_DOCUMENTS = 1_000

Batches = asyncio.Queue[list[Document] | None]


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which documents: of which collection, and under which condition."""

    collection_uid: UUID
    show_deleted: bool
    condition: Condition


class Exporting:
    """Exports of all callers. One for the server."""

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies
        self._running = 0

    async def batches(self, chosen: Chosen) -> AsyncGenerator[list[Document]]:
        """All documents of one moment, in order of creation."""
        batches = Batches(1)
        reading = asyncio.create_task(self._read(chosen, batches))
        try:
            while (batch := await batches.get()) is not None:
                yield batch
            await reading
        finally:
            reading.cancel()
            await asyncio.wait([reading])

    async def _read(self, chosen: Chosen, batches: Batches) -> None:
        try:
            async with self._admitted(), self._snapshot() as conn:
                await _read_all(conn, chosen, batches)
        except Exception:
            # The snapshot is gone by now, however long the reader takes for what is left.
            await batches.put(None)
            raise
        await batches.put(None)

    @asynccontextmanager
    async def _snapshot(self) -> AsyncGenerator[Connection]:
        seconds = self._supplies.limits.max_export_seconds
        limit = asyncio.timeout(seconds)
        try:
            async with limit, self._supplies.database.snapshot() as conn:
                await document_exports.hold(conn, seconds + 60)
                yield conn
        except TimeoutError:
            if limit.expired():
                raise SnapshotExpired(f"an export may take {seconds} seconds") from None
            raise

    @asynccontextmanager
    async def _admitted(self) -> AsyncGenerator[None]:
        most = self._supplies.limits.max_concurrent_exports
        if self._running >= most:
            raise Overloaded(f"{most} exports run already; try again later")
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1


async def _read_all(conn: Connection, chosen: Chosen, batches: Batches) -> None:
    after: tuple[datetime, UUID] | None = None
    while found := await document_exports.sizes(
        conn, chosen.collection_uid, chosen.show_deleted, chosen.condition, after
    ):
        for uids in _parts([(uid, size) for uid, _, size in found]):
            await batches.put(await document_exports.whole(conn, chosen.collection_uid, uids))
        uid, create_time, _ = found[-1]
        after = create_time, uid


def _parts(sizes: Sequence[tuple[UUID, int]]) -> Iterator[list[UUID]]:
    """Documents that together fill a message; a larger one goes alone."""
    part, room = list[UUID](), BATCH_BYTES
    for uid, size in sizes:
        if part and (size > room or len(part) == BATCH_DOCUMENTS):
            yield part
            part, room = [], BATCH_BYTES
        part.append(uid)
        room -= size
    if part:
        yield part
