"""CreateDocument and GetDocument, over the wire."""

import hashlib
import uuid
from typing import Any

import grpc
import pytest
from asking import MARKER, creation, struct, update
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from refusal import refused

from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k

Code = grpc.StatusCode
CREATE = "/knowledge.v1.KnowledgeService/CreateDocument"


async def test_a_document_comes_back_as_it_was_given(
    knowledge: Any, collection: c.Collection, read: Any
) -> None:
    given: dict[str, Any] = {
        "title": "Hypertonie – Größe 🩺",
        "content": "Line one\r\n\tand two.\n\nÄnd three \u2028 𝔘nicode.",
        "mime_type": "text/markdown",
        "source_uri": "https://example.org/a?b=c#d",
        "metadata": struct(year=2020, place={"city": "Wien"}),
        "labels": {"env": "prod", "größe": ""},
        "subject_ids": ["patient-1", "patient-2"],
    }
    answer = await knowledge.CreateDocument(creation(collection, "my-id", **given))
    found = await read(answer.document)
    assert found.name == f"{collection.name}/documents/my-id"
    assert uuid.UUID(found.uid).version == 7
    for field, value in given.items():
        assert getattr(found, field) == value, field
    assert found.origin == d.ORIGIN_SERVER
    assert found.state == d.DOCUMENT_STATE_ACTIVE
    assert found.content_sha256 == hashlib.sha256(given["content"].encode()).digest()
    assert found.revision == 1
    assert found.chunk_count == 1
    assert not found.HasField("delete_time")
    answer.document.content = given["content"]
    assert answer.document == found
    assert uuid.UUID(answer.receipt.event_id).version == 7
    assert len(answer.receipt.leaf_hash) == 32


async def test_a_document_without_an_id_gets_one(create: Any, read: Any) -> None:
    first, second = await create(content="a text"), await create(content="a text")
    assert first.name != second.name
    assert (await read(first)).uid == first.uid


async def test_the_basic_view_leaves_the_content_out(knowledge: Any, create: Any) -> None:
    made = await create(content="not in the view")
    request = k.GetDocumentRequest(name=made.name, view=d.VIEW_BASIC)
    assert (await knowledge.GetDocument(request)).document == made
    assert made.content == ""


async def test_output_only_fields_are_ignored(create: Any) -> None:
    made = await create(
        content="a text", uid="nonsense", revision=77, etag="x", chunk_count=9, last_error="y"
    )
    assert (made.revision, made.chunk_count, made.last_error) == (1, 1, "")
    assert made.uid != "nonsense"


@pytest.mark.parametrize(
    "value",
    [
        1,
        0,
        -7,
        1.5,
        1e300,
        5e-324,
        2**53,
        -(2**53),
        float(2**53 + 2),
        "9007199254740993",
        "",
        "ünïcödé 🩺",
        True,
        False,
        None,
        [],
        {},
        [1, 1.5, "x", None, [True], {"y": {}}],
        {"a": {"b": {"c": [1, 2, {"d": 0.1}]}}},
    ],
    ids=repr,
)
async def test_metadata_comes_back_equal(create: Any, read: Any, value: Any) -> None:
    made = await create(origin=d.ORIGIN_CALLER, metadata=struct(**{"the key": value}))
    assert MessageToDict((await read(made)).metadata) == {"the key": value}


async def test_odd_keys_of_metadata_come_back(create: Any, read: Any) -> None:
    keys = ["", "a.b", 'quo"te', "\\", "$x", "schlüssel", "'; drop table document; --"]
    made = await create(origin=d.ORIGIN_CALLER, metadata=struct(**dict.fromkeys(keys, 1)))
    assert MessageToDict((await read(made)).metadata) == dict.fromkeys(keys, 1)


async def test_a_taken_document_id_is_refused(
    knowledge: Any, collection: c.Collection, create: Any, read: Any
) -> None:
    made = await create("one", content="the first")
    refusal = await refused(knowledge.CreateDocument(creation(collection, "one", content="x")))
    assert (refusal.code, refusal.reason) == (Code.ALREADY_EXISTS, "RESOURCE_ALREADY_EXISTS")
    assert (await read(made)).content == "the first"


async def test_a_missing_collection_takes_no_documents(knowledge: Any) -> None:
    missing = c.Collection(name="collections/is-not-there")
    refusal = await refused(knowledge.CreateDocument(creation(missing, content="x")))
    assert (refusal.code, refusal.reason) == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")


