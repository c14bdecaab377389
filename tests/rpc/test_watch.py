"""WatchDocuments: every change once, in order, over reconnects."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio
import pytest
from refusal import Refusal, refused
from secured import SecuredServer

from cluster import DatabaseUrls
from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub
from knowledged.connection import connect
from served import Serve

Code = grpc.StatusCode
CALLER = d.ORIGIN_CALLER


async def answers(knowledge: Any, parent: str, **fields: Any) -> AsyncIterator[Any]:
    call = knowledge.WatchDocuments(k.WatchDocumentsRequest(parent=parent, **fields))
    try:
        async for answer in call:
            yield answer
    finally:
        call.cancel()


async def now(knowledge: Any, parent: str) -> int:
    """Where the log is, as the first answer tells."""
    async with aclosing(answers(knowledge, parent)) as stream:
        return (await anext(stream)).next_log_index


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


async def create(knowledge: Any, parent: str, document_id: str) -> str:
    request = k.CreateDocumentRequest(
        parent=parent, document_id=document_id, document=d.Document(origin=CALLER)
    )
    return (await knowledge.CreateDocument(request)).document.name


async def update(knowledge: Any, name: str, title: str) -> str:
    """The event of the change."""
    request = k.UpdateDocumentRequest(document=d.Document(name=name, title=title))
    return (await knowledge.UpdateDocument(request)).receipt.event_id


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


async def test_a_change_is_told_within_two_seconds(
    knowledge: Any, collection: c.Collection
) -> None:
    async with asyncio.timeout(10), aclosing(answers(knowledge, collection.name)) as stream:
        await anext(stream)
        await create(knowledge, collection.name, "d")
        began = asyncio.get_running_loop().time()
        answer = await anext(stream)
        took = asyncio.get_running_loop().time() - began
    assert [x.action for x in answer.changes] == ["documents.create"]
    assert answer.next_log_index > answer.changes[0].log_index
    # Two seconds on a quiet machine; the rest is for a busy one.
    assert took < 6


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


class Watcher:
    """Follows a collection and reconnects, as many times as told, at random moments."""

    def __init__(self, knowledge: Any, parent: str, start: int, reconnects: int) -> None:
        self.changes: list[k.DocumentChange] = []
        self._knowledge = knowledge
        self._parent = parent
        self._at = start
        self._reconnects = reconnects

    async def run(self, total: int) -> None:
        moments = sorted(random.Random(5).sample(range(1, total), self._reconnects))
        for until in [*moments, total]:
            async with aclosing(
                answers(self._knowledge, self._parent, start_log_index=self._at)
            ) as stream:
                async for answer in stream:
                    self.changes += answer.changes
                    self._at = answer.next_log_index
                    if len(self.changes) >= until:
                        break


async def follow(knowledge: Any, parent: str, mutations: int, seconds: float) -> None:
    """So many changes by 16 writers of 40 documents, followed with three reconnects."""
    start = await now(knowledge, parent)
    watcher = Watcher(knowledge, parent, start, reconnects=3)
    names = [await create(knowledge, parent, f"d{n}") for n in range(40)]
    made: list[str] = []
    left = iter(range(mutations - len(names)))

    async def write(seed: int) -> None:
        dice = random.Random(seed)
        for number in left:
            made.append(await update(knowledge, dice.choice(names), f"title {number}"))

    async with asyncio.timeout(seconds), asyncio.TaskGroup() as tasks:
        tasks.create_task(watcher.run(mutations))
        for seed in range(16):
            tasks.create_task(write(seed))
    told = [change.event_id for change in watcher.changes]
    assert len(told) == len(set(told)) == mutations
    assert set(made) <= set(told)
    indices = [change.log_index for change in watcher.changes]
    assert indices == sorted(set(indices))
    for name in names:
        revisions = [change.revision for change in watcher.changes if change.name == name]
        assert revisions == list(range(1, len(revisions) + 1))


async def test_a_watch_with_reconnects_tells_every_concurrent_change_once(
    knowledge: Any, collection: c.Collection
) -> None:
    await follow(knowledge, collection.name, 400, seconds=60)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_watch_over_five_thousand_concurrent_changes(
    knowledge: Any, collection: c.Collection
) -> None:
    await follow(knowledge, collection.name, 5_000, seconds=600)
