"""Takes waiting events up into the audit log's tree. Every replica tries; one does it at a time."""

import asyncio
import time
from uuid import UUID

import structlog

from knowledged.database import Database
from knowledged.errors import status_of
from knowledged.ledger.backlog import Backlog
from knowledged.ledger.ledger_metrics import LedgerMetrics
from knowledged.ledger.sequencing import LedgerError, Sequenced, sequence
from knowledged.store import ledger
from knowledged.store.ledger import Backlog as Waiting


class Sequencer:
    """Batch after batch while there is more, else a look every `interval_seconds`."""

    def __init__(
        self,
        database: Database,
        metrics: LedgerMetrics,
        backlog: Backlog,
        *,
        batch_events: int,
        interval_seconds: float,
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._backlog = backlog
        self._batch_events = batch_events
        self._interval_seconds = interval_seconds
        self._gone: set[UUID] = set()

    async def run(self) -> None:
        """Works for ever; a fault is logged, and the batch tried again: none of it was kept."""
        while True:
            try:
                while await self._batch() == self._batch_events:
                    await self._look()
                await self._look()
            except Exception as error:
                self._metrics.failures.labels("sequencer").inc()
                _log_fault(error)
            await asyncio.sleep(self._interval_seconds)

    async def _batch(self) -> int:
        """How many were added; 0 also while another replica does the work."""
        async with self._database.transaction() as conn:
            done = await sequence(conn, self._batch_events)
        if done is None:
            return 0
        self._metrics.sequenced.inc(done.added)
        self._tell_missing(done)
        return done.added

    def _tell_missing(self, done: Sequenced) -> None:
        """Each once: they keep waiting, and come back in every round."""
        new = set(done.missing) - self._gone
        if new:
            self._gone |= new
            self._metrics.missing.set(len(self._gone))
            ids = [str(event_id) for event_id in sorted(new)[:10]]
            structlog.get_logger().error("audit_event_missing", events=len(new), event_ids=ids)

    async def _look(self) -> None:
        """How much waits: for metrics, and for the limit that writes are held to."""
        async with self._database.read() as conn:
            waiting = await ledger.backlog(conn, self._backlog.limit + 1)
            state = await ledger.state(conn)
        self._backlog.waiting = waiting.waiting
        self._metrics.waiting.set(waiting.waiting)
        self._metrics.waiting_seconds.set(_age_seconds(waiting))
        if state:
            self._metrics.tree_size.set(state.tree_size)
            self._metrics.unsigned.set(state.tree_size - state.signed_size)


def _age_seconds(waiting: Waiting) -> float:
    """A uuid v7 begins with its time, 48 bits of milliseconds since 1970."""
    if waiting.oldest is None:
        return 0.0
    return max(0.0, time.time() - (waiting.oldest.int >> 80) / 1000)


def _log_fault(error: Exception) -> None:
    log, kind = structlog.get_logger(), type(error).__name__
    if isinstance(error, LedgerError):
        log.error("audit_ledger_broken", problem=str(error))
    else:
        reason = status_of(error).reason
        log.warning("audit_sequencer_failed", reason=reason, error=kind)
