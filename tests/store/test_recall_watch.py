"""What the vector indexes find is measured by one replica, told by all, and ef follows it."""

import asyncio
from dataclasses import dataclass
from typing import Any

import grpc.aio
import numpy as np
import pytest
import structlog.testing
from asyncpg import Record

from cluster import DatabaseUrls
from knowledge.v1 import vector_service_pb2 as v
from knowledge.v1.vector_pb2 import Vector
from knowledge.v1.vector_service_pb2_grpc import VectorServiceStub
from knowledged.codecs import set_codecs
from knowledged.connection import connect
from knowledged.database import Database
from knowledged.metrics import Metrics
from knowledged.store import recall, spaces
from knowledged.store.collections import Collection
from knowledged.workers.ef_tuning import DEFAULT, DEFAULT_EF, LOWERED, RAISED, UNREACHED, Wanted
from knowledged.workers.recall_watch import RecallWatch
from served import Serve
from stored import add_chunks, clustered, make_collection, make_document

WANTED = Wanted(0.98, 400)


@dataclass(slots=True)
class Indexed:
    """A collection with a built index, and another replica's way to set its ef."""

    database: Database
    urls: DatabaseUrls
    collection: Collection

    @property
    def space_uid(self) -> str:
        return str(self.collection.active_space_uid)

    async def begin_at(self, ef: int) -> None:
        async with self.database.write() as conn:
            await conn.execute("update knowledge.vector_space set ef = $1::int", ef)

    async def row(self) -> Record:
        async with self.database.read() as conn:
            (row,) = await recall.indexed(conn)
        return row

    def watch(self, wanted: Wanted = WANTED, period_seconds: float = 0.0) -> RecallWatch:
        return RecallWatch(self.database, Metrics(), wanted, period_seconds)


async def indexed(
    database: Database, urls: DatabaseUrls, rows: int, dimension: int, clusters: int
) -> Indexed:
    vectors = clustered(rows, dimension, clusters)
    async with database.transaction() as conn:
        collection = await make_collection(conn, "c", dimension=dimension)
        document = await make_document(conn, collection, "d")
        await add_chunks(conn, collection, document, vectors)
    owner = await connect(urls.owner_dsn)
    await set_codecs(owner)
    (space,) = await spaces.states(owner)
    await spaces.build_hnsw(owner, space)
    await spaces.set_state(owner, space.space_uid, spaces.INDEXED)
    await owner.close()
    return Indexed(database, urls, collection)


@pytest.fixture
async def small(database: Database, database_urls: DatabaseUrls) -> Indexed:
    return await indexed(database, database_urls, 300, 16, clusters=50)


@pytest.fixture
async def hard(database: Database, database_urls: DatabaseUrls) -> Indexed:
    """So many vectors around each of a few topics that ten candidates find too little."""
    return await indexed(database, database_urls, 4_000, 128, clusters=2)


async def stop_writing_the_index(here: Indexed) -> None:
    """What a damaged one is like: it finds nothing of what comes later."""
    superuser = await connect(here.urls.superuser_dsn)
    index = f"knowledge.chunk_vector_{here.collection.active_space_uid.hex}_hnsw"
    await superuser.execute(
        "update pg_index set indisready = false where indexrelid = to_regclass($1::text)", index
    )
    await superuser.close()
    async with here.database.transaction() as conn:
        other = await make_document(conn, here.collection, "e")
        await add_chunks(conn, here.collection, other, clustered(600, 16)[300:])


async def test_the_gauge_falls_when_an_index_loses_vectors_and_ef_is_not_raised_in_vain(
    small: Indexed,
) -> None:
    metrics = Metrics()
    watch = RecallWatch(small.database, metrics, WANTED, period_seconds=0)
    await watch.measure()
    assert gauge(metrics, "knowledged_index_recall", small.space_uid) > 0.9
    await stop_writing_the_index(small)
    await watch.measure()
    await watch.measure()
    assert gauge(metrics, "knowledged_index_recall", small.space_uid) < 0.9
    assert gauge(metrics, "knowledged_index_ef", small.space_uid) == DEFAULT_EF
    assert (await small.row())["ef_reason"] == UNREACHED


