"""The pool: cancelled callers, exhaustion, lost connections, read-only nodes."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import asyncpg
import pytest

from cluster import DatabaseUrls, open_database
from knowledged.connection import connect, fetch_each
from knowledged.database import Database
from knowledged.embedded import embedded_postgres
from knowledged.errors import Code, Overloaded, Unavailable

SLOW = "select pg_sleep(20)"


async def backend(database: Database) -> int:
    async with database.read() as conn:
        return await conn.fetchval("select pg_backend_pid()")


async def test_a_cancelled_query_gives_its_connection_back_clean(bare_database: Database) -> None:
    before = await backend(bare_database)
    started = time.monotonic()
    for _ in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), bare_database.write() as conn:
                await conn.execute(SLOW)
    assert await backend(bare_database) == before
    assert time.monotonic() - started < 5


async def test_a_cancelled_batch_leaves_nothing_behind(bare_database: Database) -> None:
    async with bare_database.write() as conn:
        await conn.execute("create table public.t (n int)")

    async def batch() -> None:
        async with bare_database.transaction() as conn:
            await conn.execute("insert into t values (1)")
            await conn.execute(SLOW)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(batch(), 0.2)
    async with bare_database.transaction() as conn:
        assert await conn.fetchval("select count(*) from t") == 0
        await conn.execute("insert into t values (2)")
    async with bare_database.read() as conn:
        assert await conn.fetchval("select sum(n) from t") == 2


async def test_a_transaction_left_open_is_lent_to_nobody(bare_database: Database) -> None:
    async with bare_database.write() as conn:
        await conn.execute("begin")
    async with bare_database.snapshot() as conn:
        assert await conn.fetchval("show transaction_isolation") == "repeatable read"


async def test_who_leaves_before_what_he_prepared_runs_leaves_nothing_open(
    bare_database: Database,
) -> None:
    async def prepare() -> None:
        async with bare_database.read() as conn:
            # What a call has done that is cancelled between Parse and Bind.
            await cast(Any, conn).prepare("select count(*) from pg_class")
            raise asyncio.CancelledError

    assert await backend(bare_database) > 0
    with pytest.raises(asyncio.CancelledError):
        await prepare()
    async with bare_database.snapshot() as conn:
        assert await conn.fetchval("show transaction_isolation") == "repeatable read"


class Rows(list[tuple[str]]):
    """A hundred rows, too many to send at once; `halfway` is called while they are sent."""

    def __init__(self, halfway: Callable[[], object]) -> None:
        super().__init__([("x" * 20_000,)] * 100)
        self._halfway = halfway

    def __iter__(self) -> Iterator[tuple[str]]:
        for number, row in enumerate(super().__iter__()):
            if number == 50:
                self._halfway()
            yield row


async def test_a_batch_that_is_cancelled_while_it_is_sent_ends_at_once(
    bare_database: Database,
) -> None:
    async with bare_database.write() as conn:
        await conn.execute("create table public.t (text text)")

    async def write() -> None:
        async with bare_database.transaction() as conn:
            rows = Rows(writing.cancel)
            await fetch_each(conn, "insert into t values ($1) returning text", rows)

    before, started = await backend(bare_database), time.monotonic()
    writing = asyncio.create_task(write())
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert time.monotonic() - started < 5
    assert await backend(bare_database) == before
    async with bare_database.read() as conn:
        assert await conn.fetchval("select count(*) from t") == 0


async def test_a_batch_that_waits_for_a_lock_ends_when_it_is_cancelled(
    bare_database: Database,
) -> None:
    async with bare_database.write() as conn:
        await conn.execute("create table public.t (n int primary key)")

    async def write() -> None:
        async with bare_database.transaction() as conn:
            await fetch_each(conn, "insert into t values ($1) returning n", [(2,), (1,)])

    async with bare_database.transaction() as conn:
        await conn.execute("insert into t values (1)")
        writing = asyncio.create_task(write())
        await asyncio.sleep(0.2)
        began = time.monotonic()
        writing.cancel()
        await asyncio.wait([writing])
        assert writing.cancelled()
        assert time.monotonic() - began < 5
    async with bare_database.read() as conn:
        assert await conn.fetchval("select array_agg(n) from t") == [1]


async def test_cancelled_while_waiting_for_a_connection_loses_none(
    bare_database: Database,
) -> None:
    async def hold(seconds: float) -> None:
        async with bare_database.read() as conn:
            await conn.execute("select pg_sleep($1)", seconds)

    holders = [asyncio.create_task(hold(0.2)) for _ in range(3)]
    await asyncio.sleep(0.1)
    waiting = [asyncio.create_task(hold(0)) for _ in range(20)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*holders, *waiting, return_exceptions=True)
    await asyncio.gather(*(hold(0.01) for _ in range(10)))
    assert [task.exception() for task in holders] == [None] * 3


async def test_an_exhausted_pool_says_so_in_time(bare_database: Database) -> None:
    async with bare_database.read(), bare_database.read(), bare_database.write():
        started = time.monotonic()
        with pytest.raises(Overloaded) as raised:
            async with bare_database.read(seconds_left=0.1):
                pass
        await bare_database.ping()
    assert (raised.value.code, raised.value.reason) == (Code.RESOURCE_EXHAUSTED, "POOL_EXHAUSTED")
    assert 0.1 <= time.monotonic() - started < 2
    assert await backend(bare_database) > 0


async def test_who_waits_gets_the_next_connection_that_comes_back(bare_database: Database) -> None:
    async with bare_database.read(), bare_database.read():
        async with bare_database.read() as conn:
            pid = await conn.fetchval("select pg_backend_pid()")
            waiting = asyncio.create_task(backend(bare_database))
            await asyncio.sleep(0.05)
            assert not waiting.done()
        assert await asyncio.wait_for(waiting, 2) == pid
    assert await backend(bare_database) > 0


async def test_what_is_handed_to_who_was_cancelled_goes_on_to_others(
    bare_database: Database,
) -> None:
    async with bare_database.read(), bare_database.read():
        async with bare_database.read() as conn:
            pid = await conn.fetchval("select pg_backend_pid()")
            waiting = asyncio.create_task(backend(bare_database))
            others = [asyncio.create_task(backend(bare_database)) for _ in range(3)]
            await asyncio.sleep(0.05)
        waiting.cancel()
        async with asyncio.timeout(2):
            assert await asyncio.gather(*others) == [pid] * 3
            assert await backend(bare_database) == pid
    assert waiting.cancelled()


async def test_what_a_cancelled_call_asked_asyncpg_for_goes_on_to_others(
    bare_urls: DatabaseUrls,
) -> None:
    # Of none it must have, the pool opens one only for who asks.
    database = await Database.connect(
        bare_urls.owner_dsn,
        min_size=0,
        max_size=1,
        command_timeout_seconds=10,
        acquire_timeout_seconds=5,
    )

    async def lose_it() -> None:
        async with database.read() as conn:
            await conn.execute("select pg_terminate_backend(pg_backend_pid())")

    lost, *waiting = (
        asyncio.create_task(each) for each in (lose_it(), backend(database), backend(database))
    )
    with pytest.raises(asyncpg.PostgresConnectionError):
        await lost
    await asyncio.sleep(0)
    # By now the first connects anew.
    waiting[0].cancel()
    assert await asyncio.wait_for(waiting[1], 2) > 0
    assert waiting[0].cancelled()
    await database.close()


async def test_a_quarter_of_the_connections_keeps_its_plans(bare_urls: DatabaseUrls) -> None:
    database = await Database.connect(
        bare_urls.server_dsn,
        min_size=1,
        max_size=5,
        command_timeout_seconds=10,
        acquire_timeout_seconds=0.1,
    )
    async with database.read_planned() as conn:
        assert await conn.fetchval("show plan_cache_mode") == "force_generic_plan"
        with pytest.raises(Overloaded):
            async with database.read_planned():
                pass
        async with database.read() as other:
            assert await other.fetchval("show plan_cache_mode") != "force_generic_plan"
    await database.close()


async def test_who_writes_by_kept_plans_waits_for_nobody_who_reads_by_them(
    bare_urls: DatabaseUrls,
) -> None:
    database = await Database.connect(
        bare_urls.server_dsn,
        min_size=1,
        max_size=5,
        command_timeout_seconds=10,
        acquire_timeout_seconds=0.1,
    )
    async with database.read_planned(), database.write_planned() as first:
        assert await first.fetchval("show plan_cache_mode") == "force_generic_plan"
        async with database.write_planned() as second:
            assert await second.fetchval("show plan_cache_mode") != "force_generic_plan"
    async with database.write_planned() as again:
        assert again is not second
        assert await again.fetchval("show plan_cache_mode") == "force_generic_plan"
    await database.close()


async def test_a_small_pool_lends_any_connection_to_keep_a_plan(bare_database: Database) -> None:
    async with bare_database.read_planned() as conn:
        planned = await conn.fetchval("select pg_backend_pid()")
    assert await backend(bare_database) == planned


async def test_killed_connections_are_replaced(
    bare_database: Database, bare_urls: DatabaseUrls
) -> None:
    await bare_database.ping()
    before = await backend(bare_database)
    admin = await connect(bare_urls.superuser_dsn)
    await admin.execute(
        """
        select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()
        """
    )
    await admin.close()
    await asyncio.sleep(0.05)
    assert await backend(bare_database) != before
    await bare_database.ping()


async def test_a_connection_killed_in_use_fails_that_call_alone(bare_database: Database) -> None:
    async with bare_database.read() as conn:
        with pytest.raises(asyncpg.PostgresConnectionError):
            await conn.execute("select pg_terminate_backend(pg_backend_pid())")
    assert await backend(bare_database) > 0


async def test_a_read_only_node_is_left_for_new_connections(bare_database: Database) -> None:
    async with bare_database.write() as conn:
        await conn.execute("create table public.t (n int)")
        before = await conn.fetchval("select pg_backend_pid()")
        await conn.execute("set default_transaction_read_only = on")
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        async with bare_database.write() as conn:
            await conn.execute("insert into t values (1)")
    async with bare_database.write() as conn:
        assert await conn.fetchval("select pg_backend_pid()") != before
        await conn.execute("insert into t values (1)")


async def test_ddl_below_a_cached_statement_goes_unnoticed(bare_database: Database) -> None:
    async with bare_database.write() as conn:
        await conn.execute("create table public.t (n int)")
        await conn.execute("insert into t values (1)")
        assert [tuple(row) for row in await conn.fetch("select * from t")] == [(1,)]
    async with bare_database.write() as conn:
        await conn.execute("alter table t add m text default 'new'")
    async with bare_database.read() as conn:
        assert [tuple(row) for row in await conn.fetch("select * from t")] == [(1, "new")]


async def test_giving_a_connection_back_sends_nothing(
    bare_database: Database, bare_urls: DatabaseUrls
) -> None:
    pid = await backend(bare_database)
    admin = await connect(bare_urls.superuser_dsn)
    last = await admin.fetchval("select query from pg_stat_activity where pid = $1", pid)
    await admin.close()
    assert last == "select pg_backend_pid()"


async def test_a_statement_that_takes_too_long_is_ended(bare_urls: DatabaseUrls) -> None:
    database = await Database.connect(
        bare_urls.owner_dsn,
        min_size=1,
        max_size=1,
        command_timeout_seconds=0.1,
        acquire_timeout_seconds=5,
    )
    with pytest.raises(TimeoutError):
        async with database.read() as conn:
            await conn.execute(SLOW)
    assert await backend(database) > 0
    await database.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="knowledged-tests-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


async def test_a_database_that_went_away_is_found_again(folder: Path) -> None:
    async with embedded_postgres(folder, durable=False) as server:
        database = await open_database(server.server_dsn)
        await database.ping()
    with pytest.raises(Unavailable, match="not reachable"):
        await database.ping()
    with pytest.raises(OSError, match=r"No such file"):
        await backend(database)
    async with embedded_postgres(folder, durable=False):
        await database.ping()
        assert await backend(database) > 0
        await database.close()


async def test_closing_does_not_wait_for_ever(bare_urls: DatabaseUrls) -> None:
    database = await open_database(bare_urls.owner_dsn)
    async with database.read():
        started = time.monotonic()
        await database.close(timeout_seconds=0.1)
    assert time.monotonic() - started < 2


async def test_a_database_without_pgvector_says_what_to_do(bare_urls: DatabaseUrls) -> None:
    admin = await connect(bare_urls.superuser_dsn)
    await admin.execute("drop extension vector")
    await admin.close()
    with pytest.raises(Unavailable, match="pgvector"):
        await open_database(bare_urls.owner_dsn)


async def test_vectors_work_from_any_schema(bare_urls: DatabaseUrls) -> None:
    admin = await connect(bare_urls.superuser_dsn)
    await admin.execute("create schema extensions")
    await admin.execute("alter extension vector set schema extensions")
    await admin.execute("grant usage on schema extensions to knowledge_owner")
    await admin.close()
    database = await open_database(bare_urls.owner_dsn)
    async with database.read() as conn:
        assert await conn.fetchval("select $1::extensions.vector", b"\0\0\x80?") == b"\0\0\x80?"
    await database.close()
