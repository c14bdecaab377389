"""A database connection as the type checker sees it: asyncpg ships no types."""

import asyncio
from collections.abc import AsyncIterable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, cast

import asyncpg


class Connection(Protocol):
    """What we use of asyncpg's connections, pooled or not.

    Arguments are bound to `$1`, `$2`, ...; `timeout` is in seconds, None the connection's own.
    """

    async def execute(self, query: str, *args: object, timeout: float | None = None) -> str: ...

    async def fetch(
        self, query: str, *args: object, timeout: float | None = None
    ) -> list[asyncpg.Record]: ...

    async def fetchrow(
        self, query: str, *args: object, timeout: float | None = None
    ) -> asyncpg.Record | None: ...

    async def fetchval(
        self, query: str, *args: object, column: int = 0, timeout: float | None = None
    ) -> Any: ...

    async def copy_records_to_table(
        self,
        table_name: str,
        *,
        records: Iterable[Sequence[object]],
        columns: Sequence[str] | None = None,
        schema_name: str | None = None,
        timeout: float | None = None,
    ) -> str: ...

    async def copy_to_table(
        self,
        table_name: str,
        *,
        source: AsyncIterable[bytes],
        columns: Sequence[str] | None = None,
        schema_name: str | None = None,
        format: str | None = None,
        timeout: float | None = None,
    ) -> str: ...

    def transaction(
        self,
        *,
        isolation: str | None = None,
        readonly: bool = False,
        deferrable: bool = False,
    ) -> AbstractAsyncContextManager[None]: ...

    async def set_type_codec(
        self, typename: str, *, schema: str, encoder: object, decoder: object, format: str
    ) -> None: ...

    def is_closed(self) -> bool: ...

    def is_in_transaction(self) -> bool: ...

    async def close(self, *, timeout: float | None = None) -> None: ...

    def terminate(self) -> None: ...


async def connect(
    dsn: str,
    *,
    database: str | None = None,
    connect_timeout_seconds: float = 10.0,
    command_timeout_seconds: float | None = None,
    settings: Mapping[str, str] | None = None,
) -> Connection:
    """A connection of its own, outside every pool. `database` overrides the one of the DSN; the
    session has `settings` from the start."""
    connecting = cast(Any, asyncpg.connect)
    return await connecting(
        dsn,
        database=database,
        timeout=connect_timeout_seconds,
        command_timeout=command_timeout_seconds,
        server_settings=settings,
    )


async def connect_with(
    dsn: str, settings: Mapping[str, str], *, command_timeout_seconds: float
) -> Connection:
    """As `connect`; without the settings behind a pooler that lets nobody ask for them."""
    timeout = command_timeout_seconds
    try:
        return await connect(dsn, command_timeout_seconds=timeout, settings=settings)
    except asyncpg.ProtocolViolationError:
        return await connect(dsn, command_timeout_seconds=timeout)


async def fetch_each(
    conn: Connection, statement: str, rows: Sequence[Sequence[object]]
) -> list[asyncpg.Record]:
    """A statement for each row, in one round trip: the rows that all of them answer, in order.

    Who is cancelled meanwhile learns of it once all rows are sent. asyncpg, cancelled while it
    still sends them, sends no more and waits for an answer that cannot come: the transaction with
    its locks lived on for twice the time limit of a command.
    """
    if not rows:
        return []
    sent = _Sent(rows)
    fetching = asyncio.ensure_future(cast(Any, conn).fetchmany(statement, sent))
    cancelled: asyncio.CancelledError | None = None
    while not fetching.done():
        try:
            await asyncio.wait([fetching])
        except asyncio.CancelledError as error:
            cancelled = error
            sent.stop(fetching)
    if cancelled is None:
        return fetching.result()
    raise cancelled from (None if fetching.cancelled() else fetching.exception())


class _Sent:
    """Rows on their way, which asyncpg takes as it sends them; with the last one it ends the batch,
    in the same turn of the event loop."""

    def __init__(self, rows: Sequence[Sequence[object]]) -> None:
        self._rows = rows
        self._under_way = False
        self._stopped: asyncio.Future[Any] | None = None

    def __iter__(self) -> Iterator[Sequence[object]]:
        self._under_way = True
        yield from self._rows
        self._under_way = False
        if self._stopped is not None:
            asyncio.get_running_loop().call_soon(self._stopped.cancel)

    def stop(self, fetching: "asyncio.Future[Any]") -> None:
        """Cancels it, unless rows are under way: then once the last has gone."""
        self._stopped = fetching
        if not self._under_way:
            fetching.cancel()
