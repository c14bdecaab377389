"""A filled database whose plans are looked at, and the plans."""

import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np

from cluster import open_database
from knowledged.codecs import set_codecs
from knowledged.connection import Connection, connect
from knowledged.declared_fields import KINDS, declared, only_declared
from knowledged.filters.language import parse
from knowledged.store import (
    documents,
    filtered,
    hybrid,
    search,
    spaces,
)
from knowledged.store.collections import Collection, FilterField
from knowledged.store.document_steps import Written
from knowledged.store.documents import Document
from knowledged.store.filter_sql import Fields
from knowledged.store.filter_sql import compile as compile_filter
from knowledged.store.search import FIRST_FILTER_PARAMETER, SEARCH_COLUMNS
from stored import (
    L2,
    NUMBER,
    add_chunks,
    clustered,
    make_collection,
    make_document,
)

DIMENSION = 16
DONE = Written.DONE
ROWS = 3_200
DOCUMENTS = 200
OTHERS = 20
YEAR = FilterField("metadata.year", NUMBER)


@dataclass(frozen=True, slots=True)
class World:
    """A database with an indexed space of 3,200 chunks in 200 documents, and 20 more spaces."""

    dsn: str
    collection: Collection
    document: Document
    vector: bytes


async def built(server_dsn: str, owner_dsn: str) -> World:
    database = await open_database(server_dsn)
    async with database.write() as conn:
        made = await filled(conn)
    await database.close()
    owner = await connect(owner_dsn)
    await set_codecs(owner)
    (space,) = [s for s in await spaces.states(owner) if s.collection_uid == made[0].collection_uid]
    await spaces.index_fields(owner, space.space_uid, {YEAR.key: KINDS[YEAR.kind]})
    await spaces.build_hnsw(owner, space)
    await spaces.set_state(owner, space.space_uid, spaces.INDEXED)
    await owner.execute("analyze")
    await owner.close()
    return World(server_dsn, *made)


async def filled(conn: Connection) -> tuple[Collection, Document, bytes]:
    collection = await make_collection(conn, "big", dimension=DIMENSION, fields=(YEAR,))
    vectors = clustered(ROWS, DIMENSION)
    for number, rows in enumerate(np.split(vectors, DOCUMENTS)):
        document = await make_document(conn, collection, f"d{number}", {"year": number})
        await add_chunks(conn, collection, document, rows)
    for number in range(OTHERS):
        other = await make_collection(conn, f"other{number}", dimension=4, distance=L2)
        document = await make_document(conn, other, "d")
        await add_chunks(conn, other, document, clustered(8, 4))
    await conn.execute(
        """
        insert into knowledge.request_log
        select 'tester', '/test', gen_random_uuid(), '', '', gen_random_uuid(), 1,
               gen_random_uuid(), '', now() + interval '1 day'
          from generate_series(1, 2000)
        """
    )
    return collection, await documents.get(conn, "big", "d7", None), vectors[0].tobytes()


@dataclass(frozen=True, slots=True)
class Plan:
    """What EXPLAIN says: the indexes used, the kinds of nodes, the relations read."""

    indexes: set[str]
    nodes: set[str]
    relations: set[str]
    scanned_whole: set[str]


class Watched:
    """A connection that runs what the store asks, and keeps it to be explained."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self.asked: tuple[str, tuple[object, ...]] = ("", ())

    async def fetch(self, query: str, *args: object) -> list[Any]:
        self.asked = query, args
        return await self._conn.fetch(query, *args)

    async def fetchrow(self, query: str, *args: object) -> Any:
        self.asked = query, args
        return await self._conn.fetchrow(query, *args)


async def explained(conn: Connection, work: Callable[[Any], Awaitable[object]]) -> Plan:
    """The plan of the one statement that `work` runs."""
    watched = Watched(conn)
    await work(watched)
    query, arguments = watched.asked
    return summary(await conn.fetchval("explain (format json) " + query, *arguments))


def summary(text: str) -> Plan:
    nodes = list(nodes_of(json.loads(text)[0]["Plan"]))
    return Plan(
        {node["Index Name"] for node in nodes if "Index Name" in node},
        {node["Node Type"] for node in nodes},
        {node["Relation Name"] for node in nodes if "Relation Name" in node},
        {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"},
    )


def nodes_of(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for below in node.get("Plans", []):
        yield from nodes_of(below)


async def touched_partitions(conn: Connection) -> set[str]:
    """The vector tables that the transaction's statements have locked, by planning alone too."""
    rows = await conn.fetch(
        r"""
        select c.relname::text as name
          from pg_locks l
          join pg_class c on c.oid = l.relation
         where l.pid = pg_backend_pid() and c.relkind = 'r'
           and c.relname ~ '^chunk_vector_[0-9a-f]{32}$'
        """
    )
    return {row["name"] for row in rows}


def partition(space_uid: UUID, suffix: str = "") -> str:
    return f"chunk_vector_{space_uid.hex}{suffix}"


def found(world: World, *, exact: bool, filter: str = "") -> Callable[[Any], Awaitable[object]]:
    """A search, put together as the service does."""
    asked = parse(filter, {})
    joined = search.asks_more_than(only_declared((YEAR,)), asked)
    fields = Fields(SEARCH_COLUMNS, declared((YEAR,)))
    condition = compile_filter(asked, fields, FIRST_FILTER_PARAMETER)
    c = world.collection
    plan = search.Plan(DIMENSION, c.distance, None if exact else 40, joined)
    query = search.Query(c.collection_uid, c.active_space_uid, world.vector, 10, False, condition)
    return lambda conn: search.search(conn, plan, query)


def asked(world: World, filter: str, first_parameter: int) -> search.Query:
    fields = Fields(SEARCH_COLUMNS, declared((YEAR,)))
    condition = compile_filter(parse(filter, {}), fields, first_parameter)
    c = world.collection
    return search.Query(c.collection_uid, c.active_space_uid, world.vector, 10, False, condition)


def by_words(world: World) -> Callable[[Any], Awaitable[object]]:
    plan = search.Plan(DIMENSION, world.collection.distance, 60, joined=False)
    words = hybrid.Words("text 17", (), "english", 0.7, 0.3)
    query = asked(world, "", hybrid.FIRST_FILTER_PARAMETER)
    return lambda conn: hybrid.search(conn, plan, query, words)


def counted(
    world: World, filter: str, *, known: bool = False
) -> Callable[[Any], Awaitable[object]]:
    """A filtered search; `known`: many were found to pass lately."""
    joined = search.asks_more_than(only_declared((YEAR,)), parse(filter, {}))
    plan = search.Plan(DIMENSION, world.collection.distance, 40, joined)
    query = asked(world, filter, filtered.FIRST_FILTER_PARAMETER)
    if known:
        return lambda conn: filtered.search_index(conn, plan, query)
    return lambda conn: filtered.search(conn, plan, query, 1_000)
