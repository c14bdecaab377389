"""The queue of texts that wait for their vectors, and what may happen while they are embedded."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cluster import DatabaseUrls
from knowledged.codecs import set_codecs
from knowledged.connection import connect
from knowledged.database import Database
from knowledged.embedding.catalogue import Offered
from knowledged.store import (
    collection_changes,
    document_changes,
    document_removals,
    spaces,
    text_queue,
)
from knowledged.store.collections import Collection, FilterField
from knowledged.store.document_steps import Written
from knowledged.store.documents import Document
from knowledged.store.pieces import NewPieces
from knowledged.workers.text_worker import TextWorkers
from served import Model
from stored import (
    NUMBER,
    add_texts,
    make_collection,
    make_document,
    mutation,
    read_document,
)

PENDING, ACTIVE, FAILED = 1, 2, 3
YEAR = FilterField("metadata.year", NUMBER)
PAGE = FilterField("chunk_metadata.page", NUMBER)

Meanwhile = Callable[[], Awaitable[None]]


class Interrupted:
    """The real embedder, and what happens once while it works."""

    def __init__(self, model: Model, meanwhile: Meanwhile | None) -> None:
        self._embedder = model.embedder
        self._meanwhile = meanwhile
        self.model_id = model.embedder.model_id
        self.model_digest = model.embedder.model_digest
        self.seen: list[str] = []

    async def embed(
        self, texts: Sequence[str], *, urgent: bool = False, seconds_left: float | None = None
    ) -> NDArray[np.float32]:
        self.seen.extend(texts)
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile:
            await meanwhile()
        return await self._embedder.embed(texts, urgent=urgent)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A document `d` whose chunks `c0` and `c1` wait for their vectors."""

    database: Database
    model: Model
    collection: Collection
    document: Document

    @property
    def queue(self) -> text_queue.Model:
        """Whose queue the chunks wait in."""
        return text_queue.Model(self.model.embedder.model_id, "", False)

    async def settled(self, meanwhile: Meanwhile | None = None) -> list[str]:
        """Works until nothing waits; the texts that were embedded."""
        embedder: Any = Interrupted(self.model, meanwhile)
        waits = "select count(*) from knowledge.chunk where state = 1"
        offered = Offered(embedder, self.model.chunker)
        async with working(self.database, offered), asyncio.timeout(20):
            while await self.count(waits):  # noqa: ASYNC110 - a worker works
                await asyncio.sleep(0.05)
        return embedder.seen

    async def count(self, sql: str, *arguments: object) -> int:
        async with self.database.read() as conn:
            return int(await conn.fetchval(sql, *arguments))

    async def fields(self) -> list[dict[str, Any]]:
        """The filter fields of the live vectors, in the order of the chunks."""
        async with self.database.read() as conn:
            rows = await conn.fetch(
                """
                select v.fields
                  from knowledge.chunk_vector v
                  join knowledge.chunk k on k.chunk_uid = v.chunk_uid
                 where v.space_uid = $1::uuid
                 order by k.chunk_id
                """,
                self.collection.active_space_uid,
            )
        return [row["fields"] for row in rows]

    async def state(self) -> tuple[int, str]:
        async with self.database.read() as conn:
            document = await read_document(conn, self.document)
        return document.state, document.last_error


@asynccontextmanager
async def working(database: Database, model: Offered) -> AsyncIterator[None]:
    """A text worker at work."""
    task = asyncio.create_task(TextWorkers(database).run(model))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def make_waiting(database: Database, model: Model, collection_id: str) -> Waiting:
    async with database.read() as conn:
        collection = await make_collection(
            conn,
            collection_id,
            dimension=384,
            fields=(YEAR, PAGE),
            model=model.embedder.model_id,
        )
        document = await make_document(conn, collection, "d", {"year": 2025})
        pages = [{"page": 1}, {"page": 2}]
        await add_texts(conn, collection, document, ["gout", "a broken arm"], pages)
        document = await read_document(conn, document)
    return Waiting(database, model, collection, document)


@pytest.fixture
async def waiting(database: Database, model: Model) -> Waiting:
    return await make_waiting(database, model, "c")


