"""Aliases: other names of a collection, which move in one step."""

import asyncio
import uuid
from typing import Any

import grpc
import pytest
from asking import creation, update
from google.protobuf.field_mask_pb2 import FieldMask
from refusal import refused
from secured import SecuredServer

from knowledge.v1 import audit_service_pb2 as a
from knowledge.v1 import chunk_pb2 as ch
from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import vector_service_pb2 as v
from knowledge.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub

Code = grpc.StatusCode


def new_alias() -> str:
    return f"alias-{uuid.uuid4().hex}"


def named(collection: c.Collection, *aliases: str, **fields: Any) -> k.UpdateCollectionRequest:
    return k.UpdateCollectionRequest(
        collection=c.Collection(name=collection.name, aliases=aliases),
        update_mask=FieldMask(paths=["aliases"]),
        **fields,
    )


async def read(knowledge: Any, name: str) -> c.Collection:
    request = k.GetCollectionRequest(name=f"collections/{name.removeprefix('collections/')}")
    return (await knowledge.GetCollection(request)).collection


async def test_an_alias_serves_wherever_a_collection_is_named(
    knowledge: Any, vectors: Any, collection: c.Collection
) -> None:
    alias = new_alias()
    answer = await knowledge.UpdateCollection(named(collection, alias))
    assert list(answer.collection.aliases) == [alias]
    by_alias = c.Collection(name=f"collections/{alias}")
    assert (await read(knowledge, alias)).name == collection.name

    made = (await knowledge.CreateDocument(creation(by_alias, "one", content="A cough."))).document
    name, other = f"{collection.name}/documents/one", f"{by_alias.name}/documents/one"
    assert made.name == name
    got = await knowledge.GetDocument(k.GetDocumentRequest(name=other, revision=1))
    assert (got.document.name, got.document.content) == (name, "A cough.")
    got = await knowledge.GetDocument(k.GetDocumentRequest(name=other))
    assert got.document.name == name
    listed = await knowledge.ListDocuments(k.ListDocumentsRequest(parent=by_alias.name))
    assert [document.name for document in listed.documents] == [name]
    changed = update(d.Document(name=other), title="changed")
    assert (await knowledge.UpdateDocument(changed)).document.name == name
    revisions = await knowledge.ListDocumentRevisions(k.ListDocumentRevisionsRequest(parent=other))
    assert [r.document.name for r in revisions.revisions] == [name, name]
    rolled = await knowledge.RollbackDocument(k.RollbackDocumentRequest(name=other, revision=1))
    assert rolled.document.name == name
    found = await vectors.Search(v.SearchRequest(collection=by_alias.name, text="cough"))
    assert [hit.document.name for hit in found.hits] == [name]


async def test_documents_are_removed_and_brought_back_by_an_alias(
    knowledge: Any, make_collection: Any
) -> None:
    alias = new_alias()
    made = await make_collection(aliases=[alias])
    by_alias = c.Collection(name=f"collections/{alias}")
    name, other = f"{made.name}/documents/one", f"{by_alias.name}/documents/one"
    items = [k.CreateDocumentRequest(document_id="one", document=d.Document(content="x"))]
    creations = k.BatchCreateDocumentsRequest(parent=by_alias.name, requests=items)
    (created,) = (await knowledge.BatchCreateDocuments(creations)).responses
    assert created.document.name == name
    batch = k.BatchGetDocumentsRequest(parent=by_alias.name, names=[other])
    assert [x.name for x in (await knowledge.BatchGetDocuments(batch)).documents] == [name]
    gone = await knowledge.DeleteDocument(k.DeleteDocumentRequest(name=other))
    assert gone.document.name == name
    await knowledge.UndeleteDocument(k.UndeleteDocumentRequest(name=other))
    purge = k.PurgeDocumentsRequest(parent=by_alias.name, filter="create_time:*")
    assert list((await knowledge.PurgeDocuments(purge)).purge_sample) == [name]


