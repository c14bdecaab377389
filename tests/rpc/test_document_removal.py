"""Deleted documents, and how they come back."""

import uuid
from datetime import timedelta
from typing import Any

import grpc
import pytest
from asking import creation, struct, update
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from refusal import refused

from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import vector_service_pb2 as v

Code = grpc.StatusCode


async def test_a_deleted_document_can_be_read_but_not_found(
    knowledge: Any, collection: c.Collection, create: Any, read: Any, found: Any
) -> None:
    made = await create("gone", content="The spleen is enlarged.")
    other = await create("stays", content="The liver is enlarged.")
    assert await found("enlarged spleen") == [made.name, other.name]

    answer = await knowledge.DeleteDocument(k.DeleteDocumentRequest(name=made.name))
    assert answer.document.HasField("delete_time")
    assert len(answer.receipt.leaf_hash) == 32
    after = await read(made)
    assert after.content == "The spleen is enlarged."
    assert after.delete_time == answer.document.delete_time
    assert after.revision == 2
    assert await found("enlarged spleen") == [other.name]


async def test_lists_show_deleted_documents_only_when_asked(
    knowledge: Any, collection: c.Collection, create: Any
) -> None:
    gone, stays = await create("gone", content="x"), await create("stays", content="x")
    await knowledge.DeleteDocument(k.DeleteDocumentRequest(name=gone.name))
    request = k.ListDocumentsRequest(parent=collection.name)
    shown = (await knowledge.ListDocuments(request)).documents
    assert [document.name for document in shown] == [stays.name]
    request.show_deleted = True
    shown = (await knowledge.ListDocuments(request)).documents
    assert [(each.name, each.HasField("delete_time")) for each in shown] == [
        (gone.name, True),
        (stays.name, False),
    ]


async def test_the_id_of_a_deleted_document_stays_taken(
    knowledge: Any, collection: c.Collection, create: Any
) -> None:
    made = await create("gone", content="x")
    await knowledge.DeleteDocument(k.DeleteDocumentRequest(name=made.name))
    refusal = await refused(knowledge.CreateDocument(creation(collection, "gone", content="y")))
    assert (refusal.code, refusal.reason) == (Code.ALREADY_EXISTS, "RESOURCE_ALREADY_EXISTS")


async def test_a_deleted_document_is_neither_updated_nor_deleted_again(
    knowledge: Any, create: Any
) -> None:
    made = await create(content="x")
    deletion = k.DeleteDocumentRequest(name=made.name)
    await knowledge.DeleteDocument(deletion)
    refusal = await refused(knowledge.UpdateDocument(update(made, title="y")))
    assert (refusal.code, refusal.reason) == (Code.FAILED_PRECONDITION, "WRONG_STATE")
    assert (await refused(knowledge.DeleteDocument(deletion))).code is Code.NOT_FOUND


async def test_a_missing_document_may_be_deleted_if_allowed(
    knowledge: Any, collection: c.Collection, create: Any
) -> None:
    made = await create(content="x")
    await knowledge.DeleteDocument(k.DeleteDocumentRequest(name=made.name))
    for name in (made.name, f"{collection.name}/documents/never-was"):
        request = k.DeleteDocumentRequest(name=name, allow_missing=True)
        answer = await knowledge.DeleteDocument(request)
        assert answer == k.DeleteDocumentResponse()


async def test_an_undeleted_document_is_found_again_at_once(
    knowledge: Any, create: Any, read: Any, found: Any, chunks: Any
) -> None:
    made = await create(title="t", content="The spleen is enlarged.", labels={"a": "b"})
    before = await chunks(made)
    gone = (await knowledge.DeleteDocument(k.DeleteDocumentRequest(name=made.name))).document
    assert await found("enlarged spleen") == []
    answer = await knowledge.UndeleteDocument(k.UndeleteDocumentRequest(name=made.name))
    assert await found("enlarged spleen") == [made.name]
    now = await read(made)
    assert (now.revision, now.title, now.content) == (3, "t", "The spleen is enlarged.")
    assert (now.etag, now.uid) == (answer.document.etag, made.uid)
    assert not now.HasField("delete_time")
    assert not now.HasField("purge_time")
    assert gone.HasField("purge_time")
    assert len(answer.receipt.leaf_hash) == 32
    assert await chunks(made) == before


