"""Months of audit events go when their retention is over, and the log still verifies."""

import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from cluster import DatabaseUrls
from events import KEYS, ORIGIN, event, sequence_all, sign_head, write
from knowledged.audit_leaf import Event
from knowledged.codecs import set_codecs
from knowledged.connection import Connection, connect
from knowledged.database import Database
from knowledged.ledger import proofs
from knowledged.ledger.checks import Fault
from knowledged.ledger.database_verification import DatabaseVerification, entry_of
from knowledged.ledger.export import Header, Writer
from knowledged.ledger.export_verification import ExportVerification
from knowledged.store import ledger, ledger_entries
from knowledged.workers.audit_retention import AuditRetention

MARCH = datetime(2019, 3, 1, tzinfo=UTC)
READ, WRITE, ADMIN = 2, 3, 4
COUNT = 40


def old(number: int) -> Event:
    """The event of this number, in March 2019."""
    at = MARCH + timedelta(hours=number)
    milliseconds = int(at.timestamp() * 1000)
    random = int.from_bytes(os.urandom(10)) & ~(0xF << 76) & ~(0x3 << 62)
    uid = UUID(int=milliseconds << 80 | random | 0x7 << 76 | 0x2 << 62)
    return replace(event(number), event_id=uid, occurred_at=at)


@dataclass(frozen=True, slots=True)
class Log:
    """A log whose first `COUNT` events are of March 2019, of all classes."""

    database: Database
    owner: Connection
    urls: DatabaseUrls

    async def settle(self) -> None:
        """Gives all that waits its leaf, and signs the head."""
        async with self.database.read() as conn:
            await sequence_all(conn)
            await sign_head(conn)

    async def prune(self, *classes: int) -> None:
        await AuditRetention(self.urls.owner_dsn, dict.fromkeys(classes, 365)).prune()

    async def pruned(self, *classes: int) -> None:
        """Announced, covered by a checkpoint, and done."""
        await self.prune(*classes)
        await self.settle()
        await self.prune(*classes)

    async def left(self) -> dict[int, int]:
        """How many events of March 2019 there are of each class."""
        rows = await self.owner.fetch(
            """
            select audit_class, count(*) as number
              from knowledge.audit_event
             where event_id < knowledge.uuid_v7_floor('2019-04-01Z')
             group by audit_class
            """
        )
        return {row["audit_class"]: row["number"] for row in rows}

    async def announced(self) -> list[str]:
        rows = await self.owner.fetch(
            """
            select action
              from knowledge.audit_event
             where action like 'audit_events.prune:%'
             order by event_id
            """
        )
        return [row["action"] for row in rows]

    async def faults(self) -> Sequence[Fault]:
        verification = DatabaseVerification(self.database.read, KEYS.trusted)
        async for _ in verification.run():
            pass
        return verification.report().faults


@pytest.fixture
async def log(database: Database, database_urls: DatabaseUrls) -> AsyncIterator[Log]:
    owner = await connect(database_urls.owner_dsn)
    await set_codecs(owner)
    for name in ("read", "write", "admin"):
        for table in ("audit_event", "audit_payload"):
            await owner.execute(
                f"""
                create table knowledge.{table}_{name}_201903
                    partition of knowledge.{table}_{name}
                    for values from ('0169368c-f000-0000-0000-000000000000')
                                 to ('0169d632-1400-0000-0000-000000000000')
                """
            )
    made = Log(database, owner, database_urls)
    await write(owner, [old(number) for number in range(COUNT)])
    await made.settle()
    yield made
    await owner.close()


