"""Events become leaves: in order, once each, whoever tries and whatever stops whom."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from cluster import DatabaseUrls
from events import event, sequence_all, write, write_events
from knowledged.audit_leaf import leaf_hash
from knowledged.codecs import set_codecs
from knowledged.connection import Connection, connect
from knowledged.database import Database
from knowledged.ledger import tiles
from knowledged.ledger.merkle import CompactRange
from knowledged.ledger.sequencing import LedgerError, Sequenced, sequence
from knowledged.store import ledger
from naive_tree import root


@pytest.fixture
async def conn(database: Database) -> AsyncIterator[Connection]:
    """A connection of the serving role."""
    async with database.read() as opened:
        yield opened


async def leaves_in(conn: Connection) -> list[tuple[int, Any, bytes]]:
    rows = await conn.fetch(
        "select log_index, event_id, leaf_hash from knowledge.audit_leaf order by log_index"
    )
    return [tuple(row) for row in rows]


async def root_of(conn: Connection) -> bytes:
    """By the tiles, which must have the same root as the state."""
    state = await ledger.state(conn)
    assert state is not None
    stored = await ledger.tiles(conn, tiles.tiles_of([(0, state.tree_size)]))
    by_tiles = tiles.root_in(stored, state.tree_size)
    assert CompactRange.decode(state.tree_size, state.compact_range).root() == by_tiles
    return by_tiles


@pytest.mark.parametrize("batch", [1, 7, 256, 2_000])
async def test_events_become_leaves_in_the_order_in_which_they_waited(
    conn: Connection, batch: int
) -> None:
    made = await write_events(conn, 300 if batch > 1 else 20)
    assert await sequence_all(conn, batch) == len(made)
    hashes = [leaf_hash(each.leaf()) for each in made]
    assert await leaves_in(conn) == [
        (index, each.event_id, leaf)
        for index, (each, leaf) in enumerate(zip(made, hashes, strict=True))
    ]
    assert await root_of(conn) == root(hashes)
    assert await sequence_all(conn) == 0


async def test_an_event_that_commits_late_is_not_left_out(
    conn: Connection, database_urls: DatabaseUrls
) -> None:
    """Its id and its place in the queue are older than those of what is sequenced before it."""
    slow = await connect(database_urls.server_dsn)
    await set_codecs(slow)
    late = event(0)
    try:
        async with slow.transaction():
            await write(slow, [late])
            await write_events(conn, 10)
            assert await sequence_all(conn) == 10
        assert await sequence_all(conn) == 1
    finally:
        await slow.close()
    assert (await leaves_in(conn))[-1][1] == late.event_id


async def test_two_that_sequence_at_once_do_not_get_into_each_others_way(
    database: Database,
) -> None:
    async with database.read() as conn:
        made = await write_events(conn, 2_000)

    async def work() -> int:
        added = 0
        for _ in range(60):
            async with database.transaction() as conn:
                done = await sequence(conn, 50)
            added += done.added if done else 0
            await asyncio.sleep(0)
        return added

    added = await asyncio.gather(work(), work(), work())
    async with database.read() as conn:
        rest = await sequence_all(conn)
        leaves = await leaves_in(conn)
        assert await root_of(conn) == root([leaf for _, _, leaf in leaves])
    assert sum(added) + rest == 2_000
    assert [index for index, _, _ in leaves] == list(range(2_000))
    assert {event_id for _, event_id, _ in leaves} == {each.event_id for each in made}


async def test_who_comes_second_does_nothing(database: Database) -> None:
    async with database.transaction() as first, database.transaction() as second:
        await write_events(second, 3)
        assert await sequence(first, 10) == Sequenced(0)
        assert await sequence(second, 10) is None


async def test_a_batch_that_is_rolled_back_waits_again(conn: Connection) -> None:
    await write_events(conn, 5)

    async def fail() -> None:
        async with conn.transaction():
            assert await sequence(conn, 10) == Sequenced(5)
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        await fail()
    assert await leaves_in(conn) == []
    assert await sequence_all(conn) == 5


async def test_who_stands_still_loses_the_transaction_and_the_lock(
    conn: Connection, database_urls: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("knowledged.ledger.sequencing.LIMIT_SECONDS", 0.3)
    await write_events(conn, 5)
    stuck = await connect(database_urls.server_dsn)

    async def stand_still() -> None:
        async with stuck.transaction():
            assert await sequence(stuck, 10) == Sequenced(5)
            await asyncio.sleep(1)
            await stuck.execute("select 1")

    with pytest.raises(asyncpg.InterfaceError, match="connection is closed"):
        await stand_still()
    assert await sequence_all(conn) == 5


async def test_an_event_that_is_gone_keeps_waiting(
    conn: Connection, database_urls: DatabaseUrls
) -> None:
    made = await write_events(conn, 5)
    gone = made[2].event_id
    admin = await connect(database_urls.superuser_dsn)
    await admin.execute("delete from knowledge.audit_event where event_id = $1", gone)
    await admin.close()
    async with conn.transaction():
        assert await sequence(conn, 10) == Sequenced(4, (gone,))
    assert await conn.fetchval("select array_agg(event_id) from knowledge.audit_pending") == [gone]


async def test_nothing_is_added_to_a_tree_that_does_not_hold_together(
    conn: Connection, database_urls: DatabaseUrls
) -> None:
    await write_events(conn, 5)
    await sequence_all(conn)
    admin = await connect(database_urls.superuser_dsn)
    await admin.execute("update knowledge.audit_state set tree_size = 4")
    await admin.close()
    await write_events(conn, 1)
    with pytest.raises(LedgerError, match="does not hold together"):
        await sequence_all(conn)
