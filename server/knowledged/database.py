"""The pools of the serving role: connections with our codecs, and a time limit on every wait."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Self

import asyncpg
import structlog

from knowledged.connection import Connection, connect
from knowledged.errors import Unavailable
from knowledged.pool import AWAY, Limits, Pool

__all__ = ["Connection", "Database"]

_CLIENT_ERRORS = (asyncpg.InterfaceError, asyncpg.InternalClientError)
# One in so many connections keeps its plans for reading, and as many for writing: whoever writes
# holds his until the disk has it, and must not keep readers waiting meanwhile.
_PLANNED_SHARE = 4
# A kept plan must fit whatever is bound to it, and the planner guesses it from numbers it does not
# know: so it may only go by indexes and by nested loops, never read a table whole.
_KEPT_PLANS = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}


class Database:
    """Hands out connections. Made by `connect`; `close` it at the end."""

    def __init__(self, pool: Pool, planned: Pool | None, writing: Pool | None, dsn: str) -> None:
        self._pool = pool
        self._planned = planned or pool
        self._writing = writing or pool
        self.dsn = dsn
        self._probe: Connection | None = None
        self._probe_in_use = asyncio.Lock()

    @classmethod
    async def connect(
        cls,
        dsn: str,
        *,
        min_size: int,
        max_size: int,
        command_timeout_seconds: float,
        acquire_timeout_seconds: float,
    ) -> Self:
        """Opens `min_size` connections, and up to `max_size` as they are needed.

        `dsn` is `postgresql://user:password@host:port/database`; for a Unix socket without a host
        but with its folder as `?host=/folder&port=5432`. No statement runs longer than
        `command_timeout_seconds`, nobody waits for a connection longer than
        `acquire_timeout_seconds`. Two quarters of them, if those are one at least, keep plans.
        """
        kept = max_size // _PLANNED_SHARE
        rest = max_size - 2 * kept
        limits = Limits(min(min_size, rest), rest, command_timeout_seconds, acquire_timeout_seconds)
        pool = await Pool.open(dsn, limits, {})
        if not kept:
            return cls(pool, None, None, dsn)
        few = replace(limits, min_size=1, max_size=kept)
        return cls(pool, await _planned(dsn, few), await _planned(dsn, few), dsn)

    def read(self, seconds_left: float | None = None) -> AbstractAsyncContextManager[Connection]:
        """A connection to read with, outside a transaction: each statement is its own.

        Waits for a free one until the time limit, or `seconds_left` of the call if that is less.
        Raises Overloaded (POOL_EXHAUSTED) if all are in use, Unavailable if none can be opened,
        DeadlineExceeded if `seconds_left` were too few to tell.
        """
        return self._pool.lend(seconds_left)

    def write(self, seconds_left: float | None = None) -> AbstractAsyncContextManager[Connection]:
        """As `read`, for one mutating statement; its audit event is in the same statement."""
        return self._pool.lend(seconds_left)

    def read_planned(
        self, seconds_left: float | None = None
    ) -> AbstractAsyncContextManager[Connection]:
        """As `read`, for statements whose plan is one whatever is bound to them.

        The connection plans each of them once, for unknown values, and only by indexes and nested
        loops. In a small pool it is any connection, which plans them each time.
        """
        return self._planned.lend(seconds_left)

    def write_planned(
        self, seconds_left: float | None = None
    ) -> AbstractAsyncContextManager[Connection]:
        """As `write`, for statements that are planned once as those of `read_planned`; while all
        the connections for that are in use, one that plans it anew."""
        return self._planned_or_plain.lend(seconds_left)

    @asynccontextmanager
    async def transaction(self, seconds_left: float | None = None) -> AsyncGenerator[Connection]:
        """As `read`, in one transaction for several statements: what a batch needs."""
        async with self._pool.lend(seconds_left) as conn, conn.transaction():
            yield conn

    @asynccontextmanager
    async def transaction_planned(
        self, seconds_left: float | None = None
    ) -> AsyncGenerator[Connection]:
        """As `transaction`, for statements as those of `write_planned`."""
        async with self._planned_or_plain.lend(seconds_left) as conn, conn.transaction():
            yield conn

    @asynccontextmanager
    async def snapshot(self, seconds_left: float | None = None) -> AsyncGenerator[Connection]:
        """As `read`, with every statement seeing what was committed before the first."""
        async with (
            self._pool.lend(seconds_left) as conn,
            conn.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield conn

    async def ping(self, timeout_seconds: float = 2.0) -> None:
        """Raises Unavailable unless the database answers in time, and takes writes.

        It has a connection of its own: a busy pool is no reason to call the database away.
        """
        try:
            async with asyncio.timeout(timeout_seconds), self._probe_in_use:
                read_only = await self._ask_probe()
        except (OSError, asyncpg.PostgresError, *_CLIENT_ERRORS) as error:
            raise Unavailable(AWAY) from error
        if read_only:
            await self._expire()
            raise Unavailable("the database is read-only", reason="DATABASE_READ_ONLY")

    async def close(self, timeout_seconds: float = 5.0) -> None:
        """Waits for the connections in use, then cuts off what is left."""
        self._drop_probe()
        await asyncio.gather(*(pool.close(timeout_seconds) for pool in self._pools))

    @property
    def _planned_or_plain(self) -> Pool:
        return self._pool if self._writing.all_in_use else self._writing

    @property
    def _pools(self) -> set[Pool]:
        return {self._pool, self._planned, self._writing}

    async def _expire(self) -> None:
        for pool in self._pools:
            await pool.expire()

    async def _ask_probe(self) -> bool:
        """Whether the node is a replica; one that is, or does not answer, is not asked again."""
        kept = False
        try:
            if self._probe is None or self._probe.is_closed():
                self._probe = await connect(self.dsn)
            read_only: bool = await self._probe.fetchval("select pg_is_in_recovery()")
            kept = not read_only
        finally:
            if not kept:
                self._drop_probe()
        return read_only

    def _drop_probe(self) -> None:
        if self._probe is not None:
            self._probe.terminate()
            self._probe = None


async def _planned(dsn: str, limits: Limits) -> Pool:
    """Connections that keep their plans; behind a pooler that lets nobody ask for it, plain ones.

    Asked for later, by `set`, it would stay on a session that the pooler lends to others, too.
    """
    try:
        return await Pool.open(dsn, limits, _KEPT_PLANS)
    except asyncpg.ProtocolViolationError:
        structlog.get_logger().warning("plans_not_kept", problem="a pooler refuses settings")
        return await Pool.open(dsn, limits, {})