async def test_texts_get_their_vectors_and_the_document_becomes_active(waiting: Waiting) -> None:
    assert await waiting.state() == (PENDING, "")
    assert sorted(await waiting.settled()) == ["a broken arm", "gout"]
    assert await waiting.state() == (ACTIVE, "")
    assert await waiting.fields() == [
        {YEAR.key: 2025, PAGE.key: 1},
        {YEAR.key: 2025, PAGE.key: 2},
    ]


async def test_metadata_changed_meanwhile_is_what_searches_filter_on(waiting: Waiting) -> None:
    async def change() -> None:
        after = replace(
            waiting.document, metadata={"year": 2026}, update_time=datetime.now(UTC), state=PENDING
        )
        pieces = NewPieces(fields={YEAR.key: 2026}, cut=False, own_keys=(YEAR.key,))
        async with waiting.database.write() as conn:
            event = mutation(waiting.collection.collection_uid)
            done = await document_changes.update(
                conn, event, waiting.collection, after, pieces, None
            )
            assert done is Written.DONE

    await waiting.settled(change)
    assert [fields[YEAR.key] for fields in await waiting.fields()] == [2026, 2026]


async def test_a_chunks_metadata_changed_meanwhile_is_what_searches_filter_on(
    waiting: Waiting,
) -> None:
    async def change() -> None:
        async with waiting.database.read() as conn:
            pages = [{"page": 7}, {"page": 8}]
            texts = ["gout", "a broken arm"]
            await add_texts(conn, waiting.collection, waiting.document, texts, pages)

    await waiting.settled(change)
    assert [fields[PAGE.key] for fields in await waiting.fields()] == [7, 8]


async def test_a_field_given_up_meanwhile_is_left_out(waiting: Waiting) -> None:
    async def change() -> None:
        after = replace(waiting.collection, filter_fields=(PAGE,), update_time=datetime.now(UTC))
        async with waiting.database.write() as conn:
            event = mutation(waiting.collection.collection_uid)
            assert await collection_changes.update(conn, event, after)

    await waiting.settled(change)
    assert await waiting.fields() == [{PAGE.key: 1}, {PAGE.key: 2}]


async def test_a_text_changed_meanwhile_is_embedded_again(waiting: Waiting) -> None:
    async def change() -> None:
        async with waiting.database.read() as conn:
            texts = ["a cold", "a broken arm"]
            await add_texts(conn, waiting.collection, waiting.document, texts)

    seen = await waiting.settled(change)
    assert "a cold" in seen
    (expected,) = await waiting.model.embedder.embed(["a cold"])
    async with waiting.database.read() as conn:
        found = await conn.fetchval(
            """
            select v.embedding
              from knowledge.chunk_vector v
              join knowledge.chunk k on k.chunk_uid = v.chunk_uid
             where k.chunk_id = 'c0'
            """
        )
    assert float(np.frombuffer(found, "<f4") @ expected) > 0.999


async def test_the_vectors_of_a_document_deleted_meanwhile_are_parked(waiting: Waiting) -> None:
    async def delete() -> None:
        async with waiting.database.write() as conn:
            event = mutation(waiting.collection.collection_uid)
            gone = replace(waiting.document, delete_time=datetime.now(UTC))
            done = await document_removals.delete(conn, event, waiting.collection, gone)
            assert done is Written.DONE

    await waiting.settled(delete)
    assert await waiting.fields() == []
    assert await waiting.count("select count(*) from knowledge.chunk_vector_parked") == 2


async def test_a_collection_removed_meanwhile_holds_up_no_other(
    waiting: Waiting, database_urls: DatabaseUrls
) -> None:
    doomed = await make_waiting(waiting.database, waiting.model, "doomed")

    async def delete() -> None:
        async with waiting.database.transaction() as conn:
            uid, now = doomed.collection.collection_uid, datetime.now(UTC)
            assert await collection_changes.delete(conn, mutation(uid), uid, now)
        owner = await connect(database_urls.owner_dsn)
        await set_codecs(owner)
        await spaces.drop_partition(owner, doomed.collection.active_space_uid)
        await owner.close()

    assert len(await waiting.settled(delete)) == 4
    assert await waiting.state() == (ACTIVE, "")
    assert len(await waiting.fields()) == 2
    assert await waiting.count("select count(*) from knowledge.chunk_vector_parked") == 0