@pytest.mark.parametrize(
    "request_for",
    [
        lambda name: k.GetDocumentRequest(name=name),
        lambda name: k.UpdateDocumentRequest(document=d.Document(name=name, title="x")),
        lambda name: k.DeleteDocumentRequest(name=name),
    ],
    ids=["Get", "Update", "Delete"],
)
async def test_a_missing_document_is_not_found(
    knowledge: Any, collection: c.Collection, request_for: Any
) -> None:
    request = request_for(f"{collection.name}/documents/none")
    method = getattr(knowledge, type(request).__name__.removesuffix("Request"))
    refusal = await refused(method(request))
    assert (refusal.code, refusal.reason) == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")


async def test_all_bad_fields_of_a_document_are_named_at_once(
    knowledge: Any, collection: c.Collection
) -> None:
    bad = creation(
        collection,
        "a/b",
        title=MARKER * 60,
        content=f"{MARKER}\0",
        mime_type=f"text/{MARKER}",
        source_uri=MARKER * 300,
        metadata=struct(key=f"{MARKER}\0"),
        labels={MARKER * 10: MARKER * 50},
        subject_ids=["", MARKER * 20],
        origin=9,
    )
    bad.request_id = MARKER
    refusal = await refused(knowledge.CreateDocument(bad))
    assert (refusal.code, refusal.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert set(refusal.fields) == {
        "document_id",
        "request_id",
        "document.title",
        "document.content",
        "document.mime_type",
        "document.source_uri",
        "document.metadata",
        "document.labels key",
        "document.labels value",
        "document.subject_ids[0]",
        "document.subject_ids[1]",
        "document.origin",
    }
    assert MARKER not in refusal.raw
    listed = await knowledge.ListDocuments(k.ListDocumentsRequest(parent=collection.name))
    assert list(listed.documents) == []


@pytest.mark.parametrize("content", ["", " \n\t ", "\u00a0"], ids=["empty", "blank", "no-break"])
async def test_blank_text_is_refused(
    knowledge: Any, collection: c.Collection, content: str
) -> None:
    refusal = await refused(knowledge.CreateDocument(creation(collection, content=content)))
    assert (refusal.code, list(refusal.fields)) == (Code.INVALID_ARGUMENT, ["document.content"])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", f"{MARKER}\0"),
        ("content", f"{MARKER} \0 text"),
        ("source_uri", f"\0{MARKER}"),
        ("labels", {"a\0": "b"}),
        ("labels", {"a": f"{MARKER}\0"}),
        ("subject_ids", [f"{MARKER}\0"]),
        ("metadata", struct(**{f"{MARKER}\0": 1})),
        ("metadata", struct(a=[{"b": f"{MARKER}\0"}])),
    ],
)
async def test_nul_is_refused_everywhere(
    knowledge: Any, collection: c.Collection, field: str, value: Any
) -> None:
    fields = {"content": "a text"} | {field: value}
    refusal = await refused(knowledge.CreateDocument(creation(collection, **fields)))
    assert refusal.code is Code.INVALID_ARGUMENT
    assert [name.partition("document.")[2][: len(field)] for name in refusal.fields] == [field]
    assert MARKER not in refusal.raw


@pytest.mark.parametrize("field", ["title", "content", "source_uri"])
async def test_a_lone_surrogate_is_refused(
    channel: grpc.aio.Channel, collection: c.Collection, field: str
) -> None:
    fields = {"content": "a text"} | {field: "place for XXX"}
    raw = creation(collection, **fields).SerializeToString()
    call = channel.unary_unary(CREATE)
    refusal = await refused(call(raw.replace(b"XXX", "\ud800".encode("utf-8", "surrogatepass"))))
    assert (refusal.code, refusal.reason) == (Code.INVALID_ARGUMENT, "MALFORMED_MESSAGE")


async def test_astral_characters_count_as_one(knowledge: Any, collection: c.Collection) -> None:
    await knowledge.CreateDocument(creation(collection, content="x", title="🩺" * 512))
    refusal = await refused(
        knowledge.CreateDocument(creation(collection, content="x", title="🩺" * 513))
    )
    assert list(refusal.fields) == ["document.title"]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
