"""WatchDocuments: what it tells of a collection, from which index on, and to whom."""

import asyncio
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio
from refusal import Refusal, refused
from secured import SecuredServer
from watching import answers, create, now, update

from cluster import DatabaseUrls
from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub
from knowledged.connection import connect
from served import Serve

Code = grpc.StatusCode


async def changes(knowledge: Any, parent: str, start: int, count: int) -> list[k.DocumentChange]:
    """So many changes from an index on, in one stream."""
    found: list[k.DocumentChange] = []
    async with (
        asyncio.timeout(20),
        aclosing(answers(knowledge, parent, start_log_index=start)) as stream,
    ):
        async for answer in stream:
            found += answer.changes
            if len(found) >= count:
                return found
    raise AssertionError("the stream ended")


async def refused_watch(knowledge: Any, **fields: Any) -> Refusal:
    async def run() -> None:
        async for _ in knowledge.WatchDocuments(k.WatchDocumentsRequest(**fields)):
            pass

    return await refused(run())


async def test_changes_come_in_order_with_their_revision_and_event(
    knowledge: Any, make_collection: Any
) -> None:
    mine, other = (await make_collection()).name, (await make_collection()).name
    start = await now(knowledge, mine)
    name = await create(knowledge, mine, "d")
    await create(knowledge, other, "theirs")
    event_id = await update(knowledge, name, "changed")
    await knowledge.DeleteDocument(k.DeleteDocumentRequest(name=name))
    found = await changes(knowledge, mine, start, 3)
    assert [(x.action, x.name, x.revision) for x in found] == [
        ("documents.create", name, 1),
        ("documents.update", name, 2),
        ("documents.delete", name, 3),
    ]
    assert found[1].event_id == event_id
    assert [x.log_index for x in found] == sorted({x.log_index for x in found})
    again = await changes(knowledge, mine, found[0].log_index + 1, 2)
    assert again == found[1:]


async def test_what_was_refused_is_no_change(knowledge: Any, collection: c.Collection) -> None:
    start = await now(knowledge, collection.name)
    name = await create(knowledge, collection.name, "d")
    stale = k.UpdateDocumentRequest(document=d.Document(name=name, title="x"), etag='"9"')
    assert (await refused(knowledge.UpdateDocument(stale))).code is Code.ABORTED
    await update(knowledge, name, "changed")
    found = await changes(knowledge, collection.name, start, 2)
    assert [x.revision for x in found] == [1, 2]


async def test_what_was_deleted_with_its_collection_ends_the_stream(
    knowledge: Any, collection: c.Collection
) -> None:
    async def run() -> None:
        async for _ in knowledge.WatchDocuments(k.WatchDocumentsRequest(parent=collection.name)):
            await knowledge.DeleteCollection(k.DeleteCollectionRequest(name=collection.name))

    async with asyncio.timeout(10):
        assert (await refused(run())).code is Code.NOT_FOUND


async def test_bad_starts_are_refused(knowledge: Any, collection: c.Collection) -> None:
    faults = await refused_watch(
        knowledge, parent=collection.name, start_log_index=-1, origin="x" * 201
    )
    assert set(faults.fields) == {"start_log_index", "origin"}
    ahead = await refused_watch(knowledge, parent=collection.name, start_log_index=2**40)
    assert (ahead.code, set(ahead.fields)) == (Code.INVALID_ARGUMENT, {"start_log_index"})
    renamed = await refused_watch(knowledge, parent=collection.name, origin="another log")
    assert (renamed.code, renamed.reason) == (Code.FAILED_PRECONDITION, "ORIGIN_CHANGED")


async def test_nobody_watches_a_collection_not_granted(secured_server: SecuredServer) -> None:
    knowledge: Any = KnowledgeServiceStub(secured_server.channel)
    request = k.WatchDocumentsRequest(parent=secured_server.foreign.name)
    metadata = secured_server.metadata("confined-reader")

    async def run() -> None:
        async for _ in knowledge.WatchDocuments(request, metadata=metadata):
            pass

    assert (await refused(run())).code is Code.NOT_FOUND


async def test_a_start_whose_events_the_log_keeps_no_more_is_refused(
    only_here: None, serve: Serve, database_urls: DatabaseUrls
) -> None:
    async with (
        serve(database_urls) as running,
        grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        knowledge: Any = KnowledgeServiceStub(channel)
        await knowledge.CreateCollection(k.CreateCollectionRequest(collection_id="c"))
        parent = "collections/c"
        await create(knowledge, parent, "first")
        await create(knowledge, parent, "second")
        first, second = await changes(knowledge, parent, 0, 2)
        conn = await connect(database_urls.superuser_dsn)
        await conn.execute(
            "delete from knowledge.audit_event where event_id <= $1::text::uuid", first.event_id
        )
        await conn.close()
        refusal = await refused_watch(knowledge, parent=parent, start_log_index=first.log_index)
        assert (refusal.code, refusal.reason) == (Code.FAILED_PRECONDITION, "WRONG_STATE")
        assert await changes(knowledge, parent, second.log_index, 1) == [second]
