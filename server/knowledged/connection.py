"""A database connection as the type checker sees it: asyncpg ships no types."""

import asyncio
from collections.abc import AsyncIterable, Iterable, Sequence
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
) -> Connection:
    """A connection of its own, outside every pool. `database` overrides the one of the DSN."""
    connecting = cast(Any, asyncpg.connect)
    return await connecting(
        dsn,
        database=database,
        timeout=connect_timeout_seconds,
        command_timeout=command_timeout_seconds,
    )


async def fetch_each(
    conn: Connection, statement: str, rows: Iterable[Sequence[object]]
) -> list[asyncpg.Record]:
    """A statement for each row, in one round trip: the rows that all of them answer, in order.

    Who is cancelled meanwhile learns of it when they have ended. asyncpg, cancelled while it still
    sends rows, sends no more of them and waits for an answer that cannot come: the transaction with
    its locks lived on for twice the time limit of a command.
    """
    fetching = asyncio.ensure_future(cast(Any, conn).fetchmany(statement, rows))
    cancelled: asyncio.CancelledError | None = None
    while not fetching.done():
        try:
            await asyncio.wait([fetching])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return fetching.result()
    raise cancelled from fetching.exception()
