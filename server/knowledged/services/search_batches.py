"""Searches of one space that come at the same time go to the database together.

Whoever finds a lane free leads: it takes along those who wait by then, and hands the lane on as
soon as the database has answered. Nobody waits for company: alone, a search goes at once.
"""

import asyncio
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from asyncpg import Record, UndefinedTableError

from knowledged.call import Call
from knowledged.database import Database
from knowledged.store import search
from knowledged.store.search import Plan, Query

# Half the cores, so that PostgreSQL, where it is on this machine, has as many as we have. Measured
# on 2 cores: with one lane a search cost a tenth less processor time than with two.
LANES = max(1, (os.cpu_count() or 2) // 2)
# Eight together cost PostgreSQL 660 µs a search instead of 1,260; sixteen 590, for twice the wait.
MOST_TOGETHER = 8
LARGEST_LIMIT = 100

Hits = list[Record]
# What a waiter is told: its hits, to lead, or to go alone since its batch failed.
_LEAD = "lead"
_ALONE = "alone"


@dataclass(slots=True)
class _Waiter:
    vector: bytes
    told: asyncio.Future[Hits | str]


@dataclass(slots=True)
class _Queue:
    """The searches of one kind: alike in all but their vectors."""

    leaders: int = 0
    waiting: deque[_Waiter] = field(default_factory=deque[_Waiter])


_Kind = tuple[object, ...]


class SearchBatches:
    """Carries out searches, those by index and without filter together."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queues: dict[_Kind, _Queue] = {}

    async def search(self, call: Call, plan: Plan, query: Query) -> Hits:
        """As store.search.search."""
        if plan.exact or not query.condition.always or query.limit > LARGEST_LIMIT:
            return await self._alone(call, plan, query)
        kind = plan, query.space_uid, query.limit, query.include_embedding
        queue = self._queues.setdefault(kind, _Queue())
        if queue.leaders < LANES:
            queue.leaders += 1
            return await self._lead(call, plan, query, kind, queue, at_once=False)
        told = await self._wait(kind, queue, query.vector)
        if told == _LEAD:
            return await self._lead(call, plan, query, kind, queue)
        return await self._alone(call, plan, query) if isinstance(told, str) else told

    async def search_many(
        self, call: Call, plan: Plan, query: Query, vectors: Sequence[bytes]
    ) -> list[Hits]:
        """As store.search.search_many; one by one if the space has been dropped meanwhile."""
        try:
            async with self._database.read_planned(call.left) as conn:
                return await search.search_many(conn, plan, query, vectors)
        except UndefinedTableError:
            each = (replace(query, vector=vector) for vector in vectors)
            return [await self._alone(call, plan, one) for one in each]

    async def _wait(self, kind: _Kind, queue: _Queue, vector: bytes) -> Hits | str:
        """What a leader tells."""
        waiter = _Waiter(vector, asyncio.get_running_loop().create_future())
        queue.waiting.append(waiter)
        try:
            return await waiter.told
        except asyncio.CancelledError:
            if waiter.told.done() and not waiter.told.cancelled() and waiter.told.result() == _LEAD:
                self._hand_on(kind, queue)
            raise

    async def _lead(
        self, call: Call, plan: Plan, query: Query, kind: _Kind, queue: _Queue, at_once: bool = True
    ) -> Hits:
        others, hits = list[_Waiter](), list[Hits]()
        try:
            if not at_once:
                # Calls that came in the same turn of the event loop get to the queue first.
                await asyncio.sleep(0)
            others = _taken(queue)
            hits = await self._together(call, plan, query, others)
        except Exception as error:
            # One bad vector must not fail the others, nor theirs this one.
            if not others and not isinstance(error, UndefinedTableError):
                raise
        finally:
            self._hand_on(kind, queue)
            await _tell(others, hits[1:])
        return hits[0] if hits else await self._alone(call, plan, query)

    async def _together(
        self, call: Call, plan: Plan, query: Query, others: Sequence[_Waiter]
    ) -> list[Hits]:
        vectors = [query.vector, *(waiter.vector for waiter in others)]
        async with self._database.read_planned(call.left) as conn:
            return await search.search_many(conn, plan, query, vectors)

    async def _alone(self, call: Call, plan: Plan, query: Query) -> Hits:
        async with self._database.read(call.left) as conn:
            return await search.search(conn, plan, query)

    def _hand_on(self, kind: _Kind, queue: _Queue) -> None:
        """Gives the lane to the next who waits, or frees it."""
        while queue.waiting:
            waiter = queue.waiting.popleft()
            if not waiter.told.done():
                waiter.told.set_result(_LEAD)
                return
        queue.leaders -= 1
        if not queue.leaders:
            self._queues.pop(kind, None)


def _taken(queue: _Queue) -> list[_Waiter]:
    """Those who go along, without any who gave up meanwhile."""
    taken: list[_Waiter] = []
    while queue.waiting and len(taken) < MOST_TOGETHER - 1:
        waiter = queue.waiting.popleft()
        if not waiter.told.done():
            taken.append(waiter)
    return taken


async def _tell(waiters: Sequence[_Waiter], found: Sequence[Hits]) -> None:
    """Tells each what was found for it, or to go alone."""
    try:
        # The next leader's statement goes out before answers are written, which takes a while.
        await asyncio.sleep(0)
    finally:
        for place, waiter in enumerate(waiters):
            if not waiter.told.done():
                waiter.told.set_result(found[place] if found else _ALONE)
