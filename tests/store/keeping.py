"""A keeper at work on a database of a test, and what is looked at meanwhile."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from cluster import DatabaseUrls
from knowledged.connection import Connection
from knowledged.database import Database
from knowledged.directory import Directory
from knowledged.store import collection_changes, spaces
from knowledged.store.collections import Collection, FilterField
from knowledged.store.spaces import INDEXED, SpaceState
from knowledged.workers.space_keeper import SpaceKeeper
from stored import (
    NUMBER,
    add_chunks,
    clustered,
    make_document,
    mutation,
)

STRING = 1
YEAR = FilterField("metadata.year", NUMBER)
TOPIC = FilterField("chunk_metadata.topic", STRING)


@dataclass(frozen=True, slots=True)
class Stage:
    """A database with a serving pool, and a connection of the owner to look at everything."""

    urls: DatabaseUrls
    database: Database
    owner: Connection

    @asynccontextmanager
    async def keeper(self) -> AsyncIterator[None]:
        """A space keeper at work."""
        directory = Directory(self.database)
        keeper = SpaceKeeper(self.database, self.urls.owner_dsn, directory)
        task = asyncio.create_task(keeper.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def space(self, collection: Collection) -> SpaceState | None:
        found = await spaces.states(self.owner)
        return next((s for s in found if s.space_uid == collection.active_space_uid), None)

    async def count(self, sql: str, *arguments: object) -> int:
        return int(await self.owner.fetchval(sql, *arguments))


async def until(true: Callable[[], Awaitable[bool]], seconds: float = 20.0) -> None:
    """Waits until it is true; raises TimeoutError if it never is."""
    async with asyncio.timeout(seconds):
        while not await true():  # noqa: ASYNC110 - what is waited for happens in the database
            await asyncio.sleep(0.05)


async def fill(stage: Stage, collection: Collection, count: int) -> None:
    """One document of so many chunks, and fresh statistics."""
    async with stage.database.read() as conn:
        document = await make_document(conn, collection, "d", {"year": 2026})
        topics = [{"topic": f"t{i % 5}"} for i in range(count)]
        vectors = clustered(count, collection.dimension)
        await add_chunks(conn, collection, document, vectors, topics)
    await stage.owner.execute("analyze knowledge.chunk_vector")


async def indexes(stage: Stage, collection: Collection) -> dict[str, bool]:
    """The partition's indexes that are the keeper's, by the end of their names: valid or not."""
    prefix = f"chunk_vector_{collection.active_space_uid.hex}_"
    rows = await stage.owner.fetch(
        """
        select substr(c.relname::text, length($1::text) + 1) as name, i.indisvalid as valid
          from pg_index i
          join pg_class c on c.oid = i.indexrelid
         where c.relname ^@ $1::text
        """,
        prefix,
    )
    keepers = re.compile("hnsw|f[0-9a-f]{12}")
    return {row["name"]: row["valid"] for row in rows if keepers.fullmatch(row["name"])}


async def indexed(stage: Stage, collection: Collection) -> bool:
    space = await stage.space(collection)
    return space is not None and space.state == INDEXED and bool(space.hnsw_valid)


async def exists(stage: Stage, suffix: str, collection: Collection) -> bool:
    name = f"knowledge.chunk_vector_{collection.active_space_uid.hex}{suffix}"
    return await stage.owner.fetchval("select to_regclass($1::text) is not null", name)


async def declare(stage: Stage, collection: Collection, *fields: FilterField) -> Collection:
    """Changes the collection's filter fields, as UpdateCollection does."""
    after = replace(collection, filter_fields=fields, update_time=datetime.now(UTC))
    async with stage.database.write() as conn:
        change = mutation(collection.collection_uid)
        assert await collection_changes.update(conn, change, after)
    return replace(after, revision=collection.revision + 1)


async def ready(stage: Stage, collection: Collection) -> bool:
    space = await stage.space(collection)
    wanted, built = set(collection.filter_fields), await indexes(stage, collection)
    return (
        space is not None
        and set(space.ready_fields) == wanted
        and len(wanted) == len(built)
        and all(built.values())
    )


async def stored(stage: Stage, collection: Collection) -> list[dict[str, Any]]:
    """The different `fields` of the space's rows."""
    rows = await stage.owner.fetch(
        "select distinct fields from knowledge.chunk_vector where space_uid = $1::uuid",
        collection.active_space_uid,
    )
    return [row["fields"] for row in rows]
