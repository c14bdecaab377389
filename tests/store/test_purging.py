"""Purges see to it that nothing is left, that nothing held goes, and that time is kept."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from cluster import DatabaseUrls
from knowledged.connection import Connection, connect
from knowledged.database import Database
from knowledged.store import document_removals, purges
from knowledged.store.collections import Collection
from knowledged.store.document_steps import Written
from knowledged.store.documents import Document
from knowledged.store.filter_sql import Condition
from knowledged.workers.purger import Purger
from stored import (
    add_chunks,
    add_texts,
    make_collection,
    make_document,
    mutation,
    read_document,
)

ALL = Condition("true", [])
TABLES = ("document", "document_revision", "chunk", "chunk_span", "chunk_vector")
HELD = """
    create or replace function knowledge.is_held(held_document uuid) returns boolean
        language sql stable
        as $$ select exists (select from knowledge.document
                              where document_uid = held_document and document_id = 'held') $$
"""


@dataclass(frozen=True, slots=True)
class Store:
    """A database with a collection, and its owner's connection."""

    database: Database
    owner: Connection
    collection: Collection

    async def document(self, document_id: str, *, purged_in: timedelta | None = None) -> Document:
        """With a chunk that has a vector and one that waits; deleted if it is to be purged."""
        async with self.database.write() as conn:
            made = await make_document(conn, self.collection, document_id)
            await add_texts(conn, self.collection, made, ["one", "two"])
            await add_chunks(conn, self.collection, made, np.eye(1, 4, dtype=np.float32))
            if purged_in is not None:
                await self.delete(conn, made, datetime.now(UTC) + purged_in)
        return made

    async def delete(self, conn: Connection, made: Document, purge_time: datetime) -> None:
        now = datetime.now(UTC)
        row = replace(await read_document(conn, made), delete_time=now, purge_time=purge_time)
        event = mutation(self.collection.collection_uid)
        assert await document_removals.delete(conn, event, self.collection, row) is Written.DONE

    async def rows(self, table: str) -> int:
        return await self.owner.fetchval(f"select count(*) from knowledge.{table}")  # noqa: S608 - TABLES

    async def ids(self) -> list[str]:
        rows = await self.owner.fetch("select document_id from knowledge.document order by 1")
        return [row["document_id"] for row in rows]


@pytest.fixture
async def store(database: Database, database_urls: DatabaseUrls) -> AsyncIterator[Store]:
    owner = await connect(database_urls.owner_dsn)
    async with database.write() as conn:
        collection = await make_collection(conn, "c")
    yield Store(database, owner, collection)
    await owner.close()


async def test_a_purge_leaves_no_row_but_the_events(store: Store) -> None:
    await store.document("gone", purged_in=timedelta(0))
    await store.document("lives")
    before = {table: await store.rows(table) for table in TABLES}
    events = await store.rows("audit_event")
    async with store.database.transaction() as conn:
        found = await purges.find(conn, store.collection.collection_uid, ALL, 10)
        doomed = await purges.lock(conn, found)
        made = [mutation(store.collection.collection_uid) for _ in doomed]
        await purges.purge(conn, doomed, made, more=False)
    assert all(before.values())
    assert {table: await store.rows(table) for table in TABLES} == dict.fromkeys(TABLES, 0)
    assert await store.rows("chunk_vector_parked") == 0
    assert await store.rows("audit_event") == await store.rows("audit_pending") == events + 2


async def test_the_purger_takes_what_is_due_and_tells_the_log(store: Store) -> None:
    await store.document("due", purged_in=timedelta(seconds=-1))
    await store.document("later", purged_in=timedelta(hours=1))
    await store.document("lives")
    purger = Purger(store.database)
    assert [await purger.purge_page(), await purger.purge_page()] == [1, 0]
    assert await store.ids() == ["later", "lives"]
    event = await store.owner.fetchrow(
        """
        select e.action, e.rpc, p.actor, p.purpose, p.resources
          from knowledge.audit_event e
          join knowledge.audit_payload p on p.event_id = e.event_id
         where e.action = 'documents.purge'
        """
    )
    assert event is not None
    assert tuple(event.values()) == (
        "documents.purge",
        "purger",
        "knowledged",
        "retention",
        ["collections/c/documents/due"],
    )


async def test_two_purgers_share_the_work(store: Store) -> None:
    for i in range(6):
        await store.document(f"d{i}", purged_in=timedelta(seconds=-1))
    purger = Purger(store.database)
    done = await asyncio.gather(*(purger.purge_page() for _ in range(4)))
    assert (sum(done), await store.ids()) == (6, [])


async def test_what_is_held_is_not_purged(store: Store) -> None:
    await store.document("held", purged_in=timedelta(seconds=-1))
    await store.document("free", purged_in=timedelta(seconds=-1))
    await store.owner.execute(HELD)
    async with store.database.transaction() as conn:
        uid = store.collection.collection_uid
        assert await purges.count(conn, uid, ALL) == purges.Count(2, 1)
        locked = await purges.lock(conn, await purges.find(conn, uid, ALL, 10))
        assert [doomed.held for doomed in locked] == [True, False]
    assert await Purger(store.database).purge_page() == 1
    assert await store.ids() == ["held"]


async def test_a_document_changed_meanwhile_is_left(store: Store) -> None:
    made = await store.document("d")
    async with store.database.transaction() as conn:
        found = await purges.find(conn, store.collection.collection_uid, ALL, 10)
        async with store.database.write() as other:
            await store.delete(other, made, datetime.now(UTC))
        assert await purges.lock(conn, found) == []


async def test_what_comes_back_is_filtered_by_what_is_declared_now(store: Store) -> None:
    made = await store.document("d", purged_in=timedelta(hours=1))
    async with store.database.write() as conn:
        row = replace(await read_document(conn, made), update_time=datetime.now(UTC))
        fields: dict[str, object] = {"metadata.year:2": 2024}
        parked = await document_removals.parked(conn, row.document_uid)
        done = await document_removals.undelete(
            conn,
            mutation(store.collection.collection_uid),
            store.collection,
            row,
            dict.fromkeys(parked, fields),
        )
    assert done is Written.DONE
    rows = await store.owner.fetch("select fields::text from knowledge.chunk_vector")
    assert await store.rows("chunk_vector_parked") == 0
    assert [row["fields"] for row in rows] == ['{"metadata.year:2": 2024}']


async def test_what_an_older_version_deleted_gets_its_time(store: Store) -> None:
    await store.document("d", purged_in=timedelta(days=1))
    await store.owner.execute("update knowledge.document set purge_time = null")
    async with store.database.write() as conn:
        await purges.schedule(conn)
    kept = await store.owner.fetchval("select purge_time - delete_time from knowledge.document")
    assert kept == timedelta(seconds=store.collection.retention_seconds)