def test_what_is_asked_to_measure_lies_a_fifth_of_the_way_to_another_vector() -> None:
    drawn = [np.array(vector, "<f4").tobytes() for vector in ([1, 0], [0, 1], [-2, 0])]
    asked = [np.frombuffer(vector, "<f4").tolist() for vector in recall.as_asked(drawn)]
    assert np.allclose(asked, [[0.4, 0], [0.2, 0.8], [-1.6, 0.2]])
    assert recall.as_asked(drawn[:1]) == drawn[:1]


async def test_ef_is_raised_until_recall_is_what_is_wanted(hard: Indexed) -> None:
    await hard.begin_at(10)
    await hard.watch(Wanted(0, 400)).measure()
    before = (await hard.row())["recall"]
    assert before < WANTED.recall
    metrics = Metrics()
    with structlog.testing.capture_logs() as logs:
        watch = RecallWatch(hard.database, metrics, WANTED, period_seconds=0)
        await watch.measure()
        await watch.measure()
    row = await hard.row()
    assert row["ef"] > 10
    assert row["recall"] >= WANTED.recall
    assert row["ef_reason"] == RAISED
    assert gauge(metrics, "knowledged_index_ef", hard.space_uid) == row["ef"]
    changes = "knowledged_index_ef_changes_total"
    assert metrics.registry.get_sample_value(changes, {"direction": "raised"}) == 1
    (line,) = [line for line in logs if line["event"] == "index_ef_changed"]
    assert (line["former_ef"], line["ef"]) == (10, row["ef"])


async def test_the_ef_of_searches_and_its_reason_are_told(hard: Indexed, serve: Serve) -> None:
    await hard.begin_at(10)
    watch = hard.watch()
    await watch.measure()
    await watch.measure()
    ef = (await hard.row())["ef"]
    name = f"collections/{hard.collection.collection_id}"
    async with (
        serve(hard.urls) as running,
        grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        vectors: Any = VectorServiceStub(channel)
        index = (await vectors.GetIndexStats(v.GetIndexStatsRequest(collection=name))).vector_index
        assert (index.ef, index.ef_reason) == (ef, v.EF_REASON_RAISED)
        assert index.recall >= WANTED.recall
        assert index.recall_query_count == 100
        assert index.recall_time.ToSeconds() > 0
        for asked, explained in (
            ({}, (ef, v.EF_REASON_RAISED)),
            ({"ef": 15}, (15, v.EF_REASON_REQUESTED)),
            ({"limit": 500}, (500, v.EF_REASON_CANDIDATES)),
            ({"exact": True}, (0, v.EF_REASON_UNSPECIFIED)),
        ):
            request = v.SearchRequest(
                collection=name,
                vector=Vector(f32_le=clustered(1, 128).tobytes()),
                explain=True,
                **asked,
            )
            (told,) = (await vectors.Search(request)).explanations
            assert (told.ef, told.ef_reason) == explained


async def test_ef_comes_down_again_where_less_is_amply_enough_and_stays_there(
    small: Indexed,
) -> None:
    await small.begin_at(80)
    watch, seen = small.watch(), list[tuple[int, int]]()
    for _ in range(16):
        await watch.measure()
        row = await small.row()
        seen.append((row["ef"], row["ef_reason"]))
    assert seen[4] == (80, DEFAULT)
    assert seen[5] == (60, LOWERED)
    assert seen[11:] == [(DEFAULT_EF, DEFAULT)] * 5


async def test_of_all_replicas_one_measures_in_a_period_and_every_one_tells(
    small: Indexed,
) -> None:
    all_metrics = [Metrics() for _ in range(3)]
    watches = [RecallWatch(small.database, each, WANTED, 600.0) for each in all_metrics]
    assert sum(await asyncio.gather(*(each.measure() for each in watches))) == 1
    assert await watches[0].measure() == 0
    await watches[1].measure()
    await watches[2].measure()
    for each in all_metrics:
        assert gauge(each, "knowledged_index_recall", small.space_uid) > 0.9


async def test_what_is_told_of_an_index_ends_with_it(small: Indexed) -> None:
    metrics = Metrics()
    watch = RecallWatch(small.database, metrics, WANTED, 0.0)
    await watch.measure()
    async with small.database.write() as conn:
        await conn.execute("update knowledge.vector_space set state = 4")
    await watch.measure()
    labels = {"space_uid": small.space_uid}
    assert metrics.registry.get_sample_value("knowledged_index_recall", labels) is None


def gauge(metrics: Metrics, name: str, space_uid: str) -> float:
    found = metrics.registry.get_sample_value(name, {"space_uid": space_uid})
    assert found is not None
    return found