async def test_chunks_are_written_and_read_by_an_alias(
    knowledge: Any, vectors: Any, make_collection: Any, audit_log: Any
) -> None:
    alias = new_alias()
    small = await make_collection(dimension=3, aliases=[alias])
    document = (
        await knowledge.CreateDocument(creation(small, "one", origin=d.ORIGIN_CALLER))
    ).document
    other = f"collections/{alias}/documents/one"
    chunk = ch.Chunk(chunk_id="x", embedding={"floats": {"values": [1, 0, 0]}})
    made = await vectors.UpsertChunks(v.UpsertChunksRequest(parent=other, chunks=[chunk]))
    name = f"{document.name}/chunks/x"
    assert [each.name for each in made.chunks] == [name]
    assert (await vectors.GetChunk(v.GetChunkRequest(name=f"{other}/chunks/x"))).chunk.name == name
    listed = await vectors.ListChunks(v.ListChunksRequest(parent=other))
    assert [each.name for each in listed.chunks] == [name]
    await vectors.DeleteChunk(v.DeleteChunkRequest(name=f"{other}/chunks/x"))
    events = a.ListAuditEventsRequest(filter=f'resources:"{name}"')
    actions = [event.action for event in (await audit_log.ListAuditEvents(events)).events]
    assert sorted(actions) == ["chunks.delete", "chunks.upsert"]


async def test_an_alias_moves_only_if_asked(
    knowledge: Any, make_collection: Any, audit_log: Any
) -> None:
    alias = new_alias()
    old, new = await make_collection(aliases=[alias]), await make_collection()
    refusal = await refused(knowledge.UpdateCollection(named(new, alias)))
    assert (refusal.code, refusal.reason) == (Code.ALREADY_EXISTS, "RESOURCE_ALREADY_EXISTS")
    assert list(refusal.fields) == ["collection.aliases[0]"]
    assert (await read(knowledge, alias)).name == old.name

    moved = await knowledge.UpdateCollection(named(new, alias, take_aliases=True))
    assert (await read(knowledge, alias)).name == new.name
    robbed = await read(knowledge, old.name)
    assert (list(robbed.aliases), robbed.etag != old.etag) == ([], True)
    request = a.GetAuditEventRequest(name=f"auditEvents/{moved.receipt.event_id}")
    event = (await audit_log.GetAuditEvent(request)).event
    assert list(event.resources) == [new.name, old.name]


async def test_while_an_alias_moves_every_call_finds_one_or_the_other(
    knowledge: Any, make_collection: Any
) -> None:
    alias = new_alias()
    both = [await make_collection(dimension=3, aliases=[alias]), await make_collection(dimension=3)]
    names = {each.name for each in both}
    done = asyncio.Event()

    async def asking() -> set[str]:
        seen: set[str] = set()
        while not done.is_set():
            made = await knowledge.CreateDocument(
                creation(c.Collection(name=f"collections/{alias}"), origin=d.ORIGIN_CALLER)
            )
            seen.add(made.document.name.partition("/documents/")[0])
        return seen

    async with asyncio.TaskGroup() as tasks:
        askers = [tasks.create_task(asking()) for _ in range(4)]
        for turn in range(12):
            to = named(both[turn % 2], alias, take_aliases=True)
            moved = await knowledge.UpdateCollection(to)
            assert (await read(knowledge, alias)).name == moved.collection.name
        done.set()
    assert set().union(*(asker.result() for asker in askers)) == names


async def test_an_alias_can_be_given_up(knowledge: Any, make_collection: Any) -> None:
    first, second = new_alias(), new_alias()
    made = await make_collection(aliases=[second, first])
    assert list(made.aliases) == sorted([first, second])
    await knowledge.UpdateCollection(named(made, second))
    assert list((await read(knowledge, made.name)).aliases) == [second]
    missing = k.GetCollectionRequest(name=f"collections/{first}")
    assert (await refused(knowledge.GetCollection(missing))).code is Code.NOT_FOUND
    documents = k.ListDocumentsRequest(parent=f"collections/{first}")
    assert (await refused(knowledge.ListDocuments(documents))).code is Code.NOT_FOUND


async def test_without_a_mask_aliases_and_retention_stay_unless_they_are_set(
    knowledge: Any, make_collection: Any
) -> None:
    alias = new_alias()
    made = await make_collection(aliases=[alias], retention={"seconds": 5})
    await knowledge.UpdateCollection(
        k.UpdateCollectionRequest(collection=c.Collection(name=made.name, title="changed"))
    )
    now = await read(knowledge, alias)
    assert (now.title, list(now.aliases), now.retention.seconds) == ("changed", [alias], 5)