ALL = {READ: COUNT // 4, WRITE: COUNT // 2, ADMIN: COUNT // 4}


async def test_a_month_is_announced_and_goes_once_that_is_signed(log: Log) -> None:
    await log.prune(READ)
    (action,) = await log.announced()
    assert action.startswith("audit_events.prune:read:2019-03:")
    await log.prune(READ)
    assert await log.left() == ALL
    assert await log.faults() == []
    await log.settle()
    await log.prune(READ)
    assert await log.left() == {WRITE: ALL[WRITE], ADMIN: ALL[ADMIN]}
    assert await log.faults() == []
    await log.pruned(READ)
    assert await log.announced() == [action]


async def test_each_class_goes_by_its_own_retention(log: Log) -> None:
    await log.pruned(READ)
    await log.pruned(WRITE)
    assert await log.left() == {ADMIN: ALL[ADMIN]}
    await log.pruned(ADMIN)
    assert await log.left() == {}
    assert len(await log.announced()) == 3
    assert await log.faults() == []


async def test_all_classes_at_once_come_to_the_same(log: Log) -> None:
    for _ in range(4):
        await log.pruned(READ, WRITE, ADMIN)
        assert await log.faults() == []
    assert await log.left() == {}


async def test_what_is_young_or_kept_for_ever_stays(log: Log) -> None:
    await AuditRetention(log.urls.owner_dsn, {READ: 36_500, WRITE: 0}).prune()
    assert await log.announced() == []


async def test_what_has_no_leaf_yet_keeps_its_month(log: Log) -> None:
    await write(log.owner, [old(number) for number in range(4)])
    await log.pruned(READ)
    assert (await log.left())[READ] == ALL[READ] + 1


@pytest.mark.parametrize("target", ["subject", "document"])
async def test_what_is_held_keeps_its_month(log: Log, target: str) -> None:
    await log.prune(READ)
    await log.settle()
    # Event 4 is a read about patient-4 and d4.
    subject = "patient-4" if target == "subject" else None
    collection = None if subject else UUID(int=1)
    await log.owner.execute(
        """
        insert into knowledge.legal_hold
               (legal_hold_uid, legal_hold_id, reason, resource, subject_id, document_uid,
                collection_uid, event_id, create_time)
        values (gen_random_uuid(), 'h', 'a case', $3, $1, $2, $2, gen_random_uuid(), now())
        """,
        subject,
        collection,
        "" if subject else "collections/c/documents/d4",
    )
    await log.prune(READ)
    assert await log.left() == ALL
    await log.owner.execute("update knowledge.legal_hold set release_time = now()")
    await log.prune(READ)
    assert READ not in await log.left()


async def test_a_partition_dropped_without_a_word_is_found(log: Log) -> None:
    await log.owner.execute("drop table knowledge.audit_event_read_201903")
    await log.owner.execute("drop table knowledge.audit_payload_read_201903")
    (fault,) = await log.faults()
    assert (fault.check, fault.log_index) == ("presence", 0)


async def exported(log: Log, start: int) -> list[bytes]:
    """An export from an index on."""
    async with log.database.read() as conn:
        (*_, kept) = await ledger.checkpoints(conn, 0, 10)
        before = (await proofs.compact_range(conn, start)).encode()
        rows = await ledger_entries.entries(conn, None, start, kept.tree_size)
    writer = Writer()
    header = writer.header(Header(ORIGIN, start, kept.tree_size, True, before, kept.note))
    lines = writer.lines(map(entry_of, rows))
    return (header + lines + writer.manifest()).splitlines(keepends=True)


@pytest.mark.parametrize("start", [0, COUNT // 2])
async def test_an_export_verifies_after_a_pruning_and_tells_what_goes_beyond(
    log: Log, start: int
) -> None:
    await log.pruned(READ)
    lines = await exported(log, start)
    assert ExportVerification(KEYS.trusted).run(lines).faults == []
    unexplained = [line for line in lines if b"audit_events.prune:" not in line]
    faults = {each.check for each in ExportVerification(KEYS.trusted).run(unexplained).faults}
    assert "presence" in faults


async def test_what_goes_beyond_a_pruning_is_found(log: Log) -> None:
    await log.pruned(READ)
    one = await log.owner.fetchval(
        "select event_id from knowledge.audit_event where audit_class = 3 order by event_id limit 1"
    )
    await log.owner.execute("alter table knowledge.audit_payload disable trigger all")
    await log.owner.execute("delete from knowledge.audit_payload where event_id = $1", one)
    await log.owner.execute("delete from knowledge.audit_event where event_id = $1", one)
    (fault,) = await log.faults()
    assert (fault.check, fault.log_index) == ("presence", 0)
    assert "other events of 2019-03 are gone" in fault.what
    await log.pruned(WRITE)
    assert (await log.left())[WRITE] == ALL[WRITE] - 1
    assert len(await log.announced()) == 1
