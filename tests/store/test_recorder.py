"""The recorder on a real database: it groups, fails closed, waits, and loses nothing promised."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import LiteralString

import pytest
from uuid_utils.compat import uuid7

from auditing import auditing
from cluster import DatabaseUrls
from knowledged.call import Reading, Receipt
from knowledged.connection import Connection, connect
from knowledged.errors import Code, Unavailable
from knowledged.interceptors.audit import Auditing
from knowledged.interceptors.occurrence import Occurrence
from knowledged.interceptors.recorder import PLANS, Recorder
from knowledged.store import audit_events

COUNT: LiteralString = """
    select count(*) from knowledge.audit_event e
      join knowledge.audit_payload p using (event_id, audit_class)
      join knowledge.audit_pending w using (event_id)
     where p.actor = $1::text and e.payload_commit = sha256(p.salt || p.payload)
"""
AWAY = "postgresql://nobody:x@127.0.0.1:1/nowhere"


def what(actor: str = "ann", **fields: object) -> Occurrence:
    made = Occurrence(
        rpc="/knowledge.v1.KnowledgeService/GetDocument",
        action="documents.get",
        audit_class=2,
        outcome=1,
        code=Code.OK,
        occurred_at=datetime.now(UTC),
        actor=actor,
        on_behalf_of="",
        purpose="",
        peer="ipv4:127.0.0.1:1",
        call_id=str(uuid7()),
        asked=("collections/x/documents/y",),
        readings=(Reading(uuid7(), ((uuid7(), ("patient-1",)),)),),
    )
    return replace(made, **fields)


@asynccontextmanager
async def running(audit: Auditing) -> AsyncGenerator[Recorder]:
    task = asyncio.create_task(audit.recorder.run())
    await asyncio.sleep(0)
    try:
        yield audit.recorder
    finally:
        task.cancel()
        await asyncio.wait([task])


async def written(urls: DatabaseUrls, actor: str = "ann") -> int:
    conn = await connect(urls.owner_dsn)
    try:
        return int(await conn.fetchval(COUNT, actor))
    finally:
        await conn.close()


def count(recorder: Recorder, name: str) -> float:
    metric = getattr(recorder.metrics, name)
    return metric._sum.get() if name == "together" else metric._value.get()


async def test_a_durable_event_is_committed_when_its_call_goes_on(
    database_urls: DatabaseUrls,
) -> None:
    async with running(auditing(database_urls.server_dsn, durable=True)) as recorder:
        receipt = await recorder.record(what())
        assert receipt is not None
        assert await written(database_urls) == 1


async def test_what_is_queued_when_a_commit_ends_goes_into_the_next(
    database_urls: DatabaseUrls,
) -> None:
    async with running(auditing(database_urls.server_dsn, durable=True)) as recorder:
        await asyncio.gather(*(recorder.record(what()) for _ in range(200)))
        assert await written(database_urls) == 200
        samples = recorder.metrics.together.collect()[0].samples
        (commits,) = [s.value for s in samples if s.name.endswith("_count")]
        assert commits <= 5


async def test_an_eventual_event_keeps_nobody_waiting_and_is_there_after_shutdown(
    database_urls: DatabaseUrls,
) -> None:
    async with running(auditing(database_urls.server_dsn)) as recorder:
        for _ in range(50):
            assert await recorder.record(what()) is None
        assert count(recorder, "waiting") == 50
    assert await written(database_urls) == 50
    assert count(recorder, "failed") == 0


async def test_when_the_queue_is_full_an_eventual_event_waits(database_urls: DatabaseUrls) -> None:
    audit = auditing(database_urls.server_dsn, most_waiting=4 * what().weight)
    for _ in range(4):
        assert await audit.recorder.record(what()) is None
    fifth = asyncio.create_task(audit.recorder.record(what()))
    await asyncio.sleep(0.05)
    assert not fifth.done()
    audit.recorder.note(what("nobody waits"))
    assert count(audit.recorder, "failed") == 1
    async with running(audit):
        assert await fifth is not None
    assert await written(database_urls) == 5


async def test_without_a_database_what_is_durable_is_not_answered() -> None:
    async with running(auditing(AWAY, durable=True)) as recorder:
        with pytest.raises(Unavailable) as error:
            await recorder.record(what())
        assert error.value.reason == "AUDIT_UNAVAILABLE"
        assert count(recorder, "failed") == 1


async def test_a_database_that_is_away_for_a_moment_refuses_nobody(
    database_urls: DatabaseUrls,
) -> None:
    async with running(auditing(AWAY, durable=True)) as recorder:
        call = asyncio.create_task(recorder.record(what()))
        await asyncio.sleep(0.5)
        recorder._dsn = database_urls.server_dsn
        assert await call is not None
        assert count(recorder, "failed") == 0
    assert await written(database_urls) == 1


async def test_who_has_little_time_is_refused_while_some_is_left() -> None:
    async with running(auditing(AWAY, durable=True)) as recorder, asyncio.timeout(0.6):
        with pytest.raises(Unavailable):
            await recorder.record(what(), seconds_left=0.6)


async def test_what_is_eventual_is_written_once_the_database_is_back(
    database_urls: DatabaseUrls,
) -> None:
    audit = auditing(AWAY)
    async with running(audit) as recorder:
        await recorder.record(what())
        await asyncio.sleep(0.2)
        assert count(recorder, "waiting") == 1
        recorder._dsn = database_urls.server_dsn
    assert await written(database_urls) == 1
    assert count(recorder, "failed") == 0


async def test_one_bad_event_does_not_cost_the_others_theirs(database_urls: DatabaseUrls) -> None:
    audit = auditing(database_urls.server_dsn, durable=True)
    calls = [
        asyncio.create_task(audit.recorder.record(each))
        for each in (what(), what(purpose="\0"), what())
    ]
    async with running(audit):
        first, bad, last = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(bad, Unavailable)
    assert isinstance(first, Receipt)
    assert isinstance(last, Receipt)
    assert await written(database_urls) == 2


async def test_events_whose_commit_nobody_confirmed_are_there_once(
    database_urls: DatabaseUrls,
) -> None:
    """The connection is cut while they are written; they are written again."""
    admin = await connect(database_urls.superuser_dsn)
    audit = auditing(database_urls.server_dsn)
    async with running(audit) as recorder:
        for number in range(300):
            await recorder.record(what())
            await asyncio.sleep(0)
            if number % 50 == 0:
                await _cut(admin)
        async with asyncio.timeout(20):
            while count(recorder, "waiting"):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    await admin.close()
    assert await written(database_urls) == 300


async def _cut(admin: Connection) -> None:
    await admin.execute("""
        select pg_terminate_backend(pid) from pg_stat_activity
         where usename = 'knowledge_server' and datname = current_database()
    """)


async def test_refusals_of_strangers_become_one_event(database_urls: DatabaseUrls) -> None:
    async with running(auditing(database_urls.server_dsn, durable=True)) as recorder:
        for port in range(1_000):
            recorder.count(
                what(
                    "",
                    peer=f"ipv4:192.0.2.1:{port}",
                    readings=(),
                    outcome=2,
                    code=Code.UNAUTHENTICATED,
                )
            )
    conn = await connect(database_urls.owner_dsn)
    rows = await conn.fetch("""
        select e.result_count, p.peer, p.resources from knowledge.audit_event e
          join knowledge.audit_payload p using (event_id)
    """)
    await conn.close()
    assert [tuple(row) for row in rows] == [(1_000, "ipv4:192.0.2.1", [])]


async def test_the_serving_role_cannot_change_or_remove_events(database_urls: DatabaseUrls) -> None:
    async with running(auditing(database_urls.server_dsn, durable=True)) as recorder:
        await recorder.record(what())
    conn = await connect(database_urls.server_dsn)
    tables = await conn.fetch("""
        select i.relid::regclass::text as name
          from (values ('knowledge.audit_event'), ('knowledge.audit_payload')) v (parent)
         cross join lateral pg_partition_tree(v.parent::regclass) i
    """)
    assert len(tables) > 8
    refused: list[str] = []
    for (name,) in tables:
        for statement in (
            f"update {name} set audit_class = audit_class",  # noqa: S608
            f"delete from {name}",  # noqa: S608
            f"truncate {name}",
            f"drop table {name}",
            f"alter table {name} add column x int",
        ):
            with pytest.raises(Exception, match=r"permission denied|must be owner"):
                await conn.execute(statement)
            refused.append(statement)
    await conn.close()
    assert len(refused) == 5 * len(tables)
    assert await written(database_urls) == 1


async def test_thousands_of_events_at_once_are_not_compared_each_with_each(
    database_urls: DatabaseUrls,
) -> None:
    conn = await connect(database_urls.server_dsn, settings=PLANS)
    try:
        await conn.execute(f"prepare append as {audit_events.APPEND}")
        plan = await conn.fetch("explain execute append('{}')")
    finally:
        await conn.close()
    joins = [line for (line,) in plan if "Join" in line or "Loop" in line]
    assert joins
    assert not any("Nested Loop" in line for line in joins)
