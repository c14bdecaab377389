"""The keeper of vector spaces: indexes in the background, filter fields, deleted collections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from cluster import DatabaseUrls
from keeping import (
    STRING,
    TOPIC,
    YEAR,
    Stage,
    declare,
    exists,
    fill,
    indexed,
    indexes,
    ready,
    stored,
    until,
)
from knowledged.codecs import set_codecs
from knowledged.connection import Connection, connect
from knowledged.database import Database
from knowledged.store import collection_changes, collections, intake_sessions, search, spaces
from knowledged.store.collections import Collection, FilterField
from knowledged.store.filter_sql import Condition
from knowledged.store.intake_sessions import SessionKey
from knowledged.store.spaces import BUILDING, EXACT
from knowledged.workers import space_keeper
from knowledged.workers.space_keeper import INDEX_FROM_ROWS
from stored import (
    COSINE,
    add_chunks,
    clustered,
    make_collection,
    make_document,
    mutation,
)

INGEST = "/knowledge.v1.VectorService/IngestChunks"


@pytest.fixture
async def stage(
    database_urls: DatabaseUrls, database: Database, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stage]:
    # Its waits only, so that the tests are quick.
    monkeypatch.setattr(space_keeper, "_INTERVAL_SECONDS", 0.05)
    monkeypatch.setattr(space_keeper, "_SETTLE_SECONDS", 0.05)
    monkeypatch.setattr(space_keeper, "_AFTER_FAULT_SECONDS", 0.2)
    owner = await connect(database_urls.owner_dsn)
    await set_codecs(owner)
    yield Stage(database_urls, database, owner)
    await owner.close()


async def test_a_space_of_enough_rows_gets_its_index_and_a_smaller_one_does_not(
    stage: Stage,
) -> None:
    async with stage.database.read() as conn:
        large = await make_collection(conn, "large", dimension=8)
        small = await make_collection(conn, "small", dimension=8)
    await fill(stage, large, INDEX_FROM_ROWS)
    await fill(stage, small, INDEX_FROM_ROWS - 1)
    async with stage.keeper():
        await until(lambda: indexed(stage, large))
    assert await indexes(stage, large) == {"hnsw": True}
    assert await indexes(stage, small) == {}
    space = await stage.space(small)
    assert space
    assert (space.state, space.hnsw_valid) == (EXACT, None)


async def test_an_index_that_a_crash_left_invalid_is_replaced(stage: Stage) -> None:
    async with stage.database.read() as conn:
        collection = await make_collection(conn, "c", dimension=8)
    await fill(stage, collection, INDEX_FROM_ROWS)
    await leave_invalid_index(stage, collection)
    assert await indexes(stage, collection) == {"hnsw": False}
    async with stage.keeper():
        await until(lambda: indexed(stage, collection))
    assert await indexes(stage, collection) == {"hnsw": True}


async def stream(stage: Stage, collection: Collection, rpc: str = INGEST) -> None:
    """A stream that goes on bringing items, until it is cancelled."""
    key = SessionKey("loader", rpc, uuid4())
    while True:
        async with stage.database.write() as conn:
            await intake_sessions.open_session(conn, key, collection.collection_uid, b"")
        await asyncio.sleep(0.1)


@asynccontextmanager
async def streaming(stage: Stage, collection: Collection, rpc: str = INGEST) -> AsyncIterator[None]:
    task = asyncio.create_task(stream(stage, collection, rpc))
    await asyncio.sleep(0.1)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def building(stage: Stage, collection: Collection) -> bool:
    space = await stage.space(collection)
    return space is not None and space.state == BUILDING


async def test_an_index_waits_for_the_end_of_the_stream_that_fills_the_space(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space_keeper, "_QUIET_SECONDS", 0.5)
    async with stage.database.read() as conn:
        collection = await make_collection(conn, "c", dimension=32, distance=COSINE)
    await fill(stage, collection, INDEX_FROM_ROWS)
    async with stage.keeper():
        async with streaming(stage, collection):
            await until(lambda: building(stage, collection))
            await asyncio.sleep(1.0)
            assert await indexes(stage, collection) == {}
            async with stage.database.read() as conn:
                space = await collections.space(conn, "c")
                assert space
                assert not space.indexed
                assert await recall(conn, collection, clustered(1, 32)[0].tobytes()) == 1
        await until(lambda: indexed(stage, collection))
    async with stage.database.read() as conn:
        assert await recall(conn, collection, clustered(1, 32)[0].tobytes()) >= 0.9


async def test_a_stream_without_end_gets_its_index_meanwhile(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space_keeper, "_LONGEST_HOLD_SECONDS", 1.0)
    async with stage.database.read() as conn:
        collection = await make_collection(conn, "c", dimension=8)
    await fill(stage, collection, INDEX_FROM_ROWS)
    async with stage.keeper(), streaming(stage, collection):
        await until(lambda: building(stage, collection))
        await until(lambda: indexed(stage, collection))


async def test_an_import_of_documents_holds_no_index_back(stage: Stage) -> None:
    async with stage.database.read() as conn:
        collection = await make_collection(conn, "c", dimension=8)
    await fill(stage, collection, INDEX_FROM_ROWS)
    rpc = "/knowledge.v1.KnowledgeService/ImportDocuments"
    async with stage.keeper(), streaming(stage, collection, rpc):
        await until(lambda: indexed(stage, collection))


async def leave_invalid_index(stage: Stage, collection: Collection) -> None:
    """A concurrent build that is killed while it waits for a writer."""
    space = await stage.space(collection)
    assert space
    builder = await connect(stage.urls.owner_dsn)
    pid = await builder.fetchval("select pg_backend_pid()")
    async with stage.database.transaction() as conn:
        await conn.execute(
            "update knowledge.chunk_vector set fields = fields where space_uid = $1::uuid",
            space.space_uid,
        )
        building = asyncio.create_task(spaces.build_hnsw(builder, space))
        await until(lambda: exists(stage, "_hnsw", collection))
        await stage.owner.fetchval("select pg_cancel_backend($1)", pid)
        await asyncio.wait([building])
    assert building.exception() is not None
    await builder.close()


async def test_a_field_added_to_a_live_collection_is_filled_in_and_then_ready(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space_keeper, "_PAGE", 7)
    async with stage.database.read() as conn:
        collection = await make_collection(conn, "c")
    await fill(stage, collection, 40)
    assert await stored(stage, collection) == [{}]
    collection = await declare(stage, collection, YEAR, TOPIC)
    async with stage.database.read() as conn:
        space = await collections.space(conn, "c")
        assert space
        assert space.ready_fields == ()
    async with stage.keeper():
        await until(lambda: ready(stage, collection))
    found = await stored(stage, collection)
    assert sorted(fields[TOPIC.key] for fields in found) == ["t0", "t1", "t2", "t3", "t4"]
    assert {fields[YEAR.key] for fields in found} == {2026}
    assert all(valid for valid in (await indexes(stage, collection)).values())


async def test_a_field_whose_type_changes_is_indexed_anew_and_the_old_index_goes(
    stage: Stage,
) -> None:
    async with stage.database.read() as conn:
        collection = await make_collection(conn, "c", fields=(YEAR,))
    await fill(stage, collection, 10)
    async with stage.keeper():
        await until(lambda: ready(stage, collection))
        before = set(await indexes(stage, collection))
        collection = await declare(stage, collection, FilterField("metadata.year", STRING))
        async with stage.database.read() as conn:
            document = await make_document(conn, collection, "later", {"year": "MMXXVI"})
            await add_chunks(conn, collection, document, clustered(1, 4))
        await until(lambda: ready(stage, collection))
    assert before.isdisjoint(await indexes(stage, collection))
    found = await stored(stage, collection)
    assert sorted(found, key=len) == [{}, {"metadata.year:1": "MMXXVI"}]


async def test_a_removed_field_leaves_rows_and_indexes(stage: Stage) -> None:
    async with stage.database.read() as conn:
        collection = await make_collection(conn, "c", fields=(YEAR,))
    await fill(stage, collection, 10)
    async with stage.keeper():
        await until(lambda: ready(stage, collection))
        collection = await declare(stage, collection)
        await until(lambda: ready(stage, collection))
    assert await stored(stage, collection) == [{}]
    assert await indexes(stage, collection) == {}


async def delete(stage: Stage, collection: Collection) -> None:
    """As DeleteCollection does, which is logical only."""
    async with stage.database.transaction() as conn:
        assert await collection_changes.lock(conn, collection.collection_uid)
        change = mutation(collection.collection_uid)
        now = datetime.now(UTC)
        assert await collection_changes.delete(conn, change, collection.collection_uid, now)


async def remains(stage: Stage, collection: Collection) -> dict[str, int]:
    """Rows that a collection still has anywhere."""
    of_collection = "where collection_uid = $1::uuid"
    of_space = "where space_uid = $1::uuid"
    uid, space = collection.collection_uid, collection.active_space_uid
    return {
        table: await stage.count(f"select count(*) from knowledge.{table} {where}", key)  # noqa: S608
        for table, where, key in [
            ("document", of_collection, uid),
            ("chunk", of_collection, uid),
            ("vector_space", of_collection, uid),
            ("chunk_vector", of_space, space),
            ("chunk_vector_parked", of_space, space),
        ]
    }


async def gone(stage: Stage, collection: Collection) -> bool:
    rows = await remains(stage, collection)
    return not any(rows.values()) and not await exists(stage, "", collection)


async def test_a_deleted_collection_leaves_no_rows_and_no_partition_but_its_events(
    stage: Stage,
) -> None:
    async with stage.database.read() as conn:
        doomed = await make_collection(conn, "doomed", fields=(YEAR,))
        other = await make_collection(conn, "other")
    await fill(stage, doomed, 20)
    await fill(stage, other, 20)
    await delete(stage, doomed)
    events = await stage.count("select count(*) from knowledge.audit_event")
    async with stage.keeper():
        await until(lambda: gone(stage, doomed))
    assert await stage.count("select count(*) from knowledge.audit_event") == events
    assert (await remains(stage, other))["chunk_vector"] == 20
    spans = "select count(*) from knowledge.chunk_span"
    assert await stage.count(spans) == 20


async def test_a_detachment_that_a_crash_left_half_done_is_finished(stage: Stage) -> None:
    async with stage.database.read() as conn:
        doomed = await make_collection(conn, "doomed")
    await fill(stage, doomed, 5)
    await delete(stage, doomed)
    await leave_half_detached(stage, doomed)
    async with stage.keeper():
        await until(lambda: gone(stage, doomed))
    assert await stage.space(doomed) is None


async def leave_half_detached(stage: Stage, collection: Collection) -> None:
    """A detachment that is killed while it waits for a reader."""
    detacher = await connect(stage.urls.owner_dsn)
    pid = await detacher.fetchval("select pg_backend_pid()")
    async with stage.database.transaction() as conn:
        await conn.fetch("select chunk_uid from knowledge.chunk_vector")
        detaching = asyncio.create_task(
            spaces.drop_partition(detacher, collection.active_space_uid)
        )
        pending = "select count(*) from pg_inherits where inhdetachpending"
        await until(lambda: nonzero(stage, pending))
        await stage.owner.fetchval("select pg_cancel_backend($1)", pid)
        await asyncio.wait([detaching])
    assert detaching.exception() is not None
    await detacher.close()


async def nonzero(stage: Stage, sql: str) -> bool:
    return await stage.count(sql) > 0


async def test_a_space_that_cannot_be_cared_for_keeps_no_other_from_its_care(stage: Stage) -> None:
    async with stage.database.read() as conn:
        broken = await make_collection(conn, "broken", fields=(YEAR,))
        doomed = await make_collection(conn, "doomed")
        await make_collection(conn, "broken, too", fields=(YEAR,))
    await stage.owner.execute(f"drop table knowledge.chunk_vector_{broken.active_space_uid.hex}")
    await delete(stage, doomed)
    async with stage.keeper():
        await until(lambda: gone(stage, doomed))
    assert await stage.space(broken) is not None


async def test_one_keeper_of_two_works_and_the_other_takes_over(stage: Stage) -> None:
    locks = (
        "select count(*) from pg_locks join pg_database d on d.oid = database"
        " where d.datname = current_database() and locktype = 'advisory' and granted"
    )
    async with AsyncExitStack() as second:
        async with stage.keeper():
            await until(lambda: nonzero(stage, locks))
            await second.enter_async_context(stage.keeper())
            await asyncio.sleep(0.3)
            assert await stage.count(locks) == 1
            held = await holder(stage)
        await until(lambda: nonzero(stage, locks))
        await until(lambda: taken_over(stage, held))
        async with stage.database.read() as conn:
            collection = await make_collection(conn, "c")
        await delete(stage, collection)
        await until(lambda: gone(stage, collection))


async def taken_over(stage: Stage, before: int | None) -> bool:
    return await holder(stage) not in (before, None)


async def holder(stage: Stage) -> int | None:
    """The backend that holds the keepers' lock."""
    return await stage.owner.fetchval(
        "select min(pid) from pg_locks join pg_database d on d.oid = database"
        " where d.datname = current_database() and locktype = 'advisory' and granted"
    )


async def test_a_search_by_the_index_finds_what_comparing_all_finds(stage: Stage) -> None:
    async with stage.database.read() as conn:
        collection = await make_collection(conn, "c", dimension=32, distance=COSINE)
    await fill(stage, collection, INDEX_FROM_ROWS)
    async with stage.keeper():
        await until(lambda: indexed(stage, collection))
    queries = clustered(20, 32)
    async with stage.database.read() as conn:
        recalls = [await recall(conn, collection, row.tobytes()) for row in queries]
    assert sum(recalls) / len(recalls) >= 0.95


async def recall(conn: Connection, collection: Collection, vector: bytes) -> float:
    """The share of the ten nearest that the index finds."""
    found = [
        {
            hit["chunk_id"]
            for hit in await search.search(
                conn,
                search.Plan(32, COSINE, ef, False),
                search.Query(
                    collection.collection_uid,
                    collection.active_space_uid,
                    vector,
                    10,
                    False,
                    Condition("true", []),
                ),
            )
        }
        for ef in (None, 40)
    ]
    assert len(found[0]) == 10
    return len(found[0] & found[1]) / 10
