"""The documents of KnowledgeService, over the wire."""

import asyncio
import hashlib
import uuid
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from refusal import refused

from knowledge.v1 import chunk_pb2 as ch
from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import vector_service_pb2 as v

Code = grpc.StatusCode
CREATE = "/knowledge.v1.KnowledgeService/CreateDocument"
MARKER = "Zebrafinch"


def struct(**values: Any) -> Struct:
    made = Struct()
    made.update(values)
    return made


def creation(collection: c.Collection, document_id: str = "", **fields: Any) -> Any:
    return k.CreateDocumentRequest(
        parent=collection.name, document_id=document_id, document=d.Document(**fields)
    )


def update(document: d.Document, paths: list[str] | None = None, **fields: Any) -> Any:
    return k.UpdateDocumentRequest(
        document=d.Document(name=document.name, **fields),
        update_mask=FieldMask(paths=paths) if paths is not None else None,
    )


@pytest.fixture
def create(knowledge: Any, collection: c.Collection) -> Callable[..., Any]:
    """`await create("id", content=...)`: a document in `collection`."""

    async def make(document_id: str = "", **fields: Any) -> d.Document:
        answer = await knowledge.CreateDocument(creation(collection, document_id, **fields))
        return answer.document

    return make


@pytest.fixture
def read(knowledge: Any) -> Callable[..., Any]:
    """`await read(document)`: the document as it is now."""

    async def get(document: d.Document) -> d.Document:
        answer = await knowledge.GetDocument(k.GetDocumentRequest(name=document.name))
        return answer.document

    return get


@pytest.fixture
def chunks(vectors: Any) -> Callable[..., Any]:
    """`await chunks(document)`: its chunks in order, whole."""

    async def listed(document: d.Document) -> list[ch.Chunk]:
        request = v.ListChunksRequest(parent=document.name, view=d.VIEW_FULL, page_size=1000)
        return list((await vectors.ListChunks(request)).chunks)

    return listed


@pytest.fixture
def found(vectors: Any, collection: c.Collection) -> Callable[..., Any]:
    """`await found("text")`: the names of the documents that a search finds, best first."""

    async def search(text: str) -> list[str]:
        answer = await vectors.Search(v.SearchRequest(collection=collection.name, text=text))
        return [hit.document.name for hit in answer.hits]

    return search


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


async def test_an_update_changes_what_the_mask_names(
    knowledge: Any, create: Any, read: Any
) -> None:
    made = await create(title="before", content="a text", labels={"a": "b"})
    request = update(made, ["title", "labels"], title="after", content="ignored")
    answer = await knowledge.UpdateDocument(request)
    changed = await read(made)
    assert (changed.title, changed.content, dict(changed.labels)) == ("after", "a text", {})
    assert changed.revision == answer.document.revision == 2
    assert changed.etag == answer.document.etag != made.etag
    assert changed.update_time.ToNanoseconds() > made.update_time.ToNanoseconds()
    assert changed.create_time == made.create_time
    assert len(answer.receipt.leaf_hash) == 32


async def test_without_a_mask_an_update_changes_what_is_set(
    knowledge: Any, create: Any, read: Any
) -> None:
    made = await create(title="before", content="a text", metadata=struct(a=1))
    await knowledge.UpdateDocument(update(made, title="after"))
    changed = await read(made)
    assert (changed.title, changed.content) == ("after", "a text")
    assert changed.metadata == struct(a=1)


async def test_a_star_mask_replaces_everything(knowledge: Any, create: Any, read: Any) -> None:
    made = await create(
        title="before", content="a text", source_uri="u", metadata=struct(a=1), subject_ids=["p"]
    )
    await knowledge.UpdateDocument(update(made, ["*"], content="another text"))
    changed = await read(made)
    assert (changed.title, changed.content, changed.source_uri) == ("", "another text", "")
    assert (changed.metadata, list(changed.subject_ids)) == (Struct(), [])


async def test_one_key_of_metadata_is_updated(knowledge: Any, create: Any, read: Any) -> None:
    made = await create(content="x", metadata=struct(keep={"deep": [1]}, change=1, remove="x"))
    paths = ["metadata.change", "metadata.remove", "metadata.add"]
    given = struct(change=2.5, add={"new": True}, keep="is not in the mask")
    await knowledge.UpdateDocument(update(made, paths, metadata=given))
    expected = struct(keep={"deep": [1]}, change=2.5, add={"new": True})
    assert (await read(made)).metadata == expected


@pytest.mark.parametrize(
    "path", ["nonsense", "name", "uid", "origin", "etag", "labels.a", "metadata.a.b"]
)
async def test_an_unknown_path_is_refused(
    knowledge: Any, create: Any, read: Any, path: str
) -> None:
    made = await create(title="before", content="x")
    refusal = await refused(knowledge.UpdateDocument(update(made, ["title", path], title="y")))
    assert refusal.code is Code.INVALID_ARGUMENT
    assert list(refusal.fields) == ["update_mask.paths[1]"]
    assert (await read(made)).revision == 1


