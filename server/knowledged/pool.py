"""Connections to lend: asyncpg's pool opens and closes them, a list of our own hands them round.

Borrowing from asyncpg and giving back takes a task, two timers and some 25 µs of a call, also when
a connection lies ready. So one that comes back in order goes to who waits longest, or stays on the
list, and asyncpg is asked only for one more, and told when something went wrong.

Nothing may set session state on a lent connection: giving it back in order sends nothing, which
saves a round trip a call. Session settings come by `alter role` in the migrations, or with the
pool.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self, cast

import asyncpg

from knowledged.codecs import set_codecs
from knowledged.connection import Connection
from knowledged.errors import DeadlineExceeded, Overloaded, Unavailable

AWAY = "the database is not reachable"
# Ours are a fixed set; filters and search renderings add to it.
_CACHED_STATEMENTS = 512
_LONGEST_CACHED_STATEMENT = 64 * 1024
_RELEASE_SECONDS = 5.0


class _AsyncpgPool(Protocol):
    """What we use of asyncpg.Pool."""

    async def acquire(self) -> Connection: ...
    async def release(self, connection: Connection, *, timeout: float) -> None: ...
    async def expire_connections(self) -> None: ...
    async def close(self) -> None: ...
    def terminate(self) -> None: ...
    def get_idle_size(self) -> int: ...
    def get_size(self) -> int: ...
    def get_max_size(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How many connections are kept, how many there may be, and how long what may take."""

    min_size: int
    max_size: int
    command_timeout_seconds: float
    acquire_timeout_seconds: float


# A connection, and the generation it is of.
Lent = tuple[Connection, int]


