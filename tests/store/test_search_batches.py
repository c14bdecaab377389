"""Searches that come together find what each would find alone."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from cluster import DatabaseUrls
from knowledged.call import AuditClass, Call, Method
from knowledged.database import Database
from knowledged.services.search_batches import SearchBatches
from knowledged.store import search
from knowledged.store.filter_sql import Condition
from knowledged.store.search import COSINE, Plan, Query
from stored import add_chunks, clustered, make_collection, make_document

DIMENSION = 32
PLAN = Plan(DIMENSION, COSINE, 40, False)
CALL = Call(Method("/s/Search", "search", AuditClass.READ), "id", "peer", {})


@dataclass(frozen=True)
class Stage:
    database: Database
    batches: SearchBatches
    vectors: Sequence[bytes]
    query: Query

    def asked(self, vector: bytes) -> Query:
        q = self.query
        return Query(q.collection_uid, q.space_uid, vector, q.limit, False, q.condition)

    def search(self, vector: bytes) -> "asyncio.Task[list[Any]]":
        return self.carry_out(self.asked(vector))

    def carry_out(self, query: Query) -> "asyncio.Task[list[Any]]":
        return asyncio.ensure_future(self.batches.search(CALL, PLAN, query))

    async def alone(self, vector: bytes) -> list[tuple[object, ...]]:
        async with self.database.read() as conn:
            return told(await search.search(conn, PLAN, self.asked(vector)))


@pytest.fixture
async def stage(database: Database) -> Stage:
    rows = clustered(300, DIMENSION)
    async with database.transaction() as conn:
        collection = await make_collection(conn, "c", dimension=DIMENSION)
        document = await make_document(conn, collection, "d")
        await add_chunks(conn, collection, document, rows)
    c = collection
    query = Query(c.collection_uid, c.active_space_uid, b"", 5, False, Condition("true", []))
    vectors = [row.tobytes() for row in np.asarray(rows[:60], "<f4")]
    return Stage(database, SearchBatches(database), vectors, query)


@pytest.fixture
async def database(database_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """Large enough that some of its connections keep their plans."""
    database = await Database.connect(
        database_urls.server_dsn,
        min_size=1,
        max_size=8,
        command_timeout_seconds=10,
        acquire_timeout_seconds=5,
    )
    yield database
    await database.close()


def told(rows: list[Any]) -> list[tuple[object, ...]]:
    return [(row["chunk_id"], row["score"], row["document_id"]) for row in rows]


async def test_each_of_many_at_once_gets_its_own_answer(stage: Stage) -> None:
    found = await asyncio.gather(*map(stage.search, stage.vectors))
    assert [told(rows) for rows in found] == [await stage.alone(v) for v in stage.vectors]


async def test_those_who_give_up_take_nobody_with_them(stage: Stage) -> None:
    tasks = [stage.search(vector) for vector in stage.vectors]
    for turn in range(4):
        await asyncio.sleep(0.001 * turn)
        for task in tasks[turn::7]:
            task.cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    kept = [(v, rows) for v, rows in zip(stage.vectors, found, strict=True) if type(rows) is list]
    assert kept
    assert [told(rows) for _, rows in kept] == [await stage.alone(v) for v, _ in kept]
    assert told(await stage.search(stage.vectors[0])) == await stage.alone(stage.vectors[0])


async def test_a_search_that_fails_fails_alone(stage: Stage) -> None:
    vectors = [*stage.vectors[:20], b"\0" * 12, *stage.vectors[20:40]]
    found = await asyncio.gather(*map(stage.search, vectors), return_exceptions=True)
    failed = [place for place, rows in enumerate(found) if isinstance(rows, BaseException)]
    assert failed == [20]
    good = [rows for rows in found if isinstance(rows, list)]
    assert [told(rows) for rows in good] == [await stage.alone(v) for v in stage.vectors[:40]]


async def test_a_space_that_was_dropped_holds_nothing(stage: Stage) -> None:
    gone = uuid4()
    queries = [replace(stage.asked(vector), space_uid=gone) for vector in stage.vectors[:20]]
    assert await stage.carry_out(queries[0]) == []
    assert await asyncio.gather(*map(stage.carry_out, queries)) == [[]] * len(queries)