async def test_after_an_update_only_current_text_comes_back(
    knowledge: Any, create: Any, found: Any, vectors: Any, collection: c.Collection
) -> None:
    made = await create(content="Asthma narrows the airways.")
    await knowledge.UpdateDocument(update(made, content="A broken arm."))
    await knowledge.DeleteDocument(k.DeleteDocumentRequest(name=made.name))
    await knowledge.UndeleteDocument(k.UndeleteDocumentRequest(name=made.name))
    answer = await vectors.Search(v.SearchRequest(collection=collection.name, text="asthma"))
    assert [hit.chunk.content for hit in answer.hits] == ["A broken arm."]


async def test_a_document_that_is_not_deleted_cannot_be_undeleted(
    knowledge: Any, create: Any
) -> None:
    made = await create(content="x")
    refusal = await refused(knowledge.UndeleteDocument(k.UndeleteDocumentRequest(name=made.name)))
    assert (refusal.code, refusal.reason) == (Code.ALREADY_EXISTS, "RESOURCE_ALREADY_EXISTS")


async def test_an_undeletion_takes_etag_validate_only_and_request_id(
    knowledge: Any, create: Any, read: Any
) -> None:
    made = await create(content="x")
    await knowledge.DeleteDocument(k.DeleteDocumentRequest(name=made.name))
    request = k.UndeleteDocumentRequest(name=made.name, etag=made.etag)
    assert (await refused(knowledge.UndeleteDocument(request))).reason == "ETAG_MISMATCH"
    request.etag, request.validate_only = "", True
    dry = await knowledge.UndeleteDocument(request)
    assert (dry.document.HasField("delete_time"), dry.HasField("receipt")) == (False, False)
    assert (await read(made)).HasField("delete_time")
    request.validate_only, request.request_id = False, str(uuid.uuid4())
    first = await knowledge.UndeleteDocument(request)
    assert await knowledge.UndeleteDocument(request) == first
    request.request_id = "x"
    assert list((await refused(knowledge.UndeleteDocument(request))).fields) == ["request_id"]


async def test_filters_declared_since_the_deletion_find_what_comes_back(
    knowledge: Any, create: Any, vectors: Any, collection: c.Collection
) -> None:
    made = await create(content="A cough.", metadata=struct(year=2024))
    await knowledge.DeleteDocument(k.DeleteDocumentRequest(name=made.name))
    year = c.FilterField(path="metadata.year", type=c.FILTER_FIELD_TYPE_NUMBER)
    await knowledge.UpdateCollection(
        k.UpdateCollectionRequest(
            collection=c.Collection(name=collection.name, filter_fields=[year]),
            update_mask=FieldMask(paths=["filter_fields"]),
        )
    )
    await knowledge.UndeleteDocument(k.UndeleteDocumentRequest(name=made.name))
    request = v.SearchRequest(
        collection=collection.name, text="cough", filter="metadata.year = 2024"
    )
    hits = (await vectors.Search(request)).hits
    assert [hit.document.name for hit in hits] == [made.name]


@pytest.mark.parametrize(("seconds", "days"), [(None, 30), (0, 0), (7 * 86_400, 7)])
async def test_a_document_is_purged_when_its_collections_retention_is_over(
    knowledge: Any, make_collection: Any, seconds: int | None, days: int
) -> None:
    fields = {} if seconds is None else {"retention": Duration(seconds=seconds)}
    kept = await make_collection(dimension=3, **fields)
    assert kept.retention.seconds == days * 86_400
    caller = creation(kept, origin=d.ORIGIN_CALLER)
    made = (await knowledge.CreateDocument(caller)).document
    assert not made.HasField("purge_time")
    gone = (await knowledge.DeleteDocument(k.DeleteDocumentRequest(name=made.name))).document
    after = gone.purge_time.ToDatetime() - gone.delete_time.ToDatetime()
    assert after == timedelta(days=days)


@pytest.mark.parametrize("seconds", [-1, 36_525 * 86_400 + 1])
async def test_a_retention_out_of_range_is_refused(knowledge: Any, seconds: int) -> None:
    bad = c.Collection(retention=Duration(seconds=seconds))
    refusal = await refused(knowledge.CreateCollection(k.CreateCollectionRequest(collection=bad)))
    assert list(refusal.fields) == ["collection.retention"]
