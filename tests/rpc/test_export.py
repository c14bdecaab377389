"""ExportDocuments: one moment, whole documents, bounded messages; what goes out comes in again."""

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct
from refusal import refused
from test_import import import_all, item, start

from cluster import DatabaseUrls
from knowledge.v1 import audit_service_pb2 as a
from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub
from knowledged.connection import connect
from served import Serve

Code = grpc.StatusCode
LARGE = "A large text. " * 20_000


async def exported(knowledge: Any, parent: str, **fields: Any) -> list[d.Document]:
    stream = knowledge.ExportDocuments(k.ExportDocumentsRequest(parent=parent, **fields))
    return [document async for answer in stream for document in answer.documents]


async def filled(knowledge: Any, parent: str, count: int, **fields: Any) -> None:
    items = [item(n, f"d{n:04d}", **fields) for n in range(1, count + 1)]
    done = await import_all(knowledge, [start(parent), *items])
    assert done.finished.created_count == count


def given(document: d.Document) -> d.Document:
    """What a caller sets, and the hash of the content; the state is the workers' affair."""
    kept = d.Document()
    kept.CopyFrom(document)
    for name in ("name", "uid", "etag", "revision", "state", "create_time", "update_time"):
        kept.ClearField(name)
    return kept


async def test_what_was_exported_comes_in_again_identically(
    knowledge: Any, make_collection: Any
) -> None:
    one, other = await make_collection(), await make_collection()
    metadata = {
        "year": 2024,
        "deep": {"x": [1.5, None, "é", {"y": True}]},
        "": "empty",
        "big": 1e300,
    }
    rich = item(
        1,
        "rich",
        title="Title",
        content="# Heading\n\nText with 😀 and\ttabs.\n",
        mime_type="text/markdown",
        source_uri="https://example.org/a?b=c",
        metadata=ParseDict(metadata, Struct()),
        labels={"env": "prod", "a.b": ""},
        subject_ids=["patient-7", "patient-8"],
    )
    callers = item(2, "callers", content="", origin=d.ORIGIN_CALLER)
    plain = [item(n, f"d{n}") for n in range(3, 150)]
    await import_all(knowledge, [start(one.name), rich, callers, *plain])
    out = await exported(knowledge, one.name)
    assert len(out) == 149
    back = [
        k.ImportDocumentsRequest(
            item=k.ImportItem(
                sequence=n, document_id=document.name.rpartition("/")[2], document=document
            )
        )
        for n, document in enumerate(out, 1)
    ]
    done = await import_all(knowledge, [start(other.name), *back])
    assert done.finished.created_count == len(out)
    again = await exported(knowledge, other.name)
    assert sorted(map(bytes, (x.content_sha256 for x in out))) == sorted(
        map(bytes, (x.content_sha256 for x in again))
    )
    by_id = {document.name.rpartition("/")[2]: given(document) for document in again}
    assert by_id == {document.name.rpartition("/")[2]: given(document) for document in out}


async def test_the_filter_and_show_deleted_choose(knowledge: Any, collection: c.Collection) -> None:
    await filled(knowledge, collection.name, 5)
    await knowledge.DeleteDocument(
        k.DeleteDocumentRequest(name=f"{collection.name}/documents/d0002")
    )
    assert len(await exported(knowledge, collection.name)) == 4
    assert len(await exported(knowledge, collection.name, show_deleted=True)) == 5
    (one,) = await exported(knowledge, collection.name, filter="document_id = d0003")
    assert one.content == "text d0003"
    assert await exported(knowledge, collection.name, filter="document_id = none") == []


async def test_large_documents_come_in_messages_of_bounded_size(
    knowledge: Any, collection: c.Collection
) -> None:
    items = [item(n, f"d{n}", content=f"{n} {LARGE}", origin=d.ORIGIN_CALLER) for n in range(1, 14)]
    await import_all(knowledge, [start(collection.name), *items])
    request = k.ExportDocumentsRequest(parent=collection.name)
    answers = [answer async for answer in knowledge.ExportDocuments(request)]
    assert sum(len(answer.documents) for answer in answers) == 13
    assert len(answers) >= 4
    assert all(answer.ByteSize() < 1.2 * 1024 * 1024 for answer in answers)


