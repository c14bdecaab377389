"""The pool of the serving role: connections with our codecs, and a time limit on every wait.

Nothing may set session state on a pooled connection: releasing one sends no reset query, which
saves a round trip a call. Session settings come by `alter role` in the migrations.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Protocol, Self, cast

import asyncpg

from knowledged.codecs import set_codecs
from knowledged.connection import Connection, connect
from knowledged.errors import DeadlineExceeded, Overloaded, Unavailable

__all__ = ["Connection", "Database"]

# Ours are a fixed set; filters and search renderings add to it.
_CACHED_STATEMENTS = 512
_LONGEST_CACHED_STATEMENT = 64 * 1024
_RELEASE_SECONDS = 5.0
_AWAY = "the database is not reachable"
_CLIENT_ERRORS = (asyncpg.InterfaceError, asyncpg.InternalClientError)


class _Pool(Protocol):
    """What we use of asyncpg.Pool."""

    async def acquire(self) -> Connection: ...
    async def release(self, connection: Connection, *, timeout: float | None) -> None: ...
    async def expire_connections(self) -> None: ...
    async def close(self) -> None: ...
    def terminate(self) -> None: ...
    def get_idle_size(self) -> int: ...
    def get_size(self) -> int: ...
    def get_max_size(self) -> int: ...


class Database:
    """Hands out connections. Made by `connect`; `close` it at the end."""

    def __init__(self, pool: _Pool, dsn: str, acquire_timeout_seconds: float) -> None:
        self._pool = pool
        self.dsn = dsn
        self._acquire_timeout_seconds = acquire_timeout_seconds
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
        `acquire_timeout_seconds`.
        """
        creating = cast(Any, asyncpg.create_pool)
        pool = await creating(
            dsn,
            min_size=min_size,
            max_size=max_size,
            max_queries=sys.maxsize,
            max_inactive_connection_lifetime=0,
            init=set_codecs,
            reset=_leave_as_it_is,
            timeout=acquire_timeout_seconds,
            command_timeout=command_timeout_seconds,
            statement_cache_size=_CACHED_STATEMENTS,
            max_cached_statement_lifetime=0,
            max_cacheable_statement_size=_LONGEST_CACHED_STATEMENT,
        )
        return cls(pool, dsn, acquire_timeout_seconds)

    def read(self, seconds_left: float | None = None) -> AbstractAsyncContextManager[Connection]:
        """A connection to read with, outside a transaction: each statement is its own.

        Waits for a free one until the time limit, or `seconds_left` of the call if that is less.
        Raises Overloaded (POOL_EXHAUSTED) if all are in use, Unavailable if none can be opened,
        DeadlineExceeded if `seconds_left` were too few to tell.
        """
        return self._borrowed(seconds_left)

    def write(self, seconds_left: float | None = None) -> AbstractAsyncContextManager[Connection]:
        """As `read`, for one mutating statement; its audit event is in the same statement."""
        return self._borrowed(seconds_left)

    @asynccontextmanager
    async def transaction(self, seconds_left: float | None = None) -> AsyncGenerator[Connection]:
        """As `read`, in one transaction for several statements: what a batch needs."""
        async with self._borrowed(seconds_left) as conn, conn.transaction():
            yield conn

    async def ping(self, timeout_seconds: float = 2.0) -> None:
        """Raises Unavailable unless the database answers in time, and takes writes.

        It has a connection of its own: a busy pool is no reason to call the database away.
        """
        try:
            async with asyncio.timeout(timeout_seconds), self._probe_in_use:
                read_only = await self._ask_probe()
        except (OSError, asyncpg.PostgresError, *_CLIENT_ERRORS) as error:
            raise Unavailable(_AWAY) from error
        if read_only:
            await self._pool.expire_connections()
            raise Unavailable("the database is read-only", reason="DATABASE_READ_ONLY")

    async def close(self, timeout_seconds: float = 5.0) -> None:
        """Waits for the connections in use, then cuts off what is left."""
        self._drop_probe()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._pool.close()

    @asynccontextmanager
    async def _borrowed(self, seconds_left: float | None) -> AsyncGenerator[Connection]:
        conn = await self._acquire(seconds_left)
        release_seconds = None
        try:
            yield conn
        except BaseException as error:
            # A cancelled statement may still run, and is cancelled at the server first.
            release_seconds = _RELEASE_SECONDS
            if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
                # A failover left us on a replica; new connections find the new primary.
                await self._pool.expire_connections()
            raise
        finally:
            # Where this fails the connection is closed; the caller's own outcome stands.
            with suppress(Exception):
                await self._pool.release(conn, timeout=release_seconds)

    async def _acquire(self, seconds_left: float | None) -> Connection:
        limit = self._acquire_timeout_seconds
        try:
            async with asyncio.timeout(limit if seconds_left is None else min(limit, seconds_left)):
                return await self._pool.acquire()
        except TimeoutError as error:
            if self._all_in_use():
                raise Overloaded(
                    "all database connections are in use", reason="POOL_EXHAUSTED"
                ) from error
            if seconds_left is not None and seconds_left < limit:
                raise DeadlineExceeded("the time for the call ran out") from error
            raise Unavailable(_AWAY) from error

    def _all_in_use(self) -> bool:
        pool = self._pool
        return pool.get_size() == pool.get_max_size() and pool.get_idle_size() == 0

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


async def _leave_as_it_is(conn: Connection) -> None:
    """In place of asyncpg's reset query."""
