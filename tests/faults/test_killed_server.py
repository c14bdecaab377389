"""kill -9 of the server under mixed load: an import, finished by the next server, and readers.

What was answered is in the audit log, and what is in it happened: one to one, both ways.
"""

import asyncio
import random

import pytest

from caller import caller
from import_load import Import
from invariants import broken, waiting
from knowledged.connection import Connection
from reading_load import Readers
from server_process import server_process, superuser

# Small, so that many documents wait for the workers and are killed half embedded.
START_SECONDS = 30
SETTINGS = {"inline_chunks": 2, "pool_max_size": 8}


async def test_every_document_is_there_once_after_two_kills() -> None:
    await imported_in_spite_of_kills(kills=2, documents=60)


@pytest.mark.fault
@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_every_document_is_there_once_after_thirty_kills() -> None:
    await imported_in_spite_of_kills(kills=30, documents=1_500)


async def imported_in_spite_of_kills(kills: int, documents: int) -> None:
    async with server_process(**SETTINGS) as server, caller(server.address) as client:
        done = Import(await client.create_collection("imported"), documents)
        readers = Readers(done.collection, documents, seed=kills)
        reading = asyncio.create_task(readers.run(client))
        running = asyncio.create_task(done.run(client))
        for moment in moments(kills, done.mutations):
            await reached(done, moment, running)
            await asyncio.to_thread(server.kill)
            assert await asyncio.to_thread(server.start) < START_SECONDS
        await running
        await ended(reading)
        acknowledged = dict(done.receipts)
        await done.run(client)
        assert done.unexpected == []
        assert done.receipts == acknowledged
        async with superuser(server) as conn:
            await all_embedded(conn)
            await check(conn, done)
            await check_reads(conn, readers)
        assert server.own_bugs() == []


def moments(kills: int, mutations: int) -> list[int]:
    """How many mutations are acknowledged before each kill."""
    return sorted(random.Random(kills).sample(range(1, mutations * 9 // 10), kills))


async def reached(done: Import, mutations: int, running: asyncio.Task[None]) -> None:
    while len(done.receipts) < mutations and not running.done():  # noqa: ASYNC110
        await asyncio.sleep(0.002)


async def all_embedded(conn: Connection) -> None:
    """Leases of the killed run out after a minute; that minute is not waited for."""
    await conn.execute("update knowledge.chunk set next_attempt_at = now() where state = 1")
    async with asyncio.timeout(60):
        while await waiting(conn):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.1)


async def check(conn: Connection, done: Import) -> None:
    assert await broken(conn) == {}
    documents = await conn.fetch("select document_id from knowledge.document order by 1")
    assert [row[0] for row in documents] == [f"document-{n:04d}" for n in range(done.documents)]
    assert await conn.fetchval("select count(*) from knowledge.document where state <> 2") == 0
    events = await conn.fetch(
        "select event_id::text from knowledge.audit_event where audit_class = 3 and outcome = 1"
    )
    assert {row[0] for row in events} == set(done.receipts.values())
    assert len(events) == done.mutations


async def ended(reading: asyncio.Task[None]) -> None:
    reading.cancel()
    await asyncio.wait([reading])
    assert reading.cancelled()


async def check_reads(conn: Connection, readers: Readers) -> None:
    """Every answer has its event, of the hash in its receipt; there are no events but of calls."""
    assert readers.unexpected == []
    assert len(readers.receipts) > 10
    events = await conn.fetch(
        "select event_id::text, sha256('\\x00'::bytea || leaf) as leaf_hash, outcome, call_id"
        "  from knowledge.audit_event join knowledge.audit_payload using (event_id, audit_class)"
        " where audit_class = 2"
    )
    recorded = {row["event_id"]: row["leaf_hash"] for row in events if row["outcome"] == 1}
    assert readers.receipts.items() <= recorded.items()
    assert readers.refused <= {row["call_id"] for row in events if row["outcome"] == 2}
    assert len({row["call_id"] for row in events}) == len(events) <= readers.asked
