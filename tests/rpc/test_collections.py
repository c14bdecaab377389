"""The collections of KnowledgeService, over the wire."""

import uuid
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct
from refusal import refused

from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import vector_service_pb2 as v
from knowledge.v1.config_service_pb2 import GetServerInfoRequest

Code = grpc.StatusCode


def fresh_id() -> str:
    return f"test-{uuid.uuid4().hex}"


def document(collection: c.Collection, **fields: Any) -> k.CreateDocumentRequest:
    return k.CreateDocumentRequest(parent=collection.name, document=d.Document(**fields))


async def test_a_new_collection_has_the_documented_defaults(knowledge: Any, config: Any) -> None:
    collection_id = fresh_id()
    answer = await knowledge.CreateCollection(
        k.CreateCollectionRequest(collection_id=collection_id)
    )
    made, info = answer.collection, await config.GetServerInfo(GetServerInfoRequest())
    assert made.name == f"collections/{collection_id}"
    assert uuid.UUID(made.uid).version == 7
    assert (made.title, made.description) == ("", "")
    assert (made.dimension, made.distance) == (384, c.DISTANCE_COSINE)
    assert made.embedding_model == info.embedding_model.model_id
    assert made.language == "english"
    assert (made.chunking.max_tokens, made.chunking.overlap_tokens) == (254, 32)
    assert list(made.filter_fields) == []
    assert made.egress == c.EGRESS_LOCAL_ONLY
    assert made.etag
    assert made.create_time == made.update_time
    assert len(answer.receipt.leaf_hash) == 32


async def test_a_collection_keeps_what_it_was_given(make_collection: Any, knowledge: Any) -> None:
    given: dict[str, Any] = {
        "title": "Leitlinien – Größe 🩺",
        "description": "About\nguidelines",
        "dimension": 3,
        "distance": c.DISTANCE_INNER_PRODUCT,
        "embedding_model": "somebody/else",
        "language": "german",
        "chunking": c.ChunkingPolicy(max_tokens=100, overlap_tokens=0),
        "filter_fields": [c.FilterField(path="metadata.year", type=c.FILTER_FIELD_TYPE_NUMBER)],
        "egress": c.EGRESS_PROVIDER_ALLOWED,
    }
    made = await make_collection(**given)
    found = (await knowledge.GetCollection(k.GetCollectionRequest(name=made.name))).collection
    assert found == made
    for field, value in given.items():
        assert getattr(found, field) == value, field


@pytest.mark.parametrize("distance", [c.DISTANCE_COSINE, c.DISTANCE_L2, c.DISTANCE_INNER_PRODUCT])
@pytest.mark.parametrize("dimension", [1, 768, 1900])
async def test_every_distance_goes_with_dimensions_up_to_1900(
    make_collection: Any, distance: int, dimension: int
) -> None:
    made = await make_collection(dimension=dimension, distance=distance)
    assert (made.dimension, made.distance) == (dimension, distance)


async def test_a_collection_of_another_dimension_takes_no_text(
    make_collection: Any, knowledge: Any
) -> None:
    made = await make_collection(dimension=768)
    assert made.embedding_model == ""
    refusal = await refused(knowledge.CreateDocument(document(made, content="a text")))
    assert (refusal.code, refusal.reason) == (Code.FAILED_PRECONDITION, "MODEL_MISMATCH")


async def test_a_collection_without_an_id_gets_one(knowledge: Any) -> None:
    made = (await knowledge.CreateCollection(k.CreateCollectionRequest())).collection
    found = (await knowledge.GetCollection(k.GetCollectionRequest(name=made.name))).collection
    assert found.uid == made.uid


@pytest.mark.parametrize(
    "shape", ["{} with spaces", "{}-Größe-🩺", "{}:+*'\"%_\\", "{}" + "x" * 95]
)
async def test_any_printable_id_will_do(knowledge: Any, shape: str) -> None:
    collection_id = shape.format(uuid.uuid4().hex)
    request = k.CreateCollectionRequest(collection_id=collection_id)
    await knowledge.CreateCollection(request)
    name = f"collections/{collection_id}"
    found = (await knowledge.GetCollection(k.GetCollectionRequest(name=name))).collection
    assert found.name == name


