"""Measures now and then what the vector indexes find, and gives each the ef that this asks for.

Nothing else tells of a damaged index, whose searches go on answering.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from uuid import UUID

import structlog
from asyncpg import Record

from knowledged.database import Connection, Database
from knowledged.errors import status_of
from knowledged.metrics import Metrics
from knowledged.store import recall
from knowledged.workers.ef_tuning import Tuned, Wanted, tuned

PERIOD_SECONDS = 600.0
_LOOK_SECONDS = 60.0
# Exact searches a space each time, fewer where they take long: of 50,000 chunks a hundred take
# two seconds of one core, of a million twenty take eight.
_SAMPLE = 100
_SAMPLE_SECONDS = 4.0
_LIMIT = 10
_LOW = 0.9


class RecallWatch:
    """Any replica measures a space whose time has come, and only one; all tell what was found."""

    def __init__(
        self,
        database: Database,
        metrics: Metrics,
        wanted: Wanted,
        period_seconds: float = PERIOD_SECONDS,
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._wanted = wanted
        self._period_seconds = period_seconds

    async def run(self) -> None:
        """Works for ever; a fault is logged, and it is measured next time."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                await self.measure()
            except Exception as error:
                reason = status_of(error).reason
                structlog.get_logger().warning("recall_watch_failed", reason=reason)

    async def measure(self) -> int:
        """Measures what is due and nobody else measures, and tells of all; how many it measured."""
        measured = [await self._measure(space["space_uid"]) for space in await self._spaces()]
        self._metrics.indexes(
            {str(x["space_uid"]): (x["recall"], x["ef"]) for x in await self._spaces()}
        )
        return sum(measured)

    async def _spaces(self) -> list[Record]:
        async with self._database.read() as conn:
            return await recall.indexed(conn)

    async def _measure(self, space_uid: UUID) -> bool:
        """In one transaction, for the lock; that it is due is asked once nobody else is at it."""
        async with self._database.transaction() as conn:
            if not await recall.try_lock(conn, space_uid):
                return False
            space = await recall.indexed_one(conn, space_uid)
            if space is None or space["age_seconds"] < self._period_seconds:
                return False
            return await self._tune(conn, space)

    async def _tune(self, conn: Connection, space: Record) -> bool:
        drawn = await recall.sample(conn, space["space_uid"], _SAMPLE)
        if not drawn:
            return False
        asked = recall.as_asked(drawn)
        truths = await recall.truths(conn, space, asked, _LIMIT, _SAMPLE_SECONDS)
        now = Tuned(*(space[name] for name in ("ef", "ef_reason", "low_rounds", "ample_rounds")))
        share_at = partial(recall.share, conn, space, truths, _LIMIT)
        after = await tuned(now, self._wanted, share_at)
        await recall.record(
            conn,
            space["space_uid"],
            (after.recall, len(truths)),
            (after.ef, after.reason, after.low_rounds, after.ample_rounds),
        )
        self._tell(space, after, truths)
        return True

    def _tell(self, space: Record, after: Tuned, truths: Sequence[recall.Truth]) -> None:
        log = structlog.get_logger().bind(space_uid=str(space["space_uid"]))
        found = round(after.recall, 3)
        if after.ef != space["ef"]:
            self._metrics.index_ef_changed(raised=after.ef > space["ef"])
            log.info(
                "index_ef_changed",
                ef=after.ef,
                former_ef=space["ef"],
                recall=found,
                queries=len(truths),
            )
        if after.recall < _LOW:
            log.warning("index_recall_low", recall=found)
