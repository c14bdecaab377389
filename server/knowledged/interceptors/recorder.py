"""Writes audit events in groups: what is queued when the last commit ends goes into the next.

Whoever is waited for waits for no company, and no timer runs: alone, an event is written at once.
What nobody waits for may wait a moment, so that many share a statement and a commit.
"""

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from math import inf

import structlog

from knowledged.call import Receipt
from knowledged.connection import Connection, connect_with
from knowledged.errors import Code, Unavailable, status_of
from knowledged.interceptors.audit_metrics import AuditMetrics
from knowledged.interceptors.occurrence import Occurrence, events_of
from knowledged.interceptors.refusal_counts import RefusalCounts
from knowledged.store import audit_events
from knowledged.store.audit_events import Entry

# Weights are about a row's uid each: some 20 MB wait at most, and 2 MB go in one statement.
MOST_WAITING = 100_000
_MOST_TOGETHER = 10_000
_COMMIT_SECONDS = 5.0
_RETRY_SECONDS = 1.0
# A cut connection, or a database that has no room for one more, is no reason to refuse a call at
# once: whoever waits is refused by the first failure after this time, or after half of his own.
_PATIENCE_SECONDS = 1.0
_RETRY_WHILE_WAITED_SECONDS = 0.1
_COMPANY_SECONDS = 0.05
_LAST_SECONDS = 10.0
_COUNT_SECONDS = 0.5
# Planning took a fifth of the commit of one event: planned once, for however many events. Then
# PostgreSQL expects few, which must not make it compare each with each.
PLANS = {"plan_cache_mode": "force_generic_plan", "enable_nestloop": "off"}
# The database is away or full: what nobody waits for is written once it is back.
_PASSING = {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED, Code.ABORTED}


@dataclass(slots=True)
class _Waiting:
    """What is to be recorded, and who waits for it, if anybody."""

    what: Occurrence
    told: asyncio.Future[Receipt] | None
    until: float
    entries: list[Entry] | None = None
    receipt: Receipt | None = None

    def build(self) -> list[Entry]:
        """Its events, made the first time; a second try writes the same ones."""
        if self.entries is None:
            made = [audit_events.entry(event) for event in events_of(self.what)]
            self.entries, self.receipt = [row for row, _ in made], made[0][1]
        return self.entries


