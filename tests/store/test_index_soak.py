"""A vector index stays whole while it is written to, deleted from, searched and vacuumed."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random

import numpy as np
import pytest

from cluster import DatabaseUrls
from knowledged.codecs import set_codecs
from knowledged.connection import Connection, connect
from knowledged.database import Database
from knowledged.store import chunk_changes, recall, search, spaces
from knowledged.store.collections import Collection
from knowledged.store.recall import EVERYTHING
from stored import add_chunks, clustered, make_collection, make_document, mutation

DIMENSION = 32
ROWS = 2_000
LEAST_RECALL = 0.95


@dataclass(slots=True)
class Soak:
    """What is done to one indexed space; `live` are the chunks `d<n>`/`c<n>` that are there."""

    database: Database
    owner: Connection
    collection: Collection
    chance: Random = field(default_factory=lambda: Random(7))
    live: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    done: dict[str, int] = field(default_factory=dict[str, int])

    async def insert(self) -> None:
        if len(self.live) > ROWS + 200:
            return
        number = self.done.get("insert", 0)
        rows = clustered(ROWS, DIMENSION)[self.chance.sample(range(ROWS), 8)]
        rows += np.float32(0.05) * np.float32(self.chance.random())
        async with self.database.read() as conn:
            document = await make_document(conn, self.collection, f"d{number}")
            await add_chunks(conn, self.collection, document, rows)
        self.live += [(f"d{number}", f"c{place}") for place in range(8)]

    async def delete(self) -> None:
        for _ in range(min(8, max(0, len(self.live) - ROWS))):
            place = self.chance.randrange(len(self.live))
            self.live[place], self.live[-1] = self.live[-1], self.live[place]
            names = self.live.pop()
            change = mutation(self.collection.collection_uid)
            async with self.database.write() as conn:
                end = await chunk_changes.delete(conn, change, self.collection, *names)
            assert end.done

    async def look(self) -> None:
        c = self.collection
        vector = clustered(ROWS, DIMENSION)[self.chance.randrange(ROWS)].tobytes()
        query = search.Query(c.collection_uid, c.active_space_uid, vector, 10, False, EVERYTHING)
        async with self.database.read() as conn:
            hits = await search.search(conn, search.Plan(DIMENSION, 1, 40, joined=False), query)
        assert len(hits) == 10

    async def vacuum(self) -> None:
        table = f"knowledge.chunk_vector_{self.collection.active_space_uid.hex}"
        await self.owner.execute("vacuum " + table)
        await asyncio.sleep(0.2)

    async def recall(self) -> float:
        async with self.database.read() as conn:
            (space,) = await recall.indexed(conn)
            own = await recall.sample(conn, space["space_uid"], 50)
            truths = await recall.truths(conn, space, own, 10, seconds=60)
            return await recall.share(conn, space, truths, 10, space["ef"])

    async def keep_on(self, name: str, work: Callable[[], Awaitable[None]], seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await work()
            # Also where there was nothing to do: the others must get their turn.
            await asyncio.sleep(0.002)
            self.done[name] = self.done.get(name, 0) + 1


@pytest.fixture
async def soak(database: Database, database_urls: DatabaseUrls) -> Soak:
    async with database.read() as conn:
        collection = await make_collection(conn, "c", dimension=DIMENSION)
        document = await make_document(conn, collection, "first")
        for rows in np.split(clustered(ROWS, DIMENSION), 4):
            await add_chunks(conn, collection, document, rows)
    owner = await connect(database_urls.owner_dsn)
    await set_codecs(owner)
    (space,) = await spaces.states(owner)
    await spaces.build_hnsw(owner, space)
    await spaces.set_state(owner, space.space_uid, spaces.INDEXED)
    started = Soak(database, owner, collection)
    started.live = [("first", f"c{place}") for place in range(ROWS)]
    return started


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seconds", [4, pytest.param(300, marks=pytest.mark.slow)])
async def test_recall_holds_while_rows_come_and_go(seconds: int, soak: Soak) -> None:
    assert await soak.recall() >= LEAST_RECALL
    async with asyncio.TaskGroup() as tasks:
        for name in ("insert", "delete", "look", "vacuum"):
            tasks.create_task(soak.keep_on(name, getattr(soak, name), seconds))
    assert min(soak.done[name] for name in ("insert", "delete", "look", "vacuum")) >= 2
    assert soak.done["insert"] >= 2 * seconds
    assert await soak.recall() >= LEAST_RECALL
    await soak.owner.close()