async def test_an_export_tells_one_moment_while_others_write(
    knowledge: Any, collection: c.Collection
) -> None:
    """Each large enough for a message of its own, and the reader is slow."""
    large = {"content": LARGE * 3, "origin": d.ORIGIN_CALLER}
    await import_all(
        knowledge, [start(collection.name), *(item(n, f"d{n}", **large) for n in range(1, 13))]
    )
    stream = knowledge.ExportDocuments(k.ExportDocumentsRequest(parent=collection.name))
    seen = list((await stream.read()).documents)
    for n in range(1, 13):
        document = d.Document(name=f"{collection.name}/documents/d{n}", title="changed")
        await knowledge.UpdateDocument(k.UpdateDocumentRequest(document=document))
    await import_all(knowledge, [start(collection.name), item(1, "later")])
    while (answer := await stream.read()) is not grpc.aio.EOF:
        seen += answer.documents
    assert sorted(document.name.rpartition("/")[2] for document in seen) == sorted(
        f"d{n}" for n in range(1, 13)
    )
    assert {(document.title, document.revision) for document in seen} == {("", 1)}


async def test_what_an_export_showed_is_in_the_audit_log(
    knowledge: Any, audit_log: Any, collection: c.Collection
) -> None:
    items = [item(n, f"d{n}", subject_ids=[f"patient-{n}"]) for n in range(1, 4)]
    await import_all(knowledge, [start(collection.name), *items])
    stream = knowledge.ExportDocuments(k.ExportDocumentsRequest(parent=collection.name))
    assert len([answer async for answer in stream]) == 1
    call_id = dict(await stream.trailing_metadata())["x-call-id"]
    request = a.ListAuditEventsRequest(filter=f'call_id = "{call_id}"')
    (event,) = (await audit_log.ListAuditEvents(request)).events
    assert event.result_count == 3
    assert set(event.subject_ids) == {"patient-1", "patient-2", "patient-3"}


async def test_all_faults_are_named_at_once(knowledge: Any) -> None:
    request = k.ExportDocumentsRequest(parent="collections/none", filter="secret = 1")

    async def run(request: Any) -> None:
        async for _ in knowledge.ExportDocuments(request):
            pass

    refusal = await refused(run(request))
    assert (refusal.code, set(refusal.fields)) == (Code.INVALID_ARGUMENT, {"filter"})
    request.filter = ""
    assert (await refused(run(request))).code is Code.NOT_FOUND


async def long_transactions(urls: DatabaseUrls) -> int:
    conn = await connect(urls.superuser_dsn)
    try:
        return await conn.fetchval(
            """
            select count(*)
              from pg_stat_activity
             where datname = current_database() and xact_start < now() - interval '0.1 s'
            """
        )
    finally:
        await conn.close()


@pytest.fixture
def only_two(serve: Serve, database_urls: DatabaseUrls) -> Any:
    return serve(database_urls, max_export_seconds=3, max_concurrent_exports=2)


async def large_collection(channel: grpc.aio.Channel) -> tuple[Any, k.ExportDocumentsRequest]:
    """The service, and a request for 40 messages of a collection: more than gRPC reads ahead."""
    knowledge: Any = KnowledgeServiceStub(channel)
    await knowledge.CreateCollection(k.CreateCollectionRequest(collection_id="large"))
    large = [item(n, f"d{n}", content=LARGE * 3, origin=d.ORIGIN_CALLER) for n in range(1, 41)]
    await import_all(knowledge, [start("collections/large"), *large])
    return knowledge, k.ExportDocumentsRequest(parent="collections/large")


async def test_a_reader_slower_than_the_cap_is_aborted_and_holds_no_snapshot(
    only_here: None, only_two: Any, database_urls: DatabaseUrls
) -> None:
    async with (
        only_two as running,
        grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        knowledge, request = await large_collection(channel)
        slow = knowledge.ExportDocuments(request)
        await slow.read()
        await asyncio.sleep(0.3)
        assert await long_transactions(database_urls) == 1
        await asyncio.sleep(3)
        assert await long_transactions(database_urls) == 0

        async def read_on() -> None:
            while await slow.read() is not grpc.aio.EOF:
                pass

        refusal = await refused(read_on())
        assert (refusal.code, refusal.reason) == (Code.ABORTED, "SNAPSHOT_EXPIRED")


async def test_exports_at_a_time_are_limited_and_one_that_is_cancelled_counts_no_more(
    only_here: None, only_two: Any
) -> None:
    async with (
        only_two as running,
        grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        knowledge, request = await large_collection(channel)
        for _ in range(3):
            slow = [knowledge.ExportDocuments(request) for _ in range(2)]
            for stream in slow:
                await stream.read()
            refusal = await refused(knowledge.ExportDocuments(request).read())
            assert refusal.code is Code.RESOURCE_EXHAUSTED
            for stream in slow:
                stream.cancel()
            await asyncio.sleep(0.2)