class Pool:
    """Made by `open`; `close` it at the end."""

    def __init__(self, pool: _AsyncpgPool, acquire_timeout_seconds: float) -> None:
        self._pool = pool
        self._acquire_timeout_seconds = acquire_timeout_seconds
        self._free: list[Lent] = []
        # Who waits for one that is in use, and how many ask asyncpg for one more.
        self._waiting: deque[asyncio.Future[Lent | None]] = deque()
        self._asking = 0
        self._generation = 0
        self._closing = False

    @classmethod
    async def open(cls, dsn: str, limits: Limits, settings: Mapping[str, str]) -> Self:
        """Opens `min_size` connections, whose sessions have `settings` from the start."""
        creating = cast(Any, asyncpg.create_pool)
        pool = await creating(
            dsn,
            min_size=limits.min_size,
            max_size=limits.max_size,
            max_queries=sys.maxsize,
            max_inactive_connection_lifetime=0,
            init=set_codecs,
            reset=_end_what_was_begun,
            timeout=limits.acquire_timeout_seconds,
            command_timeout=limits.command_timeout_seconds,
            statement_cache_size=_CACHED_STATEMENTS,
            max_cached_statement_lifetime=0,
            max_cacheable_statement_size=_LONGEST_CACHED_STATEMENT,
            server_settings=dict(settings),
        )
        return cls(pool, limits.acquire_timeout_seconds)

    def lend(self, seconds_left: float | None) -> "Loan":
        """A connection for a block. Raises as Database.read."""
        return Loan(self, seconds_left)

    @property
    def all_in_use(self) -> bool:
        """Whether whoever comes now would wait."""
        pool = self._pool
        full = pool.get_size() == pool.get_max_size() and pool.get_idle_size() == 0
        return full and not self._free

    async def expire(self) -> None:
        """Replaces every connection: those in use when they come back."""
        self._generation += 1
        await self._pool.expire_connections()
        await self._empty()

    async def close(self, timeout_seconds: float) -> None:
        """Waits for the connections in use, then cuts off what is left."""
        self._closing = True
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_seconds):
                    await self._empty()
                    await self._pool.close()
        finally:
            self._pool.terminate()

    async def take(self, seconds_left: float | None) -> Lent:
        """A connection, and the generation it is of."""
        return await self._lying_free() or await self._waited_for(seconds_left)

    async def give_back(self, conn: Connection, generation: int) -> None:
        """One that its borrower leaves in order; asyncpg ends a transaction that is still open."""
        if self._asking or self._closing or not self._is_good(conn, generation):
            await self._release(conn)
        elif not self._handed_on((conn, generation)):
            self._free.append((conn, generation))

    async def give_back_after(self, error: BaseException, conn: Connection) -> None:
        """One that may be broken, or whose statement may still run: it is cancelled first."""
        try:
            if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
                # A failover left us on a replica; new connections find the new primary.
                await self.expire()
        finally:
            await self._release(conn)

    async def _release(self, conn: Connection) -> None:
        """To asyncpg, and on to whoever asks it; then the next who waits may ask."""
        # Where this fails the connection is closed; the caller's own outcome stands.
        try:
            with suppress(Exception):
                await self._pool.release(conn, timeout=_RELEASE_SECONDS)
        except BaseException:
            self._handed_on(None)
            raise
        if not self.all_in_use:
            self._handed_on(None)

    async def _empty(self) -> None:
        while self._free:
            await self._release(self._free.pop()[0])

    async def _lying_free(self) -> Lent | None:
        while self._free:
            lent = self._free.pop()
            if self._is_good(*lent):
                return lent
            await self._release(lent[0])
        return None

    def _is_good(self, conn: Connection, generation: int) -> bool:
        """To be lent again."""
        return generation == self._generation and _is_ready(conn)

    async def _waited_for(self, seconds_left: float | None) -> Lent:
        limit = self._acquire_timeout_seconds
        try:
            async with asyncio.timeout(limit if seconds_left is None else min(limit, seconds_left)):
                handed = await self._next_handed_on() if self.all_in_use else None
                return handed or await self._lying_free() or await self._one_more()
        except TimeoutError as error:
            if self.all_in_use:
                raise Overloaded(
                    "all database connections are in use", reason="POOL_EXHAUSTED"
                ) from error
            if seconds_left is not None and seconds_left < limit:
                raise DeadlineExceeded("the time for the call ran out") from error
            raise Unavailable(AWAY) from error

    async def _one_more(self) -> Lent:
        self._asking += 1
        generation = self._generation
        try:
            return await self._pool.acquire(), generation
        except BaseException:
            # What this one got no more, or not yet, the next may.
            self._handed_on(None)
            raise
        finally:
            self._asking -= 1

    async def _next_handed_on(self) -> Lent | None:
        """What somebody gives back; None when asyncpg has one more instead."""
        waiter: asyncio.Future[Lent | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                await self._pass_on(waiter.result())
            raise

    async def _pass_on(self, lent: Lent | None) -> None:
        """What came too late for who waited."""
        if lent is None:
            self._handed_on(None)
        else:
            await self.give_back(*lent)

    def _handed_on(self, lent: Lent | None) -> bool:
        """To who waits longest; False if nobody does."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(lent)
                return True
        return False


class Loan:
    """`async with` gives the connection; it goes back when the block ends, however that be."""

    __slots__ = ("_conn", "_generation", "_pool", "_seconds_left")

    def __init__(self, pool: Pool, seconds_left: float | None) -> None:
        self._pool = pool
        self._seconds_left = seconds_left

    async def __aenter__(self) -> Connection:
        self._conn, self._generation = await self._pool.take(self._seconds_left)
        return self._conn

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if error is None:
            await self._pool.give_back(self._conn, self._generation)
        else:
            await self._pool.give_back_after(error, self._conn)


def _is_ready(conn: Connection) -> bool:
    """Open, and in no transaction: whoever begins one within another is refused."""
    try:
        return not conn.is_closed() and not conn.is_in_transaction()
    except asyncpg.InterfaceError:
        # Lost while it lay here: asyncpg has taken it back already.
        return False


async def _end_what_was_begun(conn: Connection) -> None:
    """In place of asyncpg's reset query, one that does nothing.

    asyncpg sends what it prepares without a Sync, which comes with the execution. Cancelled between
    the two, it knows of nothing to end; but PostgreSQL is in a transaction, with a snapshot and
    locks, until a simple query's end (PostgreSQL's protocol, "Extended Query").
    """
    await conn.execute("select")