async def test_an_id_and_an_alias_are_never_the_same(knowledge: Any, make_collection: Any) -> None:
    alias = new_alias()
    made, other = await make_collection(aliases=[alias]), await make_collection()
    taken = k.CreateCollectionRequest(collection_id=alias)
    refusal = await refused(knowledge.CreateCollection(taken))
    assert (refusal.code, list(refusal.fields)) == (Code.ALREADY_EXISTS, ["collection_id"])
    own = other.name.removeprefix("collections/")
    refusal = await refused(knowledge.UpdateCollection(named(made, own, take_aliases=True)))
    assert (refusal.code, list(refusal.fields)) == (
        Code.ALREADY_EXISTS,
        ["collection.aliases[0]"],
    )


async def test_racing_makers_of_one_name_leave_one(knowledge: Any, make_collection: Any) -> None:
    made = [await make_collection(dimension=3) for _ in range(4)]
    for _ in range(5):
        name = new_alias()
        calls = [knowledge.UpdateCollection(named(each, name)) for each in made]
        calls.append(knowledge.CreateCollection(k.CreateCollectionRequest(collection_id=name)))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        failed = [o.code() for o in outcomes if isinstance(o, grpc.aio.AioRpcError)]
        assert failed == [Code.ALREADY_EXISTS] * 4


@pytest.mark.parametrize(
    ("aliases", "fields"),
    [
        (["a/b"], {"collection.aliases[0]"}),
        (["x", "x"], {"collection.aliases"}),
        ([f"a{i}" for i in range(17)], {"collection.aliases"}),
    ],
)
async def test_bad_aliases_are_refused(
    knowledge: Any, collection: c.Collection, aliases: list[str], fields: set[str]
) -> None:
    refusal = await refused(knowledge.UpdateCollection(named(collection, *aliases)))
    assert (refusal.code, set(refusal.fields)) == (Code.INVALID_ARGUMENT, fields)


async def test_the_aliases_of_a_deleted_collection_are_free(
    knowledge: Any, make_collection: Any
) -> None:
    alias = new_alias()
    made, other = await make_collection(aliases=[alias]), await make_collection()
    await knowledge.DeleteCollection(k.DeleteCollectionRequest(name=made.name))
    await knowledge.UpdateCollection(named(other, alias))
    assert (await read(knowledge, alias)).name == other.name


async def test_a_grant_is_by_id_whatever_the_alias(secured_server: SecuredServer) -> None:
    knowledge: Any = KnowledgeServiceStub(secured_server.channel)
    admin, confined = (secured_server.metadata(s) for s in ("admin", "confined-admin"))
    alias = new_alias()
    made = await knowledge.CreateCollection(
        k.CreateCollectionRequest(collection=c.Collection(aliases=[alias])), metadata=admin
    )
    name = f"collections/{alias}"
    for request in (
        k.GetCollectionRequest(name=name),
        k.ListDocumentsRequest(parent=name),
        k.GetDocumentRequest(name=f"{name}/documents/d"),
    ):
        method = getattr(knowledge, type(request).__name__.removesuffix("Request"))
        assert (await refused(method(request, metadata=confined))).code is Code.NOT_FOUND
    own = c.Collection(name=secured_server.own.name)
    steal = named(own, alias, take_aliases=True)
    refusal = await refused(knowledge.UpdateCollection(steal, metadata=confined))
    assert refusal.code is Code.ALREADY_EXISTS
    delete = k.DeleteCollectionRequest(name=made.collection.name)
    await knowledge.DeleteCollection(delete, metadata=admin)


async def test_a_collection_tells_what_it_takes(
    knowledge: Any, collection: c.Collection, create: Any
) -> None:
    made = [await create(content=f"text {i}") for i in range(3)]
    await knowledge.DeleteDocument(k.DeleteDocumentRequest(name=made[0].name))
    request = k.GetCollectionRequest(name=collection.name)
    async with asyncio.timeout(20):
        while True:
            answer = await knowledge.GetCollection(request)
            assert answer.collection.document_count == 2
            assert answer.sizes.deleted_document_count == 1
            assert answer.sizes.vector_bytes > 3 * 384 * 4
            if answer.sizes.chunk_count == 2:
                return
            await asyncio.sleep(0.2)