@pytest.mark.parametrize("bad", ["a/b", "x" * 129, "line\nbreak", "nul\0", "\u202e", "\ufeff"])
async def test_an_id_with_other_characters_is_refused(knowledge: Any, bad: str) -> None:
    refusal = await refused(
        knowledge.CreateCollection(k.CreateCollectionRequest(collection_id=bad))
    )
    assert (refusal.code, list(refusal.fields)) == (Code.INVALID_ARGUMENT, ["collection_id"])


async def test_a_taken_id_is_refused(collection: c.Collection, knowledge: Any) -> None:
    request = k.CreateCollectionRequest(collection_id=collection.name.split("/")[1])
    refusal = await refused(knowledge.CreateCollection(request))
    assert (refusal.code, refusal.reason) == (Code.ALREADY_EXISTS, "RESOURCE_ALREADY_EXISTS")


async def test_all_bad_fields_are_named_at_once(knowledge: Any) -> None:
    bad = c.Collection(
        title="t" * 257,
        description="d" * 4097,
        dimension=1901,
        distance=9,  # pyright: ignore[reportArgumentType]
        embedding_model="m" * 129,
        language="klingon",
        chunking=c.ChunkingPolicy(max_tokens=255, overlap_tokens=128),
        filter_fields=[c.FilterField(path="title", type=c.FILTER_FIELD_TYPE_STRING)] * 17,
        egress=7,  # pyright: ignore[reportArgumentType]
    )
    request = k.CreateCollectionRequest(collection=bad, collection_id="a/b", request_id="no uuid")
    refusal = await refused(knowledge.CreateCollection(request))
    assert (refusal.code, refusal.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert set(refusal.fields) >= {
        "collection_id",
        "request_id",
        "collection.title",
        "collection.description",
        "collection.dimension",
        "collection.distance",
        "collection.embedding_model",
        "collection.language",
        "collection.chunking.max_tokens",
        "collection.chunking.overlap_tokens",
        "collection.filter_fields",
        "collection.filter_fields[16].path",
        "collection.egress",
    }


@pytest.mark.parametrize(
    "field",
    [
        c.FilterField(path="metadata.year"),
        c.FilterField(path="metadata", type=c.FILTER_FIELD_TYPE_STRING),
        c.FilterField(path="metadata..x", type=c.FILTER_FIELD_TYPE_STRING),
        c.FilterField(path="labels.x", type=c.FILTER_FIELD_TYPE_STRING),
        c.FilterField(path="metadata." + "x" * 128, type=c.FILTER_FIELD_TYPE_STRING),
        c.FilterField(path="metadata.a\0", type=c.FILTER_FIELD_TYPE_STRING),
    ],
    ids=["no type", "no key", "empty key", "other root", "too long", "NUL"],
)
async def test_a_bad_filter_field_is_refused(knowledge: Any, field: c.FilterField) -> None:
    request = k.CreateCollectionRequest(collection=c.Collection(filter_fields=[field]))
    refusal = await refused(knowledge.CreateCollection(request))
    assert refusal.code is Code.INVALID_ARGUMENT
    assert all(name.startswith("collection.filter_fields[0]") for name in refusal.fields)


async def test_negative_numbers_are_refused(knowledge: Any) -> None:
    bad = c.Collection(dimension=-1, chunking=c.ChunkingPolicy(max_tokens=-1, overlap_tokens=-1))
    refusal = await refused(knowledge.CreateCollection(k.CreateCollectionRequest(collection=bad)))
    assert set(refusal.fields) == {
        "collection.dimension",
        "collection.chunking.max_tokens",
        "collection.chunking.overlap_tokens",
    }


@pytest.mark.parametrize("name", ["", "collections/", "documents/x", "collections/a/b", "x"])
async def test_a_name_of_another_shape_is_refused(knowledge: Any, name: str) -> None:
    refusal = await refused(knowledge.GetCollection(k.GetCollectionRequest(name=name)))
    assert (refusal.code, list(refusal.fields)) == (Code.INVALID_ARGUMENT, ["name"])


async def test_a_missing_collection_is_not_found(knowledge: Any) -> None:
    name = f"collections/{fresh_id()}"
    for call in (
        knowledge.GetCollection(k.GetCollectionRequest(name=name)),
        knowledge.UpdateCollection(k.UpdateCollectionRequest(collection=c.Collection(name=name))),
        knowledge.DeleteCollection(k.DeleteCollectionRequest(name=name)),
        knowledge.ListDocuments(k.ListDocumentsRequest(parent=name)),
    ):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")


async def test_get_counts_the_live_documents(knowledge: Any, collection: c.Collection) -> None:
    for document_id in ("one", "two", "three"):
        request = document(collection, origin=d.ORIGIN_CALLER)
        request.document_id = document_id
        await knowledge.CreateDocument(request)
    await knowledge.DeleteDocument(k.DeleteDocumentRequest(name=f"{collection.name}/documents/two"))
    answer = await knowledge.GetCollection(k.GetCollectionRequest(name=collection.name))
    assert answer.collection.document_count == 2


async def test_lists_are_filtered_and_ordered(knowledge: Any) -> None:
    prefix = fresh_id()
    for letter in "bca":
        await knowledge.CreateCollection(
            k.CreateCollectionRequest(
                collection_id=f"{prefix}-{letter}", collection=c.Collection(title=prefix)
            )
        )

    async def listed(order_by: str) -> list[str]:
        request = k.ListCollectionsRequest(filter=f'title = "{prefix}"', order_by=order_by)
        found = await knowledge.ListCollections(request)
        return [each.name[-1] for each in found.collections]

    assert await listed("") == ["a", "b", "c"]
    assert await listed("collection_id desc") == ["c", "b", "a"]
    assert await listed("create_time") == ["b", "c", "a"]
    assert await listed("update_time desc") == ["a", "c", "b"]


async def test_pages_of_collections_give_each_once(knowledge: Any) -> None:
    title = fresh_id()
    for _ in range(7):
        await knowledge.CreateCollection(
            k.CreateCollectionRequest(collection=c.Collection(title=title))
        )
    uids: list[str] = []
    request = k.ListCollectionsRequest(filter=f'title = "{title}"', page_size=3)
    while True:
        page = await knowledge.ListCollections(request)
        uids += [each.uid for each in page.collections]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert len(uids) == len(set(uids)) == 7


async def test_an_update_changes_what_the_mask_names(knowledge: Any, make_collection: Any) -> None:
    made = await make_collection(title="before", description="stays")
    answer = await knowledge.UpdateCollection(
        k.UpdateCollectionRequest(
            collection=c.Collection(name=made.name, title="after", description="ignored"),
            update_mask=FieldMask(paths=["title"]),
            etag=made.etag,
        )
    )
    changed = answer.collection
    assert (changed.title, changed.description) == ("after", "stays")
    assert changed.etag != made.etag
    assert changed.update_time.ToNanoseconds() > made.update_time.ToNanoseconds()
    assert len(answer.receipt.leaf_hash) == 32
    found = (await knowledge.GetCollection(k.GetCollectionRequest(name=made.name))).collection
    assert found == changed


@pytest.mark.parametrize("paths", [[], ["*"]], ids=["no mask", "star"])
async def test_without_a_mask_an_update_sets_all_changeable_fields(
    knowledge: Any, make_collection: Any, paths: list[str]
) -> None:
    made = await make_collection(
        title="before", description="goes", chunking=c.ChunkingPolicy(max_tokens=100)
    )
    answer = await knowledge.UpdateCollection(
        k.UpdateCollectionRequest(
            collection=c.Collection(name=made.name, title="after"),
            update_mask=FieldMask(paths=paths),
        )
    )
    changed = answer.collection
    assert (changed.title, changed.description) == ("after", "")
    assert changed.chunking.max_tokens == 254


@pytest.mark.parametrize(
    "path", ["dimension", "distance", "embedding_model", "language", "name", "etag", "nonsense"]
)
async def test_fixed_and_unknown_fields_cannot_be_updated(
    knowledge: Any, collection: c.Collection, path: str
) -> None:
    request = k.UpdateCollectionRequest(
        collection=c.Collection(name=collection.name, dimension=3),
        update_mask=FieldMask(paths=["title", path]),
    )
    refusal = await refused(knowledge.UpdateCollection(request))
    assert refusal.code is Code.INVALID_ARGUMENT
    assert list(refusal.fields) == ["update_mask.paths[1]"]


async def test_a_stale_etag_is_refused(knowledge: Any, collection: c.Collection) -> None:
    request = k.UpdateCollectionRequest(
        collection=c.Collection(name=collection.name, title="first"), etag=collection.etag
    )
    await knowledge.UpdateCollection(request)
    for call in (
        knowledge.UpdateCollection(request),
        knowledge.DeleteCollection(
            k.DeleteCollectionRequest(name=collection.name, etag=collection.etag)
        ),
    ):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (Code.ABORTED, "ETAG_MISMATCH")


async def test_a_declared_field_refuses_values_of_another_type(
    knowledge: Any, make_collection: Any
) -> None:
    year = c.FilterField(path="metadata.year", type=c.FILTER_FIELD_TYPE_NUMBER)
    made = await make_collection(filter_fields=[year])
    metadata = Struct()
    metadata.update({"year": "2020"})
    refusal = await refused(
        knowledge.CreateDocument(document(made, content="text", metadata=metadata))
    )
    assert refusal.code is Code.INVALID_ARGUMENT
    assert list(refusal.fields) == ["document.metadata.year"]


async def test_a_new_chunking_policy_holds_for_text_that_comes_after_it(
    knowledge: Any, collection: c.Collection
) -> None:
    text = " ".join(f"Sentence number {i} stands here for the test." for i in range(20))
    before = await knowledge.CreateDocument(document(collection, content=text))
    await knowledge.UpdateCollection(
        k.UpdateCollectionRequest(
            collection=c.Collection(name=collection.name, chunking=c.ChunkingPolicy(max_tokens=32)),
            update_mask=FieldMask(paths=["chunking"]),
        )
    )
    after = await knowledge.CreateDocument(document(collection, content=text))
    assert after.document.chunk_count > before.document.chunk_count


async def test_a_collection_with_documents_is_deleted_only_by_force(
    knowledge: Any, collection: c.Collection
) -> None:
    made = await knowledge.CreateDocument(document(collection, content="still here"))
    request = k.DeleteCollectionRequest(name=collection.name)
    refusal = await refused(knowledge.DeleteCollection(request))
    assert (refusal.code, refusal.reason) == (Code.FAILED_PRECONDITION, "COLLECTION_NOT_EMPTY")

    request.force = True
    answer = await knowledge.DeleteCollection(request)
    assert len(answer.receipt.leaf_hash) == 32
    gone = await refused(knowledge.GetDocument(k.GetDocumentRequest(name=made.document.name)))
    assert gone.code is Code.NOT_FOUND


async def test_deleted_documents_do_not_hold_a_collection(
    knowledge: Any, collection: c.Collection
) -> None:
    made = await knowledge.CreateDocument(document(collection, content="soon gone"))
    await knowledge.DeleteDocument(k.DeleteDocumentRequest(name=made.document.name))
    await knowledge.DeleteCollection(k.DeleteCollectionRequest(name=collection.name))
    gone = await refused(knowledge.GetCollection(k.GetCollectionRequest(name=collection.name)))
    assert gone.code is Code.NOT_FOUND


async def test_the_id_of_a_deleted_collection_is_free_again(
    knowledge: Any, vectors: Any, collection: c.Collection
) -> None:
    await knowledge.CreateDocument(document(collection, content="of the first"))
    await knowledge.DeleteCollection(k.DeleteCollectionRequest(name=collection.name, force=True))
    request = k.CreateCollectionRequest(collection_id=collection.name.split("/")[1])
    again = (await knowledge.CreateCollection(request)).collection
    assert again.name == collection.name
    assert again.uid != collection.uid
    listed = await knowledge.ListDocuments(
        k.ListDocumentsRequest(parent=again.name, show_deleted=True)
    )
    assert list(listed.documents) == []
    found = await vectors.Search(v.SearchRequest(collection=again.name, text="of the first"))
    assert list(found.hits) == []


async def test_an_etag_of_a_former_collection_does_not_fit_its_namesake(
    knowledge: Any, collection: c.Collection
) -> None:
    await knowledge.DeleteCollection(k.DeleteCollectionRequest(name=collection.name))
    request = k.CreateCollectionRequest(collection_id=collection.name.split("/")[1])
    await knowledge.CreateCollection(request)
    refusal = await refused(
        knowledge.DeleteCollection(
            k.DeleteCollectionRequest(name=collection.name, etag=collection.etag)
        )
    )
    assert refusal.code is Code.ABORTED