async def test_an_update_is_checked_like_a_creation(knowledge: Any, create: Any) -> None:
    made = await create(content="x")
    refusal = await refused(
        knowledge.UpdateDocument(
            update(made, ["title", "content", "mime_type"], title="t" * 513, mime_type="x/y")
        )
    )
    assert set(refusal.fields) == {"document.title", "document.content", "document.mime_type"}


async def test_a_stale_etag_is_refused(knowledge: Any, create: Any, read: Any) -> None:
    made = await create(title="before", content="x")
    request = update(made, title="first")
    request.etag = made.etag
    await knowledge.UpdateDocument(request)
    request.document.title = "second"
    deletion = k.DeleteDocumentRequest(name=made.name, etag=made.etag)
    for call in (knowledge.UpdateDocument(request), knowledge.DeleteDocument(deletion)):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (Code.ABORTED, "ETAG_MISMATCH")
    assert (await read(made)).title == "first"


async def test_of_two_updaters_with_the_same_etag_one_wins(
    knowledge: Any, create: Any, read: Any
) -> None:
    made = await create(content="x")
    requests = [update(made, title=f"by {i}") for i in range(10)]
    for request in requests:
        request.etag = made.etag
    outcomes = await asyncio.gather(
        *map(knowledge.UpdateDocument, requests), return_exceptions=True
    )
    won = [o for o in outcomes if isinstance(o, k.UpdateDocumentResponse)]
    lost = [o.code() for o in outcomes if isinstance(o, grpc.aio.AioRpcError)]
    assert (len(won), lost) == (1, [Code.ABORTED] * 9)
    assert (await read(made)).title == won[0].document.title


async def test_forty_updaters_at_once_all_succeed(knowledge: Any, create: Any, read: Any) -> None:
    made = await create(content="x")
    paths = [f"metadata.key-{i}" for i in range(40)]
    answers = await asyncio.gather(
        *(
            knowledge.UpdateDocument(update(made, [path], metadata=struct(**{path[9:]: 1})))
            for path in paths
        )
    )
    assert sorted(answer.document.revision for answer in answers) == list(range(2, 42))
    assert len({answer.receipt.event_id for answer in answers}) == 40
    now = await read(made)
    assert now.revision == 41
    assert now.metadata == struct(**{path[9:]: 1 for path in paths})


async def test_validate_only_refuses_a_stale_etag(knowledge: Any, create: Any) -> None:
    made = await create(content="x")
    await knowledge.UpdateDocument(update(made, title="first"))
    changed = update(made, title="second")
    deleted = k.DeleteDocumentRequest(name=made.name)
    for request in (changed, deleted):
        request.etag, request.validate_only = made.etag, True
        method = getattr(knowledge, type(request).__name__.removesuffix("Request"))
        assert (await refused(method(request))).code is Code.ABORTED


async def test_allow_missing_makes_the_document(
    knowledge: Any, collection: c.Collection, read: Any
) -> None:
    name = f"{collection.name}/documents/new"
    request = update(d.Document(name=name), content="made by an update")
    request.allow_missing = True
    first = await knowledge.UpdateDocument(request)
    assert (first.document.name, first.document.revision) == (name, 1)
    request.document.content = "changed by it"
    assert (await knowledge.UpdateDocument(request)).document.revision == 2
    assert (await read(first.document)).content == "changed by it"


async def test_allow_missing_still_wants_text(knowledge: Any, collection: c.Collection) -> None:
    request = update(d.Document(name=f"{collection.name}/documents/new"), title="no text")
    request.allow_missing = True
    refusal = await refused(knowledge.UpdateDocument(request))
    assert list(refusal.fields) == ["document.content"]


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


PARAGRAPHS = [
    "Asthma is a long-term disease of the airways.",
    "Hypertension is a pressure in the arteries that stays too high.",
    "Diabetes is a disease in which sugar stays in the blood.",
]


async def test_only_changed_text_gets_new_chunks(
    knowledge: Any, make_collection: Any, chunks: Any
) -> None:
    policy = c.ChunkingPolicy(max_tokens=16, overlap_tokens=0)
    small = await make_collection(chunking=policy)
    made = (
        await knowledge.CreateDocument(creation(small, content="\n\n".join(PARAGRAPHS)))
    ).document
    before = await chunks(made)
    assert [chunk.content for chunk in before] == PARAGRAPHS

    changed = [PARAGRAPHS[0], "Anaemia is a lack of red blood cells.", PARAGRAPHS[2]]
    await knowledge.UpdateDocument(update(made, content="\n\n".join(changed)))
    after = await chunks(made)
    assert [chunk.content for chunk in after] == changed
    kept = [a.uid == b.uid for a, b in zip(after, before, strict=True)]
    assert kept == [True, False, True]
    assert all(chunk.state == ch.CHUNK_STATE_ACTIVE for chunk in after)

    await knowledge.UpdateDocument(update(made, content="\n\n".join(PARAGRAPHS)))
    again = await chunks(made)
    assert [chunk.uid for chunk in again] == [chunk.uid for chunk in before]


