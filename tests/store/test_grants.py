"""Nobody reads beyond their grants: by what the statements bind, and in fact."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from knowledged.call import AuditClass, Call, Method, Principal
from knowledged.database import Database
from knowledged.directory import Directory
from knowledged.errors import NotFound
from knowledged.filters.language import parse
from knowledged.store import (
    audit,
    chunks,
    collection_changes,
    collections,
    documents,
    search,
    spaces,
)
from knowledged.store.collections import Collection
from knowledged.store.documents import Document
from knowledged.store.filter_sql import Condition
from knowledged.store.filter_sql import compile as compile_filter
from knowledged.store.paging import Page
from stored import add_chunks, make_collection, make_document, mutation
from test_statements import STATEMENTS, Statement

TENANTS = re.compile(
    r"(?:from|join|into|update|using)\s+knowledge\."
    r"(?:collection|document|document_revision|document_history|collection_alias|chunk|chunk_span|chunk_vector|chunk_vector_parked"
    r"|vector_space|audit_event|audit_payload)\b"
)
GRANTS = re.compile(r"\$\d+::text\[\] is null\s+or \S*collection_(?:id|uid)\s+(?:= any|in)")
UID = re.compile(r"(?:collection|document|chunk|space)_uid\s*(?:=|= any|in)\s*\(?\$\d+::uuid")
# Statements that keep to no grant and to no uid, each with who keeps to it instead.
OTHERWISE = {
    "store.collections.SPACE": "Directory asks it, and checks the grant before it answers",
    "store.chunks.MANY": "UpsertChunks asks it for what it wrote itself",
    "store.aliases.HOLDERS": "whom a name belongs to; the service tells only that it is taken",
    "store.collection_changes.CREATE": "makes the collection; the service checks the grant",
    "store.appended_events.APPEND_ONCE": "writes what other services did, of no collection",
    "store.audit_events.APPEND": "writes what happened, also what was refused",
    "store.purges.DUE": "the server's own purger; nobody reads the answer",
    "store.purges.SCHEDULE": "the server's own purger; nobody reads the answer",
    "store.audit_retention.STATE": "the server's own pruning; nobody reads the answer",
    "store.audit_retention.ANNOUNCED": "the server's own pruning; nobody reads the answer",
    "store.erasures.COUNT": "all collections'; the service refuses the confined",
    "store.erasures.RECORD_ERASURE": "records what the service did",
    "store.erasures.FIND": "all collections'; the service refuses the confined",
    "store.legal_holds.SET": "the service resolves what it covers, and checks the grant",
    "store.legal_holds.RELEASE": "binds the uid of a hold that the service read under the grant",
    "store.recall.INDEXED": "the server measures its own indexes; shows numbers, no rows",
    "store.text_queue.LEASE": "the server's own workers; nobody reads the answer",
    "store.text_queue.DELIVER": "the server's own workers; nobody reads the answer",
    "store.credentials.SET": "the whole server's key; the service refuses the confined",
    "store.credentials.DELETE": "the whole server's key; the service refuses the confined",
    "store.credentials.NOTE_CHECK": "the whole server's key; the service refuses the confined",
    "store.ledger_events.RECORD_EVENT": "writes what no RPC makes; nobody reads the answer",
    "store.document_feed.FORGOTTEN": "whether an index is gone from the log; shows no row",
    "store.ledger.TAKE": "the sequencer; nobody reads the answer",
    **{
        f"store.ledger_checks.{rule}": "the verifier, of the whole log; it tells an id at most"
        for rule in (
            "EVENT_WITHOUT_PLACE",
            "PAYLOAD_WITHOUT_EVENT",
            "RECEIPT_WITHOUT_EVENT",
            "REVISION_WITHOUT_EVENT",
            "WAITING_WITHOUT_EVENT",
        )
    },
}


def keeps_to_grants(statement: Statement) -> bool:
    return bool(GRANTS.search(statement.sql) or UID.search(statement.sql))


@pytest.mark.parametrize(
    "statement",
    [s for s in STATEMENTS if TENANTS.search(s.sql) and s.module is not spaces],
    ids=str,
)
def test_a_statement_on_tenants_rows_binds_grants_or_a_resolved_uid(statement: Statement) -> None:
    assert keeps_to_grants(statement) or str(statement) in OTHERWISE


def test_no_exception_is_without_need() -> None:
    needing = {str(statement) for statement in STATEMENTS if not keeps_to_grants(statement)}
    assert set(OTHERWISE) <= needing


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("joined", [True, False])
def test_every_search_binds_its_space_and_its_collection(exact: bool, joined: bool) -> None:
    head, _ = search.render(384, 1, exact, joined)
    assert "where v.space_uid = $2::uuid" in head
    assert "where collection_uid = $6::uuid and delete_time is null" in head


@dataclass(frozen=True, slots=True)
class Tenants:
    """Collections `a` and `b`, each with a document `d` of one chunk, and the events of both."""

    database: Database
    a: Collection
    b: Collection
    document: Document


@pytest.fixture
async def tenants(database: Database) -> Tenants:
    made: list[tuple[Collection, Document]] = []
    async with database.read() as conn:
        for name in ("a", "b"):
            collection = await make_collection(conn, name)
            document = await make_document(conn, collection, "d")
            await add_chunks(conn, collection, document, np.eye(1, 4, dtype=np.float32))
            made.append((collection, document))
    return Tenants(database, made[0][0], made[1][0], made[1][1])


def confined_to(*collection_ids: str) -> Call:
    method = Method("/knowledge.v1.VectorService/Search", "search", AuditClass.READ)
    principal = Principal("confined", frozenset({"search"}), frozenset(collection_ids))
    return Call(method, "call", "peer", {}, principal=principal)


async def test_the_directory_knows_a_granted_collection_only(tenants: Tenants) -> None:
    directory = Directory(tenants.database)
    found = await directory.resolve(confined_to("a"), "a")
    assert found.collection.collection_uid == tenants.a.collection_uid
    everybody = Principal("all", frozenset({"search"}))
    known = confined_to()
    known.principal = everybody
    await directory.resolve(known, "b")
    for missing in ("b", "none"):
        with pytest.raises(NotFound, match=r"^collection: not found$"):
            await directory.resolve(confined_to("a"), missing)


READS: dict[str, Callable[[Any, Tenants, list[str] | None], Awaitable[object]]] = {
    "collection": lambda conn, t, granted: collections.get(conn, "b", granted),
    "document": lambda conn, t, granted: documents.get(conn, "b", "d", granted),
}


@pytest.mark.parametrize("read", READS)
async def test_what_is_not_granted_is_not_found(read: str, tenants: Tenants) -> None:
    async with tenants.database.read() as conn:
        assert await READS[read](conn, tenants, None)
        assert await READS[read](conn, tenants, ["a", "b"])
        for granted in (["a"], []):
            with pytest.raises(NotFound):
                await READS[read](conn, tenants, granted)


ALWAYS = Condition("true", [])
EVASIONS = ["", "title = '' OR title != ''", "NOT collection_id = 'a'", "collection_id = 'b'"]


@pytest.mark.parametrize("filter", EVASIONS)
async def test_no_filter_lists_a_collection_that_is_not_granted(
    filter: str, tenants: Tenants
) -> None:
    condition = compile_filter(parse(filter, {}), collections.FIELDS, 2)
    page = Page(10, collections.ORDERS["collection_id"])
    async with tenants.database.read() as conn:
        for granted in (["a"], []):
            rows = await collections.list_page(conn, granted, condition, page)
            assert {row.collection_id for row in rows} <= set(granted)
        every = await collections.list_page(conn, None, condition, page)
    assert "b" in {row.collection_id for row in every}


async def test_events_are_shown_of_granted_collections_only(tenants: Tenants) -> None:
    page = Page(100, audit.BY_TIME)
    async with tenants.database.read() as conn:
        every = await audit.list_page(conn, None, ALWAYS, page)
        mine = await audit.list_page(conn, ["a"], ALWAYS, page)
        assert len(every) == 6
        assert {event.collection_uid for event in mine} == {tenants.a.collection_uid}
        assert len(mine) == 3
        (foreign, *_) = [e for e in every if e.collection_uid == tenants.b.collection_uid]
        assert (await audit.get(conn, foreign.event_id, ["b"])).event_id == foreign.event_id
        for granted in (["a"], []):
            with pytest.raises(NotFound):
                await audit.get(conn, foreign.event_id, granted)


async def test_lists_and_searches_keep_to_the_collection_whose_uid_they_bind(
    tenants: Tenants,
) -> None:
    vector = np.eye(1, 4, dtype="<f4").tobytes()
    a = tenants.a
    query = search.Query(a.collection_uid, a.active_space_uid, vector, 10, False, ALWAYS)
    by_time = Page(10, documents.ORDERS["create_time"])
    by_place = Page(10, chunks.BY_ORDINAL)
    async with tenants.database.read() as conn:
        hits = await search.search(conn, search.Plan(4, 1, None, True), query)
        listed = await documents.list_page(conn, a.collection_uid, True, True, ALWAYS, by_time)
        cut = await chunks.list_page(conn, a, "d", (True, True), ALWAYS, by_place)
    assert [hit["document_id"] for hit in hits] == ["d"]
    assert [document.collection_id for document in listed] == ["a"]
    assert len(cut) == 1
    assert hits[0]["chunk_uid"] == cut[0].chunk_uid


async def test_a_space_is_searched_only_with_its_own_live_collection(tenants: Tenants) -> None:
    vector = np.eye(1, 4, dtype="<f4").tobytes()
    plan = search.Plan(4, 1, None, False)
    b = tenants.b
    query = search.Query(b.collection_uid, b.active_space_uid, vector, 10, False, ALWAYS)
    async with tenants.database.read() as conn:
        assert len(await search.search(conn, plan, query)) == 1
    async with tenants.database.transaction() as conn:
        await collection_changes.lock(conn, b.collection_uid)
        change = mutation(b.collection_uid)
        now = change.event.occurred_at
        assert await collection_changes.delete(conn, change, b.collection_uid, now)
        assert await search.search(conn, plan, query) == []
