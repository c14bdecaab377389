"""The pool itself: who gets which connection, and what becomes of those that are not kept."""

import asyncio
import os
import signal

import asyncpg
import pytest

from cluster import DatabaseUrls
from knowledged.connection import Connection
from knowledged.pool import Limits, Pool


async def test_who_waits_meanwhile_takes_one_that_lies_free(bare_urls: DatabaseUrls) -> None:
    pool = await Pool.open(bare_urls.owner_dsn, Limits(2, 2, 10, 5), {})
    (failed, _), (good, generation) = await pool.take(None), await pool.take(None)
    waiting = asyncio.create_task(pool.take(None))
    await asyncio.sleep(0)
    # All in one turn: asyncpg's goes to a newcomer, and the other one comes back for nobody.
    await pool.give_back_after(ValueError(), failed)
    newcomer = await pool.take(None)
    await pool.give_back(good, generation)
    assert (await asyncio.wait_for(waiting, 2))[0] is good
    await pool.give_back(*newcomer)
    await pool.give_back(good, generation)
    await pool.close(1)


async def test_in_a_crowd_connections_go_from_hand_to_hand(
    bare_urls: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await Pool.open(bare_urls.owner_dsn, Limits(3, 3, 10, 5), {})
    through_asyncpg, release = 0, pool._release

    async def count(conn: Connection) -> None:
        nonlocal through_asyncpg
        through_asyncpg += 1
        await release(conn)

    monkeypatch.setattr(pool, "_release", count)

    async def borrow(number: int) -> None:
        for _ in range(50):
            async with pool.lend(None) as conn:
                await conn.fetchval("select 1")
        with pytest.raises(ValueError, match="its own"):
            async with pool.lend(None):
                raise ValueError("its own")

    await asyncio.gather(*map(borrow, range(8)))
    await pool.close(1)
    # Eight that failed, and the few that came back while somebody asked for those; not 400.
    assert through_asyncpg < 100


async def test_one_that_was_free_when_all_expired_is_not_kept(bare_urls: DatabaseUrls) -> None:
    pool = await Pool.open(bare_urls.owner_dsn, Limits(2, 2, 10, 5), {})
    for lent in [await pool.take(None), await pool.take(None)]:
        await pool.give_back(*lent)
    before = {id(conn) for conn, _ in pool._free}
    expiring = asyncio.create_task(pool.expire())
    await asyncio.sleep(0)
    async with pool.lend(None) as conn:
        assert id(conn) not in before
    await expiring
    await pool.close(1)


async def test_who_is_cancelled_as_all_expire_loses_no_connection(bare_urls: DatabaseUrls) -> None:
    pool = await Pool.open(bare_urls.owner_dsn, Limits(2, 2, 10, 5), {})
    lent, (broken, _) = await pool.take(None), await pool.take(None)
    await pool.give_back(*lent)
    error = asyncpg.ReadOnlySQLTransactionError("a replica")
    giving = asyncio.create_task(pool.give_back_after(error, broken))
    await asyncio.sleep(0)
    giving.cancel()
    await asyncio.wait([giving])
    async with pool.lend(None), pool.lend(None) as conn:
        assert await conn.fetchval("select 1") == 1
    await pool.close(1)


async def test_closing_cuts_off_a_database_that_does_not_answer(bare_urls: DatabaseUrls) -> None:
    pool = await Pool.open(bare_urls.owner_dsn, Limits(1, 1, 10, 5), {})
    async with pool.lend(None) as conn:
        pid: int = await conn.fetchval("select pg_backend_pid()")
    os.kill(pid, signal.SIGSTOP)
    try:
        await pool.close(0.2)
        assert pool._pool.get_size() == 0
    finally:
        os.kill(pid, signal.SIGCONT)