async def test_offsets_are_characters_of_the_content(
    knowledge: Any, make_collection: Any, chunks: Any
) -> None:
    content = "🩺 Ärzte messen den Druck. " * 30 + "\n\nEnde gut, alles gut."
    small = await make_collection(chunking=c.ChunkingPolicy(max_tokens=32))
    made = (await knowledge.CreateDocument(creation(small, content=content))).document
    pieces = await chunks(made)
    assert len(pieces) > 3
    for piece in pieces:
        assert content[piece.start_offset : piece.end_offset] == piece.content
        assert 1 <= piece.token_count <= 32


async def test_a_search_finds_what_an_update_wrote(
    knowledge: Any, create: Any, found: Any, vectors: Any, collection: c.Collection
) -> None:
    made = await create(content="Fracture of the arm.")
    await knowledge.UpdateDocument(update(made, content="Inflammation of the kidney."))
    answer = await vectors.Search(v.SearchRequest(collection=collection.name, text="kidney"))
    assert [hit.chunk.content for hit in answer.hits] == ["Inflammation of the kidney."]
    assert [hit.document.revision for hit in answer.hits] == [2]


def long_text(sentences: int) -> str:
    return "\n\n".join(
        f"Paragraph {i} says what helps against disease number {i}." for i in range(sentences)
    )


async def active(read: Any, document: d.Document) -> d.Document:
    async with asyncio.timeout(30):
        while True:
            now = await read(document)
            if now.state != d.DOCUMENT_STATE_PENDING:
                return now
            await asyncio.sleep(0.05)


async def test_a_long_text_is_pending_until_it_can_be_searched(
    knowledge: Any, make_collection: Any, read: Any, vectors: Any, chunks: Any
) -> None:
    policy = c.ChunkingPolicy(max_tokens=16, overlap_tokens=0)
    small = await make_collection(chunking=policy)
    made = (await knowledge.CreateDocument(creation(small, content=long_text(100)))).document
    assert made.state == d.DOCUMENT_STATE_PENDING
    assert made.chunk_count == 100
    now = await active(read, made)
    assert (now.state, now.last_error, now.etag) == (d.DOCUMENT_STATE_ACTIVE, "", made.etag)
    assert {chunk.state for chunk in await chunks(made)} == {ch.CHUNK_STATE_ACTIVE}
    hits = (
        await vectors.Search(
            v.SearchRequest(
                collection=small.name,
                text="Paragraph 77 says what helps against disease number 77.",
            )
        )
    ).hits
    assert hits[0].chunk.content == "Paragraph 77 says what helps against disease number 77."


async def test_with_wait_a_long_text_is_answered_when_it_can_be_searched(
    knowledge: Any, make_collection: Any, read: Any
) -> None:
    policy = c.ChunkingPolicy(max_tokens=16, overlap_tokens=0)
    small = await make_collection(chunking=policy)
    request = creation(small, content=long_text(80))
    request.wait = True
    made = (await knowledge.CreateDocument(request, timeout=30)).document
    assert (made.state, made.chunk_count) == (d.DOCUMENT_STATE_ACTIVE, 80)
    changed = update(made, content=long_text(160))
    changed.wait = True
    now = (await knowledge.UpdateDocument(changed, timeout=30)).document
    assert (now.state, now.chunk_count, now.revision) == (d.DOCUMENT_STATE_ACTIVE, 160, 2)
    assert (await read(made)).state == d.DOCUMENT_STATE_ACTIVE


async def test_wait_ends_before_the_deadline(knowledge: Any, make_collection: Any) -> None:
    policy = c.ChunkingPolicy(max_tokens=16, overlap_tokens=0)
    small = await make_collection(chunking=policy)
    request = creation(small, content=long_text(1000))
    request.wait = True
    made = (await knowledge.CreateDocument(request, timeout=2)).document
    assert made.state == d.DOCUMENT_STATE_PENDING
    await knowledge.DeleteCollection(k.DeleteCollectionRequest(name=small.name, force=True))


async def test_a_document_of_given_chunks_needs_no_text(create: Any, read: Any) -> None:
    made = await create(origin=d.ORIGIN_CALLER)
    now = await read(made)
    assert (now.origin, now.state, now.chunk_count) == (
        d.ORIGIN_CALLER,
        d.DOCUMENT_STATE_ACTIVE,
        0,
    )