async def test_metadata_takes_finite_numbers_only(
    knowledge: Any, collection: c.Collection, number: float
) -> None:
    request = creation(collection, content="x", metadata=struct(a=[{"b": number}]))
    refusal = await refused(knowledge.CreateDocument(request))
    assert list(refusal.fields) == ["document.metadata"]


def nested(levels: int) -> Struct:
    value: dict[str, Any] = {"leaf": 1}
    for _ in range(levels - 1):
        value = {"a": value}
    return struct(**value)


async def test_metadata_is_at_most_16_levels_deep(
    knowledge: Any, collection: c.Collection, create: Any, read: Any
) -> None:
    made = await create(content="x", metadata=nested(16))
    assert (await read(made)).metadata == nested(16)
    refusal = await refused(
        knowledge.CreateDocument(creation(collection, content="x", metadata=nested(17)))
    )
    assert (refusal.code, list(refusal.fields)) == (Code.INVALID_ARGUMENT, ["document.metadata"])


async def test_metadata_is_at_most_64_kib(
    knowledge: Any, collection: c.Collection, create: Any
) -> None:
    overhead = len('{"a":""}')
    await create(content="x", metadata=struct(a="y" * (65_536 - overhead)))
    request = creation(collection, content="x", metadata=struct(a="y" * (65_537 - overhead)))
    refusal = await refused(knowledge.CreateDocument(request))
    assert list(refusal.fields) == ["document.metadata"]


async def test_there_are_at_most_64_labels_and_100_subjects(
    knowledge: Any, collection: c.Collection, create: Any
) -> None:
    labels = {f"key-{i}": "v" for i in range(65)}
    subjects = [f"patient-{i}" for i in range(101)]
    refusal = await refused(
        knowledge.CreateDocument(
            creation(collection, content="x", labels=labels, subject_ids=subjects)
        )
    )
    assert set(refusal.fields) == {"document.labels", "document.subject_ids"}
    del labels["key-0"]
    made = await create(content="x", labels=labels, subject_ids=subjects[1:])
    assert (len(made.labels), len(made.subject_ids)) == (64, 100)


@pytest.mark.parametrize(
    "name",
    ["", "collections/x", "collections/x/documents/", "collections//documents/y", "documents/y"],
)
async def test_a_name_of_another_shape_is_refused(knowledge: Any, name: str) -> None:
    for call, field in (
        (knowledge.GetDocument(k.GetDocumentRequest(name=name)), "name"),
        (knowledge.DeleteDocument(k.DeleteDocumentRequest(name=name)), "name"),
        (knowledge.UpdateDocument(update(d.Document(name=name), title="x")), "document.name"),
    ):
        refusal = await refused(call)
        assert (refusal.code, list(refusal.fields)) == (Code.INVALID_ARGUMENT, [field])


async def test_validate_only_stores_nothing(
    knowledge: Any, collection: c.Collection, create: Any, read: Any, audit_log: Any
) -> None:
    made = await create("there", content="as it was")
    new = creation(collection, "new", content="would be new")
    changed, deleted = update(made, title="would be"), k.DeleteDocumentRequest(name=made.name)
    for request in (new, changed, deleted):
        request.validate_only = True
        method = getattr(knowledge, type(request).__name__.removesuffix("Request"))
        answer = await method(request)
        assert not answer.HasField("receipt")
    assert (await read(made)).etag == made.etag
    listed = await knowledge.ListDocuments(k.ListDocumentsRequest(parent=collection.name))
    assert [document.name for document in listed.documents] == [made.name]


async def test_validate_only_names_faults(knowledge: Any, collection: c.Collection) -> None:
    request = creation(collection, content="")
    request.validate_only = True
    refusal = await refused(knowledge.CreateDocument(request))
    assert list(refusal.fields) == ["document.content"]


async def test_validate_only_refuses_a_taken_id(
    knowledge: Any, collection: c.Collection, create: Any
) -> None:
    await create("taken", content="x")
    request = creation(collection, "taken", content="x")
    request.validate_only = True
    assert (await refused(knowledge.CreateDocument(request))).code is Code.ALREADY_EXISTS


async def test_a_document_of_given_chunks_needs_no_text(create: Any, read: Any) -> None:
    made = await create(origin=d.ORIGIN_CALLER)
    now = await read(made)
    assert (now.origin, now.state, now.chunk_count) == (
        d.ORIGIN_CALLER,
        d.DOCUMENT_STATE_ACTIVE,
        0,
    )