class Recorder:
    """Records calls. `run` it beside the server, whose end writes what is left.

    It has a connection of its own: calls that hold all others wait for it.
    """

    def __init__(
        self,
        dsn: str,
        metrics: AuditMetrics,
        counts: RefusalCounts,
        *,
        durable: bool,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self.metrics = metrics
        self._durable = durable
        self._counts = counts
        self._dsn = dsn
        self._most_waiting = most_waiting
        self._conn: Connection | None = None
        self._queue: deque[_Waiting] = deque()
        self._weight = 0
        self._some = asyncio.Event()
        self._somebody_waits = asyncio.Event()

    async def record(self, what: Occurrence, seconds_left: float | None = None) -> Receipt | None:
        """Returns once the events are committed; eventual, at once while there is room.

        Raises Unavailable when they could not be written. The receipt is that of the first event;
        eventual there is none.
        """
        if not self._durable and self._weight + what.weight <= self._most_waiting:
            self._add(what)
            return None
        told: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        patience = _PATIENCE_SECONDS
        if seconds_left is not None:
            patience = min(patience, seconds_left / 2)
        self._add(what, told, _now() + patience)
        return await told

    def note(self, what: Occurrence) -> None:
        """Records what nobody waits for; it is lost, and counted so, when the queue is full."""
        if self._weight + what.weight > self._most_waiting:
            self._lost(1, Unavailable("the audit queue is full", reason="AUDIT_UNAVAILABLE"))
        else:
            self._add(what)

    def count(self, what: Occurrence) -> None:
        """Adds it to the refusals of its peer and second, which are recorded as one."""
        self._counts.add(what)

    async def run(self) -> None:
        """Writes for ever; when it is cancelled, first what is queued."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write_for_ever())
                tasks.create_task(self._count_for_ever())
        finally:
            self._note_counted(self._counts.taken(all=True))
            await self._write_rest()

    async def _write_for_ever(self) -> None:
        while True:
            await self._some.wait()
            await self._company()
            if not await self._write_next():
                await asyncio.sleep(self._pause_seconds())

    def _pause_seconds(self) -> float:
        waited_for = self._somebody_waits.is_set()
        return _RETRY_WHILE_WAITED_SECONDS if waited_for else _RETRY_SECONDS

    async def _company(self) -> None:
        """Ends at once when an answer waits for what is queued."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_COMPANY_SECONDS):
                await self._somebody_waits.wait()

    async def _count_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_COUNT_SECONDS)
            self._note_counted(self._counts.taken())

    def _note_counted(self, counted: list[Occurrence]) -> None:
        for what in counted:
            self.note(what)

    def _add(
        self, what: Occurrence, told: asyncio.Future[Receipt] | None = None, until: float = inf
    ) -> None:
        self._queue.append(_Waiting(what, told, until))
        if told is not None:
            self._somebody_waits.set()
        self._weigh(what.weight)

    def _weigh(self, more: int) -> None:
        self._weight += more
        self.metrics.waiting.set(len(self._queue))
        if self._queue:
            self._some.set()
        else:
            self._some.clear()

    def _take(self) -> list[_Waiting]:
        taken, weight = list[_Waiting](), 0
        while self._queue and weight < _MOST_TOGETHER:
            taken.append(self._queue.popleft())
            weight += taken[-1].what.weight
        if not any(each.told is not None for each in self._queue):
            self._somebody_waits.clear()
        self._weigh(-weight)
        return taken

    def _put_back(self, kept: list[_Waiting]) -> None:
        self._queue.extendleft(reversed(kept))
        if any(each.told is not None for each in kept):
            self._somebody_waits.set()
        self._weigh(sum(each.what.weight for each in kept))

    async def _write_next(self) -> bool:
        """Writes what goes together now; False if something was kept to be written later."""
        taken = self._take()
        try:
            await self._write(taken)
        except asyncio.CancelledError:
            self._put_back(taken)
            raise
        except Exception as error:
            return await self._not_written(taken, error)
        return True

    async def _write(self, taken: list[_Waiting]) -> None:
        entries = [entry for each in taken for entry in each.build()]
        try:
            async with asyncio.timeout(_COMMIT_SECONDS):
                await audit_events.append(await self._connection(), entries)
        except BaseException:
            self._drop_connection()
            raise
        self.metrics.together.observe(len(entries))
        for each in taken:
            if each.told is not None and each.receipt is not None and not each.told.done():
                each.told.set_result(each.receipt)

    async def _not_written(self, taken: list[_Waiting], error: Exception) -> bool:
        if status_of(error).code in _PASSING:
            # One that is there already, since only its commit's answer was lost, is left alone.
            now = _now()
            kept = [each for each in taken if now < each.until]
            self._put_back(kept)
            self._refuse([each for each in taken if now >= each.until], error)
            return not kept
        if len(taken) == 1:
            self._refuse(taken, error)
        else:
            # One of them may be at fault, and must not cost the others their events.
            for each in taken:
                await self._write_alone(each)
        return True

    async def _write_alone(self, one: _Waiting) -> None:
        try:
            await self._write([one])
        except Exception as error:
            self._refuse([one], error)

    def _refuse(self, unwritten: list[_Waiting], error: Exception) -> None:
        if unwritten:
            self._lost(len(unwritten), error)
        for each in unwritten:
            if each.told is not None and not each.told.done():
                away = Unavailable("the audit log cannot be written", reason="AUDIT_UNAVAILABLE")
                away.__cause__ = error
                each.told.set_exception(away)

    def _lost(self, count: int, error: Exception) -> None:
        self.metrics.failed.inc(count)
        reason, kind = status_of(error).reason, type(error).__name__
        structlog.get_logger().error("audit_not_written", calls=count, reason=reason, error=kind)

    async def _write_rest(self) -> None:
        try:
            async with asyncio.timeout(_LAST_SECONDS):
                while self._queue:
                    if not await self._write_next():
                        await asyncio.sleep(self._pause_seconds())
        except TimeoutError as error:
            self._refuse(list(self._queue), error)
        finally:
            self._drop_connection()

    async def _connection(self) -> Connection:
        if self._conn is None or self._conn.is_closed():
            self._conn = await connect_with(
                self._dsn, PLANS, command_timeout_seconds=_COMMIT_SECONDS
            )
        return self._conn

    def _drop_connection(self) -> None:
        if self._conn is not None:
            self._conn.terminate()
            self._conn = None


def _now() -> float:
    return asyncio.get_running_loop().time()
