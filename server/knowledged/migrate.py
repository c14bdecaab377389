"""The migration runner: numbered SQL files, applied once each, in order, under one lock.

A file `NNNN_name.sql` runs in a transaction of its own together with its record in
`knowledge.schema_migration`. One whose first line is `-- no transaction` runs bare (for
`create index concurrently`): it holds one statement, and must bear being run again, because it may
have been done when its record was not yet written. The connection must be a session of its own:
through a pooler in transaction mode the lock would not hold.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import asyncpg

from knowledged.connection import Connection, connect
from knowledged.migration import Migration, MigrationError, latest_version, read_directory

__all__ = [
    "Migration",
    "MigrationError",
    "MigrationState",
    "State",
    "latest_version",
    "migrate",
    "schema_version",
    "status",
]

# The first eight bytes of sha256("knowledged migrations"), as PostgreSQL's signed bigint.
_LOCK_KEY = int.from_bytes(hashlib.sha256(b"knowledged migrations").digest()[:8], signed=True)
_LOCK_POLL_SECONDS = 0.1


class State(StrEnum):
    APPLIED = "applied"
    PENDING = "pending"
    CHANGED = "changed"
    """Applied, but the file is no longer the one that was."""
    UNKNOWN = "unknown"
    """Applied by a newer release: there is no such file here."""


@dataclass(frozen=True, slots=True)
class MigrationState:
    version: int
    name: str
    state: State


async def migrate(
    dsn: str, directory: Path | None = None, *, lock_wait_seconds: float = 300.0
) -> list[Migration]:
    """Applies what is pending and returns it; `dsn` is the owner's.

    Of many that run at once one works, and the others find nothing left to do. Raises
    MigrationError, with everything before the failed file applied.
    """
    migrations = read_directory(directory)
    async with _session(dsn) as conn, _locked(conn, lock_wait_seconds):
        await _create_table(conn)
        pending = _pending(migrations, await _states(conn, migrations))
        for migration in pending:
            await _apply(conn, migration)
    return pending


async def status(dsn: str, directory: Path | None = None) -> list[MigrationState]:
    """Each migration of the directory and of the database, by version; changes nothing."""
    migrations = read_directory(directory)
    async with _session(dsn) as conn:
        return await _states(conn, migrations)


async def schema_version(conn: Connection) -> int:
    """The newest applied version; 0 in a database without our schema."""
    if not await _has_table(conn):
        return 0
    return await conn.fetchval("select coalesce(max(version), 0) from knowledge.schema_migration")


@asynccontextmanager
async def _session(dsn: str) -> AsyncGenerator[Connection]:
    conn = await connect(dsn)
    try:
        # Waiting DDL makes everybody else wait behind it: rather give up, and be run again.
        await conn.execute("set lock_timeout = '10s'")
        await conn.execute("set statement_timeout = '30min'")
        await conn.execute("set idle_in_transaction_session_timeout = '60s'")
        yield conn
    finally:
        await conn.close()


@asynccontextmanager
async def _locked(conn: Connection, wait_seconds: float) -> AsyncGenerator[None]:
    """Tries again and again: a waiting statement would be a snapshot that
    `create index concurrently` waits for in turn."""
    until = time.monotonic() + wait_seconds
    while not await conn.fetchval("select pg_try_advisory_lock($1::bigint)", _LOCK_KEY):
        if time.monotonic() > until:
            raise MigrationError(
                f"another migration has been running for {wait_seconds:.0f} s; try again later"
            )
        await asyncio.sleep(_LOCK_POLL_SECONDS)
    yield  # The lock ends with the session.


async def _create_table(conn: Connection) -> None:
    if await _has_table(conn):
        return
    async with conn.transaction():
        await conn.execute("create schema if not exists knowledge")
        await conn.execute(
            """
            create table knowledge.schema_migration (
                version     int         not null,
                name        text        not null,
                checksum    bytea       not null,
                applied_at  timestamptz not null default now(),
                duration_ms bigint      not null,
                constraint schema_migration_pk primary key (version)
            )
            """
        )


async def _has_table(conn: Connection) -> bool:
    return await conn.fetchval(
        """
        select exists (
            select from pg_class c join pg_namespace n on n.oid = c.relnamespace
            where n.nspname = 'knowledge' and c.relname = 'schema_migration'
        )
        """
    )


async def _states(conn: Connection, migrations: Sequence[Migration]) -> list[MigrationState]:
    applied: dict[int, asyncpg.Record] = {}
    if await _has_table(conn):
        rows = await conn.fetch(
            "select version, name, checksum from knowledge.schema_migration order by version"
        )
        applied = {row["version"]: row for row in rows}
    ours = [
        MigrationState(each.version, each.name, _state(each, applied.get(each.version)))
        for each in migrations
    ]
    newer = [
        MigrationState(version, row["name"], State.UNKNOWN)
        for version, row in applied.items()
        if version > len(migrations)
    ]
    return ours + newer


def _state(migration: Migration, applied: asyncpg.Record | None) -> State:
    if applied is None:
        return State.PENDING
    return State.APPLIED if applied["checksum"] == migration.checksum else State.CHANGED


def _pending(migrations: Sequence[Migration], states: Sequence[MigrationState]) -> list[Migration]:
    for each in states:
        _check(each)
    by_state = dict(zip(migrations, states, strict=True))
    applied = sum(each.state is State.APPLIED for each in states)
    pending = [migration for migration, each in by_state.items() if each.state is State.PENDING]
    if pending and pending[0].version <= applied:
        raise MigrationError(f"migration {pending[0].label} is not applied, but later ones are")
    return pending


def _check(each: MigrationState) -> None:
    if each.state is State.CHANGED:
        raise MigrationError(
            f"migration {each.version:04d}_{each.name} was changed after it had been applied: "
            "restore the file, and put the change into a new one"
        )
    if each.state is State.UNKNOWN:
        raise MigrationError(
            f"the database has migration {each.version:04d}_{each.name}, which this release "
            "does not know: it belongs to a newer one"
        )


async def _apply(conn: Connection, migration: Migration) -> None:
    try:
        if migration.in_transaction:
            async with conn.transaction():
                await _run(conn, migration)
        else:
            await _run(conn, migration)
    except asyncpg.PostgresError as error:
        raise MigrationError(
            f"migration {migration.label} failed: {_reason(migration, error)}"
        ) from error


async def _run(conn: Connection, migration: Migration) -> None:
    started = time.monotonic()
    await conn.execute(migration.content.decode())
    await conn.execute(
        """
        insert into knowledge.schema_migration (version, name, checksum, duration_ms)
        values ($1::int, $2::text, $3::bytea, $4::bigint)
        """,
        migration.version,
        migration.name,
        migration.checksum,
        round((time.monotonic() - started) * 1000),
    )


def _reason(migration: Migration, error: asyncpg.PostgresError) -> str:
    """PostgreSQL's message, with the line where it gives a position (in characters, from 1)."""
    message: str = getattr(error, "message", "")
    position: str | None = getattr(error, "position", None)
    if position is None:
        return message
    line = migration.content.decode()[: int(position) - 1].count("\n") + 1
    return f"{message} (line {line})"
