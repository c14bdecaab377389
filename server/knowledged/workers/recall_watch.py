"""Measures now and then what the vector indexes find: nothing else tells of a damaged index, whose
searches go on answering."""

import asyncio

import structlog

from knowledged.database import Database
from knowledged.errors import status_of
from knowledged.metrics import Metrics
from knowledged.store import recall

INTERVAL_SECONDS = 600.0
# As many exact searches a space each time: of 50,000 chunks half a second of one core.
_SAMPLE = 20
_LIMIT = 10
_LOW = 0.9


class RecallWatch:
    """Sets the gauge knowledged_index_recall of each space with an index."""

    def __init__(self, database: Database, metrics: Metrics) -> None:
        self._database = database
        self._metrics = metrics

    async def run(self) -> None:
        """Works for ever; a fault is logged, and it is measured next time."""
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            try:
                await self.measure()
            except Exception as error:
                reason = status_of(error).reason
                structlog.get_logger().warning("recall_watch_failed", reason=reason)

    async def measure(self) -> None:
        """Measures every indexed space once."""
        async with self._database.read() as conn:
            spaces = await recall.indexed(conn)
        for space in spaces:
            async with self._database.read() as conn:
                found = await recall.of_space(conn, space, _SAMPLE, _LIMIT)
            if found is not None:
                self._tell(str(space["space_uid"]), found)

    def _tell(self, space_uid: str, found: float) -> None:
        self._metrics.index_recall(space_uid, found)
        if found < _LOW:
            log = structlog.get_logger()
            log.warning("index_recall_low", space_uid=space_uid, recall=round(found, 3))
