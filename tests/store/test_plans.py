"""Hot statements keep to their index, and to one partition, whatever the planner learns next."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from uuid_utils.compat import uuid7

from cluster import Cluster, open_database
from knowledged.connection import Connection
from knowledged.database import Database
from knowledged.store import (
    chunk_changes,
    chunk_intake,
    chunks,
    collections,
    document_changes,
    document_exports,
    document_imports,
    document_removals,
    documents,
    examples,
    hybrid,
    purges,
    requests,
    search,
    text_queue,
)
from knowledged.store.filter_sql import Condition
from knowledged.store.paging import Page
from knowledged.store.pieces import NewPieces
from plan_world import (
    DIMENSION,
    DONE,
    World,
    asked,
    built,
    by_words,
    counted,
    explained,
    found,
    partition,
    summary,
    touched_partitions,
)
from stored import (
    add_chunks,
    clustered,
    make_document,
    mutation,
)


@pytest.fixture(scope="module")
def world(postgres: Cluster, migrated_template: str) -> Iterator[World]:
    name = postgres.create(migrated_template)
    urls = postgres.urls(name)
    yield postgres.run(built(urls.server_dsn, urls.owner_dsn))
    postgres.drop(name)


@pytest.fixture
async def conn(world: World) -> AsyncIterator[Connection]:
    """A connection as knowledge_server, in a transaction that is rolled back."""
    database = await open_database(world.dsn)
    async with database.read() as conn:
        transaction: Any = conn.transaction()
        await transaction.start()
        yield conn
        await transaction.rollback()
    await database.close()


async def test_a_hybrid_search_takes_words_from_the_full_text_index_and_vectors_from_hnsw(
    world: World, conn: Connection
) -> None:
    plan = await explained(conn, by_words(world))
    own = world.collection.active_space_uid
    assert plan.indexes >= {"chunk_lexemes", partition(own, "_hnsw")}
    assert not plan.scanned_whole & {"chunk", "document", partition(own)}
    assert await touched_partitions(conn) == {partition(own)}


@pytest.mark.parametrize("filter", ["metadata.year < 150", "metadata.other < 150", "title = ''"])
async def test_a_filtered_search_counts_what_passes_and_may_go_by_the_index(
    filter: str, world: World, conn: Connection
) -> None:
    plan = await explained(conn, counted(world, filter))
    own = world.collection.active_space_uid
    assert partition(own, "_hnsw") in plan.indexes
    assert "chunk" not in plan.scanned_whole
    assert await touched_partitions(conn) == {partition(own)}


@pytest.mark.parametrize("filter", ["metadata.year < 150", "metadata.other < 150", "title = ''"])
async def test_a_search_by_a_filter_known_to_be_wide_goes_by_the_index_alone(
    filter: str, world: World, conn: Connection
) -> None:
    """Though the planner guesses that next to nothing passes, and would compare it."""
    plan = await explained(conn, counted(world, filter, known=True))
    own = world.collection.active_space_uid
    assert {name for name in plan.indexes if name.startswith("chunk_vector")} == {
        partition(own, "_hnsw")
    }
    assert await touched_partitions(conn) == {partition(own)}


async def test_examples_are_read_from_their_own_partition(world: World, conn: Connection) -> None:
    c = world.collection
    example = examples.Example(c.collection_uid, c.active_space_uid, "d7", "c3")
    plan = await explained(conn, lambda each: examples.means(each, [example]))
    assert "chunk_id_once" in plan.indexes
    assert await touched_partitions(conn) == {partition(c.active_space_uid)}


async def test_a_search_goes_by_the_hnsw_index_of_its_own_partition(
    world: World, conn: Connection
) -> None:
    plan = await explained(conn, found(world, exact=False))
    space_uid = world.collection.active_space_uid
    assert partition(space_uid, "_hnsw") in plan.indexes
    assert {name for name in plan.relations if name.startswith("chunk_vector")} == {
        partition(space_uid)
    }
    assert plan.scanned_whole <= {"collection"}
    assert await touched_partitions(conn) == {partition(space_uid)}


@pytest.mark.parametrize("limit", [1, 100])
async def test_searches_together_keep_a_plan_by_indexes_of_their_own_partition(
    limit: int, world: World
) -> None:
    c = world.collection
    statement = search.render_many(DIMENSION, c.distance, c.active_space_uid)
    database = await Database.connect(
        world.dsn, min_size=1, max_size=4, command_timeout_seconds=10, acquire_timeout_seconds=5
    )
    async with database.read_planned() as conn:
        await conn.execute("prepare together as " + statement)
        bound = f"null, null, {limit}, false, 40, null"
        text = await conn.fetchval(f"explain (format json, verbose) execute together ({bound})")
        plan = summary(text)
        assert "CASE WHEN $4" in text, "the plan is one for any parameters"
        assert plan.indexes >= {
            partition(c.active_space_uid, "_hnsw"),
            "chunk_pk",
            "document_pk",
            "chunk_span_first",
        }
        assert not plan.scanned_whole
        assert not plan.nodes & {"Hash Join", "Merge Join", "Append"}
        assert await touched_partitions(conn) <= {partition(c.active_space_uid)}
    await database.close()


async def test_a_search_for_words_keeps_a_plan_by_indexes_of_its_own_partition(
    world: World,
) -> None:
    c = world.collection
    statement = hybrid.render_kept(DIMENSION, c.distance, c.active_space_uid)
    database = await Database.connect(
        world.dsn, min_size=1, max_size=4, command_timeout_seconds=10, acquire_timeout_seconds=5
    )
    async with database.read_planned() as conn:
        await conn.execute("prepare worded as " + statement)
        bound = "null, null, 10, false, 40, null, 'text', 'english', '{}', 0.7, 0.3, 50, 100"
        text = await conn.fetchval(f"explain (format json, verbose) execute worded ({bound})")
        plan = summary(text)
        assert "CASE WHEN $4" in text, "the plan is one for any parameters"
        assert plan.indexes >= {
            "chunk_lexemes",
            "lexeme_share_pk",
            partition(c.active_space_uid, "_hnsw"),
            partition(c.active_space_uid, "_pkey"),
        }
        assert not plan.scanned_whole
        assert await touched_partitions(conn) <= {partition(c.active_space_uid)}
    await database.close()


async def test_a_kept_plan_for_words_finds_what_a_new_one_finds(
    world: World, conn: Connection
) -> None:
    plan = search.Plan(DIMENSION, world.collection.distance, 60, joined=False)
    words = hybrid.Words("text 17", (), "english", 0.7, 0.3)
    query = asked(world, "", hybrid.FIRST_FILTER_PARAMETER)
    kept = await hybrid.search_kept(conn, plan, query, words)
    assert kept
    assert kept == await hybrid.search(conn, plan, query, words)


async def test_an_exact_search_does_not_use_the_hnsw_index(world: World, conn: Connection) -> None:
    plan = await explained(conn, found(world, exact=True))
    assert not [name for name in plan.indexes if name.endswith("_hnsw")]
    assert partition(world.collection.active_space_uid) in plan.relations
    assert await touched_partitions(conn) == {partition(world.collection.active_space_uid)}


@pytest.mark.parametrize("exact", [True, False])
async def test_a_narrow_filter_on_a_declared_field_goes_by_the_fields_index(
    exact: bool, world: World, conn: Connection
) -> None:
    plan = await explained(conn, found(world, exact=exact, filter="metadata.year = 7"))
    prefix = partition(world.collection.active_space_uid, "_f")
    assert [name for name in plan.indexes if name.startswith(prefix)]
    assert plan.scanned_whole <= {"collection"}


async def test_a_search_under_a_wide_filter_still_goes_by_the_hnsw_index(
    world: World, conn: Connection
) -> None:
    plan = await explained(conn, found(world, exact=False, filter="metadata.year >= 0"))
    assert partition(world.collection.active_space_uid, "_hnsw") in plan.indexes


async def test_a_document_is_read_by_its_id(conn: Connection) -> None:
    plan = await explained(conn, lambda c: documents.get(c, "big", "d7", None))
    assert "document_id_once" in plan.indexes
    assert "document" not in plan.scanned_whole


@pytest.mark.parametrize(
    ("order", "index"),
    [
        ("create_time", "document_by_create_time"),
        ("update_time", "document_by_update_time"),
        ("document_id", "document_id_once"),
    ],
)
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("first", [False, True])
async def test_a_page_of_documents_goes_by_its_keyset(
    order: str, index: str, descending: bool, first: bool, world: World, conn: Connection
) -> None:
    column: object = "d2" if order == "document_id" else datetime.now(UTC)
    after = None if first else (column, uuid7())
    page = Page(10, documents.ORDERS[order], descending, after)
    uid, always = world.collection.collection_uid, Condition("true", [])
    plan = await explained(conn, lambda c: documents.list_page(c, uid, False, False, always, page))
    assert index in plan.indexes
    assert "document" not in plan.scanned_whole
    assert "Sort" not in plan.nodes


@pytest.mark.parametrize(
    ("hashes", "index"), [([], "document_id_once"), ([b"other"], "document_by_content")]
)
async def test_what_is_held_of_an_import_is_found_by_ids_and_by_content(
    hashes: list[bytes], index: str, world: World, conn: Connection
) -> None:
    uid = world.collection.collection_uid
    asked = document_imports.Asked(["d7"], [b"hash"], hashes)
    plan = await explained(conn, lambda c: document_imports.held(c, uid, asked, contents=True))
    assert index in plan.indexes
    assert "document" not in plan.scanned_whole


async def test_an_export_reads_sizes_in_order_of_creation_without_sorting(
    world: World, conn: Connection
) -> None:
    uid, always = world.collection.collection_uid, Condition("true", [])
    after = datetime.now(UTC), uuid7()
    plan = await explained(conn, lambda c: document_exports.sizes(c, uid, False, always, after))
    assert "document_by_create_time" in plan.indexes
    assert "Sort" not in plan.nodes


async def test_a_page_of_chunks_goes_by_the_documents_spans(world: World, conn: Connection) -> None:
    page, always = Page(10, chunks.BY_ORDINAL, False, (3, uuid7())), Condition("true", [])
    plan = await explained(
        conn,
        lambda c: chunks.list_page(c, world.collection, "d7", (False, False), always, page),
    )
    assert "document_id_once" in plan.indexes
    assert not plan.scanned_whole & {"document", "chunk", "chunk_span"}


async def test_a_chunk_is_read_by_its_id(world: World, conn: Connection) -> None:
    plan = await explained(conn, lambda c: chunks.get(c, world.collection, ("d7", "c3"), False))
    assert plan.indexes >= {"document_id_once", "chunk_id_once"}


async def test_a_repeat_is_found_by_the_request_logs_key(conn: Connection) -> None:
    key = requests.RequestKey("tester", "/test", uuid7(), b"")
    plan = await explained(conn, lambda c: requests.find(c, key))
    assert plan.indexes == {"request_log_pk"}


async def test_the_queue_takes_chunks_by_its_own_index(conn: Connection) -> None:
    model = text_queue.Model("m", "", True)
    plan = await explained(conn, lambda c: text_queue.lease(c, model, 64, 60.0))
    assert "chunk_pending" in plan.indexes
    assert not plan.scanned_whole & {"chunk", "document"}


async def test_a_collection_is_resolved_without_reading_the_documents(conn: Connection) -> None:
    plan = await explained(conn, lambda c: collections.space(c, "big"))
    assert not [name for name in plan.relations if name.startswith(("document", "chunk"))]


async def change(conn: Connection, world: World) -> None:
    after = replace(world.document, title="other", update_time=datetime.now(UTC))
    made = mutation(world.collection.collection_uid)
    cut = NewPieces(cut=False)
    assert await document_changes.update(conn, made, world.collection, after, cut, None) is DONE


async def remove(conn: Connection, world: World) -> None:
    made = mutation(world.collection.collection_uid)
    row = replace(world.document, delete_time=datetime.now(UTC))
    assert await document_removals.delete(conn, made, world.collection, row) is DONE


async def remove_and_bring_back(conn: Connection, world: World) -> None:
    await remove(conn, world)
    row = await documents.get(conn, world.collection.collection_id, "d7", None)
    made = mutation(world.collection.collection_uid)
    assert await document_removals.undelete(conn, made, world.collection, row, {}) is DONE


async def purge(conn: Connection, world: World) -> None:
    always = Condition("d.document_id = $2::text", ["d7"])
    doomed = await purges.lock(
        conn, await purges.find(conn, world.collection.collection_uid, always, 10)
    )
    await purges.purge(conn, doomed, [mutation(world.collection.collection_uid)], more=False)


async def upsert(conn: Connection, world: World) -> None:
    await add_chunks(conn, world.collection, world.document, clustered(2, DIMENSION))


async def remove_chunk(conn: Connection, world: World) -> None:
    uid = world.collection.collection_uid
    end = await chunk_changes.delete(conn, mutation(uid), world.collection, "d7", "c3")
    assert end.done


async def read_chunk(conn: Connection, world: World) -> None:
    assert (await chunks.get(conn, world.collection, ("d7", "c3"), True)).embedding


async def list_chunks(conn: Connection, world: World) -> None:
    page = Page(10, chunks.BY_ORDINAL)
    always = Condition("true", [])
    found = await chunks.list_page(conn, world.collection, "d7", (True, True), always, page)
    assert found
    assert all(chunk.embedding for chunk in found)


async def create(conn: Connection, world: World) -> None:
    await make_document(conn, world.collection, "new")


async def deliver(conn: Connection, world: World) -> None:
    embedded = text_queue.Embedded(uuid7(), b"", world.vector, {})
    await text_queue.deliver(conn, [embedded])


@pytest.mark.parametrize(
    "work",
    [
        create,
        change,
        remove,
        remove_and_bring_back,
        purge,
        upsert,
        remove_chunk,
        read_chunk,
        list_chunks,
        deliver,
    ],
)
async def test_a_statement_plans_for_one_space_however_many_there_are(
    work: Any, world: World, conn: Connection
) -> None:
    await work(conn, world)
    assert await touched_partitions(conn) <= {partition(world.collection.active_space_uid)}


@pytest.mark.parametrize("statement", [chunk_intake.HELD, chunk_intake.LOCK_DOCUMENTS])
async def test_a_stream_of_chunks_keeps_plans_that_read_no_table_whole(
    statement: str, world: World
) -> None:
    database = await Database.connect(
        world.dsn, min_size=1, max_size=4, command_timeout_seconds=10, acquire_timeout_seconds=5
    )
    async with database.transaction_planned() as conn:
        await conn.execute("prepare kept as " + statement)
        explain = "explain (format json) execute kept (null, null, null)"
        plan = summary(await conn.fetchval(explain))
    await database.close()
    assert "Index Scan" in plan.nodes
    assert not plan.scanned_whole