async def test_two_workers_embed_each_text_once(waiting: Waiting) -> None:
    other: Any = Interrupted(waiting.model, None)
    async with working(waiting.database, Offered(other, waiting.model.chunker)):
        seen = await waiting.settled()
    assert sorted([*seen, *other.seen]) == ["a broken arm", "gout"]


async def test_a_lease_keeps_a_chunk_from_others_until_it_runs_out(waiting: Waiting) -> None:
    async with waiting.database.write() as conn:
        first = await text_queue.lease(conn, waiting.queue, 1, 60.0)
        second = await text_queue.lease(conn, waiting.queue, 10, 0.0)
        again = await text_queue.lease(conn, waiting.queue, 10, 60.0)
    assert (len(first), len(second)) == (1, 1)
    assert [each.chunk_uid for each in again] == [each.chunk_uid for each in second]
    assert first[0].chunk_uid != second[0].chunk_uid


async def test_the_last_attempt_that_fails_marks_chunk_and_document(waiting: Waiting) -> None:
    async with waiting.database.write() as conn:
        leased = [each.chunk_uid for each in await text_queue.lease(conn, waiting.queue, 10, 0.0)]
        await text_queue.postpone(conn, leased, 2, "not yet")
        assert await waiting.state() == (PENDING, "")
        await conn.execute("update knowledge.chunk set next_attempt_at = now()")
        await text_queue.lease(conn, waiting.queue, 10, 0.0)
        await text_queue.postpone(conn, leased[:1], 2, "no server with the model runs")
    assert await waiting.state() == (FAILED, "no server with the model runs")
    failed = "select count(*) from knowledge.chunk where state = 3 and last_error <> ''"
    assert await waiting.count(failed) == 1


async def test_a_failed_document_is_active_again_once_its_failed_chunk_is_replaced(
    waiting: Waiting,
) -> None:
    async with waiting.database.write() as conn:
        leased = [each.chunk_uid for each in await text_queue.lease(conn, waiting.queue, 10, 0.0)]
        await text_queue.postpone(conn, leased, 1, "broken")
        assert (await waiting.state())[0] == FAILED
        texts = ["gout", "a broken arm"]
        await add_texts(conn, waiting.collection, waiting.document, texts)
    await waiting.settled()
    assert await waiting.state() == (ACTIVE, "")


async def test_what_is_given_back_uses_up_no_attempt(waiting: Waiting) -> None:
    async with waiting.database.write() as conn:
        for _ in range(20):
            leased = await text_queue.lease(conn, waiting.queue, 10, 60.0)
            assert len(leased) == 2
            uids = [each.chunk_uid for each in leased]
            await text_queue.give_back(conn, uids, 0.0, "the provider is away")
        told = "select count(*) from knowledge.chunk where last_error = 'the provider is away'"
        assert await waiting.count(told + " and attempts = 0 and state = 1") == 2
    assert await waiting.state() == (PENDING, "")


async def test_a_remote_model_gets_no_text_that_must_stay_here(waiting: Waiting) -> None:
    here = waiting.queue
    outside = text_queue.Model(here.model_id, "", True)
    async with waiting.database.write() as conn:
        assert await text_queue.lease(conn, outside, 10, 0.0) == []
        await conn.execute("update knowledge.collection set egress = 2")
        assert len(await text_queue.lease(conn, outside, 10, 0.0)) == 2


async def test_other_models_and_other_weights_get_no_text(waiting: Waiting) -> None:
    here = waiting.queue
    async with waiting.database.write() as conn:
        await conn.execute("update knowledge.vector_space set model_digest = 'abc'")
        found = [
            len(await text_queue.lease(conn, text_queue.Model(*asked, False), 10, 0.0))
            for asked in ((here.model_id, "abd"), ("other", "abc"), (here.model_id, "abc"))
        ]
    assert found == [0, 0, 2]
