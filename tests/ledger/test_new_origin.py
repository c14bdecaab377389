"""A log that was set back takes a new name, and says what it was."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from cluster import Cluster, open_database
from events import KEYS, ORIGIN, sequence_all, sign_head, write_events
from knowledged.audit_leaf import Leaf
from knowledged.connection import Connection
from knowledged.database import Database
from knowledged.ledger import new_origin
from knowledged.ledger.checkpoint import Checkpoint, read_unverified
from knowledged.ledger.database_verification import DatabaseVerification
from knowledged.ledger.sequencing import LedgerError
from knowledged.ledger.signing import Refused
from knowledged.ledger.verifier import Report

NEW = "audit.test/log-2"


@dataclass(frozen=True, slots=True)
class Restored:
    """A backup of 4 leaves, opened, and checkpoints of 4, 7 and 9 that were signed elsewhere."""

    database: Database
    notes: list[str]


@pytest.fixture
def backup(postgres: Cluster, migrated_template: str) -> Iterator[tuple[str, list[str]]]:
    """The backup's URL, and the notes."""
    name = postgres.create(migrated_template)
    notes = postgres.run(_grown(postgres.urls(name).server_dsn, 4))
    copy = postgres.create(name)
    notes += postgres.run(_grown(postgres.urls(name).server_dsn, 3, 2))
    yield postgres.urls(copy).server_dsn, notes
    postgres.drop(copy)
    postgres.drop(name)


@pytest.fixture
async def restored(backup: tuple[str, list[str]]) -> AsyncIterator[Restored]:
    database = await open_database(backup[0])
    yield Restored(database, backup[1])
    await database.close()


async def _grown(dsn: str, *counts: int) -> list[str]:
    database = await open_database(dsn)
    async with database.read() as conn:
        notes = [await grow(conn, count) for count in counts]
    await database.close()
    return notes


async def grow(conn: Connection, count: int) -> str:
    await write_events(conn, count)
    await sequence_all(conn)
    kept = await sign_head(conn)
    assert kept is not None
    return kept.note


async def begin(database: Database, origin: str, notes: list[str]) -> None:
    async with database.transaction() as conn:
        await new_origin.begin(conn, origin, [read_unverified(n) for n in notes], "operator")


async def verify(database: Database, notes: list[str]) -> Report:
    verification = DatabaseVerification(database.read, KEYS.trusted, notes)
    async for _ in verification.run():
        pass
    return verification.report()


async def test_the_first_leaf_of_the_new_origin_commits_to_the_old_checkpoint(
    restored: Restored,
) -> None:
    database, notes = restored.database, restored.notes
    async with database.read() as conn:
        await write_events(conn, 2)
        with pytest.raises(Refused, match="7 leaves is known, and the log has only 4"):
            await sign_head(conn, outside=notes)
        await begin(database, NEW, notes)
        await sequence_all(conn)
        signed = await sign_head(conn, outside=notes)
        assert signed is not None
        made = read_unverified(signed.note)
        assert (made.origin, made.tree_size) == (NEW, 7)
        row = await conn.fetchval(
            """
            select leaf from knowledge.audit_leaf join knowledge.audit_event using (event_id)
             where log_index = 4
            """
        )
    last = max((read_unverified(note) for note in notes), key=lambda each: each.tree_size)
    assert Leaf.decode(row).action == f"audit.new_origin:{last.digest()}"


async def test_what_survived_still_fits_the_old_checkpoints_and_what_was_lost_is_owned_up(
    restored: Restored,
) -> None:
    database, notes = restored.database, restored.notes
    await begin(database, NEW, notes)
    async with database.read() as conn:
        for count in (1, 10):
            notes.append(await grow(conn, count))
    assert (await verify(database, notes)).faults == []


async def test_a_checkpoint_that_the_new_origin_does_not_own_up_to_is_a_fault(
    restored: Restored,
) -> None:
    """Whoever sets a log back further than they say."""
    database, notes = restored.database, restored.notes
    await begin(database, NEW, notes[:-1])
    async with database.read() as conn:
        await grow(conn, 1)
    report = await verify(database, notes)
    assert [fault.check for fault in report.faults] == ["kept checkpoints"]
    assert "no event that began a new origin knows it" in report.faults[0].what
    assert report.first_bad_index == 4


async def test_a_new_origin_needs_a_checkpoint_of_the_old_and_another_name(
    restored: Restored,
) -> None:
    database, notes = restored.database, restored.notes
    with pytest.raises(LedgerError, match=r"called audit\.test/log already"):
        await begin(database, ORIGIN, notes)
    foreign = Checkpoint("other.example", 1, bytes(32)).signed(KEYS.signing("other.example"))
    with pytest.raises(LedgerError, match="none of the checkpoints is of the log"):
        await begin(database, NEW, [foreign])


async def test_while_the_tree_is_changed_nobody_names_it(restored: Restored) -> None:
    database, notes = restored.database, restored.notes
    async with database.transaction() as conn:
        await conn.execute(
            "select pg_advisory_xact_lock(hashtextextended('knowledge.audit_ledger', 0))"
        )
        with pytest.raises(LedgerError, match="try again"):
            await begin(database, NEW, notes)
