"""Whoever changes the log is found out, and told where; whoever does not is left alone."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from cluster import Cluster, open_database
from events import KEYS, make_log, sequence_all, sign_head, write_events
from knowledged.codecs import set_codecs
from knowledged.connection import Connection, connect
from knowledged.database import Database
from knowledged.ledger.database_verification import CHECKS, DatabaseVerification, Report
from knowledged.store import ledger
from stored import make_collection, make_document
from tampering import KINDS
from tampering_acts import SIZE


@dataclass(frozen=True, slots=True)
class Clinic:
    """A database to copy, and the checkpoints that somebody kept of it."""

    template: str
    notes: list[str]


@pytest.fixture(scope="module")
def clinic(postgres: Cluster, migrated_template: str) -> Iterator[Clinic]:
    """A log of `SIZE` leaves with three checkpoints, and a document whose event still waits."""
    name = postgres.create(migrated_template)
    notes = postgres.run(_furnish(postgres.urls(name).server_dsn))
    yield Clinic(name, notes)
    postgres.drop(name)


async def _furnish(dsn: str) -> list[str]:
    database = await open_database(dsn)
    async with database.read() as conn:
        await make_log(conn, SIZE)
        collection = await make_collection(conn, "c")
        await make_document(conn, collection, "unsequenced")
        await conn.execute(
            """
            insert into knowledge.request_log
            select 'tester', '/test', gen_random_uuid(), '', '', gen_random_uuid(), 1, event_id, '',
                   now() + interval '1 day'
              from knowledge.document
            """
        )
        notes = [kept.note for kept in await ledger.checkpoints(conn, 0, 10)]
    await database.close()
    return notes


@pytest.fixture
async def superuser(postgres: Cluster, clinic: Clinic) -> AsyncIterator[Connection]:
    """Whoever may do everything, in a transaction that is rolled back."""
    admin = await connect(postgres.urls(clinic.template).superuser_dsn)
    await set_codecs(admin)
    transaction: Any = admin.transaction()
    await transaction.start()
    yield admin
    await transaction.rollback()
    await admin.close()


async def verify(conn: Connection, notes: Sequence[str], checks: Sequence[str] = CHECKS) -> Report:
    @asynccontextmanager
    async def read() -> AsyncGenerator[Connection]:
        yield conn

    verification = DatabaseVerification(read, KEYS.trusted, notes, checks)
    async for _ in verification.run():
        pass
    return verification.report()


def test_there_are_enough_kinds_and_each_check_finds_one() -> None:
    assert len(KINDS) >= 15
    assert {check for kind in KINDS.values() for check in kind.found_by} == set(CHECKS)


async def test_a_log_that_nobody_changed_is_good(superuser: Connection, clinic: Clinic) -> None:
    report = await verify(superuser, clinic.notes)
    assert report.faults == []
    assert report.first_bad_index is None
    assert (report.tree_size, report.entries, report.checkpoints) == (SIZE, SIZE, 3)
    assert report.erased == 0


@pytest.mark.parametrize("name", KINDS)
async def test_tampering_is_found_and_its_first_index_named(
    name: str, superuser: Connection, clinic: Clinic
) -> None:
    kind = KINDS[name]
    await kind.done(superuser)
    report = await verify(superuser, clinic.notes)
    assert {fault.check for fault in report.faults} == set(kind.found_by), report.faults
    assert report.first_bad_index == kind.first_bad_index
    # Whoever leaves these checks out of the list finds nothing.
    blind = [check for check in CHECKS if check not in kind.found_by]
    assert (await verify(superuser, clinic.notes, blind)).faults == []


async def test_an_erased_payload_is_no_fault(superuser: Connection, clinic: Clinic) -> None:
    await superuser.execute("""
        set session_replication_role = replica;
        delete from knowledge.audit_payload where actor = 'actor-3@clinic.example'
    """)
    report = await verify(superuser, clinic.notes)
    assert report.faults == []
    assert 100 < report.erased < 200


async def test_a_log_that_grows_meanwhile_is_good(database: Database) -> None:
    verification = DatabaseVerification(database.read, KEYS.trusted)
    async with database.read() as conn:
        await make_log(conn, 5_000)
        async for progress in verification.run():
            await write_events(conn, 100)
            if progress.entries % 2_048 == 0:
                await sequence_all(conn)
                await sign_head(conn)
    report = verification.report()
    assert report.faults == []
    assert report.entries == report.tree_size == 5_000


@pytest.mark.slow
async def test_a_hundred_thousand_events_give_no_false_alarm(database: Database) -> None:
    async with database.read() as conn:
        await make_log(conn, 100_000, 20)
        notes = [kept.note for kept in await ledger.checkpoints(conn, 0, 100)]
        report = await verify(conn, notes)
    assert report.faults == []
    assert (report.entries, report.checkpoints) == (100_000, 20)
