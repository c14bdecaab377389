"""The audit log goes on whatever becomes of whoever writes it: stopped, killed, or held up."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from random import Random

import pytest

from cluster import Cluster, DatabaseUrls, open_database
from knowledged.connection import Connection, connect
from knowledged.database import Database
from knowledged.ledger.database_verification import DatabaseVerification
from knowledged.ledger.keys import KeyRing
from knowledged.store import ledger

WORKER = Path(__file__).with_name("sequencer_process.py")
KEYS = KeyRing(())
START_SECONDS = 60.0


class Sequencing:
    """A sequencer in a process of its own. It says once when it is inside a batch."""

    def __init__(self, dsn: str, pause_seconds: float) -> None:
        self._process = subprocess.Popen(
            [sys.executable, WORKER, dsn, str(pause_seconds)], stdout=subprocess.PIPE, text=True
        )

    async def holds(self) -> None:
        """Until it is inside a batch's transaction, with the lock.

        One that never gets there is killed: a thread that reads from it would outlive the test.
        """
        assert self._process.stdout is not None
        reading = asyncio.create_task(asyncio.to_thread(self._process.stdout.readline))
        done, _ = await asyncio.wait([reading], timeout=START_SECONDS)
        if not done:
            self._process.kill()
        assert await reading == "inside\n"

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> None:
        """SIGKILL; it was running until then."""
        self._process.kill()
        ended = self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        assert ended == -signal.SIGKILL


@contextmanager
def sequencing(dsn: str, pause_seconds: float) -> Iterator[Sequencing]:
    """One that runs for the block, and never longer: its end is SIGKILL."""
    each = Sequencing(dsn, pause_seconds)
    try:
        yield each
    finally:
        each.end()


@pytest.fixture
def two_databases(
    postgres: Cluster, migrated_template: str
) -> Iterator[tuple[DatabaseUrls, DatabaseUrls]]:
    """The one with the log, and another in the same cluster."""
    names = [postgres.create(migrated_template) for _ in range(2)]
    yield postgres.urls(names[0]), postgres.urls(names[1])
    for name in names:
        postgres.drop(name)


@pytest.fixture
async def database(two_databases: tuple[DatabaseUrls, DatabaseUrls]) -> AsyncIterator[Database]:
    opened = await open_database(two_databases[0].server_dsn)
    yield opened
    await opened.close()


WRITE = """
    with made as (
        insert into knowledge.audit_event
               (event_id, audit_class, leaf, occurred_at, rpc, action, outcome, grpc_code,
                result_count, payload_commit)
        select gen_random_uuid(), 3, sha256(n::text::bytea), now(), '', '', 1, 0, 0, ''
          from generate_series(1, $1::int) n
        returning event_id
    )
    insert into knowledge.audit_pending (event_id) select event_id from made
"""


async def leaves(conn: Connection) -> int:
    state = await ledger.state(conn)
    assert state is not None
    return state.tree_size


@asynccontextmanager
async def writing(database: Database) -> AsyncIterator[None]:
    """Events come in all the time."""

    async def write_on() -> None:
        while True:
            async with database.write() as conn:
                await conn.execute(WRITE, 20)
            await asyncio.sleep(0.02)

    task = asyncio.create_task(write_on())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def goes_on(database: Database, seconds: float) -> None:
    """It has grown, and still grows, after so long."""
    async with database.read() as conn:
        before = await leaves(conn)
        await asyncio.sleep(seconds)
        middle = await leaves(conn)
        await asyncio.sleep(0.5)
        assert before < middle < await leaves(conn)


async def whole(database: Database) -> None:
    """No index twice, none missing, and tree, tiles and queue fit each other."""
    checks = ("indices", "leaf hash", "tiles", "state", "places", "waiting events", "waiting once")
    verification = DatabaseVerification(database.read, KEYS.trusted, checks=checks)
    async for _ in verification.run():
        pass
    assert verification.report().faults == []
    async with database.read() as conn:
        row = await conn.fetchrow(
            """
            select count(*), count(distinct event_id), max(log_index) + 1
              from knowledge.audit_leaf
            """
        )
    assert row is not None
    assert row[0] == row[1] == row[2] > 0


@pytest.mark.fault
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("limit", "stopped"),
    [(1.0, 3.0), pytest.param(10.0, 30.0, marks=pytest.mark.slow)],
    ids=["short", "thirty seconds"],
)
async def test_one_that_is_stopped_inside_a_batch_holds_nobody_up(
    limit: float,
    stopped: float,
    two_databases: tuple[DatabaseUrls, DatabaseUrls],
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SIGSTOP of the holder of the lock. It is woken later, and may change nothing then."""
    monkeypatch.setenv("SEQUENCER_LIMIT_SECONDS", str(limit))
    dsn = two_databases[0].server_dsn
    async with writing(database):
        with sequencing(dsn, 0.2) as first:
            await first.holds()
            first.send(signal.SIGSTOP)
            with sequencing(dsn, 0.0):
                await asyncio.sleep(limit + 0.5)
                await goes_on(database, stopped - limit)
                first.send(signal.SIGCONT)
                await goes_on(database, 1.0)
    await whole(database)


@pytest.mark.fault
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.slow)])
async def test_one_that_is_killed_inside_a_batch_leaves_nothing_half_done(
    kills: int, two_databases: tuple[DatabaseUrls, DatabaseUrls], database: Database
) -> None:
    dsn, random = two_databases[0].server_dsn, Random(7)
    async with writing(database):
        with sequencing(dsn, 0.05):
            for _ in range(kills):
                with sequencing(dsn, 0.05) as killed:
                    await killed.holds()
                    await asyncio.sleep(random.random() * 0.1)
            await goes_on(database, 0.5)
    await whole(database)


@pytest.mark.fault
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "seconds", [2.0, pytest.param(60.0, marks=pytest.mark.slow)], ids=["short", "a minute"]
)
async def test_a_transaction_that_stays_open_elsewhere_does_not_stop_the_log(
    seconds: float, two_databases: tuple[DatabaseUrls, DatabaseUrls], database: Database
) -> None:
    """Who goes by transaction ids waits for the oldest of the whole cluster."""
    elsewhere = await connect(two_databases[1].superuser_dsn)
    async with elsewhere.transaction():
        await elsewhere.execute(WRITE, 1)
        async with writing(database):
            with sequencing(two_databases[0].server_dsn, 0.0) as running:
                await running.holds()
                await goes_on(database, seconds)
    await elsewhere.close()
    await whole(database)
