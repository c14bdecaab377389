"""The chunks of VectorService, over the wire."""

import asyncio
import hashlib
import struct as binary
import uuid
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from refusal import refused

from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import vector_service_pb2 as v
from knowledge.v1.chunk_pb2 import Chunk, ChunkState
from knowledge.v1.vector_pb2 import FloatVector, Vector

Code = grpc.StatusCode
MARKER = "Zebrafinch"
ACTIVE, PENDING = ChunkState.CHUNK_STATE_ACTIVE, ChunkState.CHUNK_STATE_PENDING


def struct(**values: Any) -> Struct:
    made = Struct()
    made.update(values)
    return made


def f32(*values: float) -> Vector:
    return Vector(f32_le=np.asarray(values, "<f4").tobytes())


def chunk(chunk_id: str, *values: float, **fields: Any) -> Chunk:
    """A chunk with the vector given, or (1, 0, 0, 0)."""
    return Chunk(chunk_id=chunk_id, embedding=f32(*(values or (1, 0, 0, 0))), **fields)


async def make_document(
    knowledge: Any, collection: c.Collection, origin: int, **fields: Any
) -> Any:
    request = k.CreateDocumentRequest(
        parent=collection.name, document=d.Document(origin=origin, **fields)
    )
    return (await knowledge.CreateDocument(request)).document


@pytest_asyncio.fixture(loop_scope="session")
async def document(knowledge: Any, make_collection: Any) -> d.Document:
    """A caller's document in a collection of vectors with 4 values."""
    collection = await make_collection(
        dimension=4,
        distance=c.DISTANCE_L2,
        filter_fields=[c.FilterField(path="chunk_metadata.page", type=c.FILTER_FIELD_TYPE_NUMBER)],
    )
    return await make_document(knowledge, collection, d.ORIGIN_CALLER)


@pytest_asyncio.fixture(loop_scope="session")
async def texts(knowledge: Any, collection: c.Collection) -> d.Document:
    """A caller's document in a collection of the server's own model."""
    return await make_document(knowledge, collection, d.ORIGIN_CALLER)


@pytest.fixture
def upsert(vectors: Any) -> Callable[..., Any]:
    """`await upsert(document, chunk("a"), ...)`."""

    async def write(document: d.Document, *chunks: Chunk, **fields: Any) -> Any:
        request = v.UpsertChunksRequest(parent=document.name, chunks=chunks, **fields)
        return await vectors.UpsertChunks(request)

    return write


@pytest.fixture
def get(vectors: Any) -> Callable[..., Any]:
    """`await get(document, "a")`: the chunk with its embedding."""

    async def read(document: d.Document, chunk_id: str) -> Chunk:
        request = v.GetChunkRequest(
            name=f"{document.name}/chunks/{chunk_id}", include_embedding=True
        )
        return (await vectors.GetChunk(request)).chunk

    return read


@pytest.fixture
def listed(vectors: Any) -> Callable[..., Any]:
    """`await listed(document)`: its chunks, all on one page unless asked otherwise."""

    async def read(document: d.Document, **fields: Any) -> list[Chunk]:
        request = v.ListChunksRequest(parent=document.name, **({"page_size": 1000} | fields))
        return list((await vectors.ListChunks(request)).chunks)

    return read


@pytest.fixture
def read(knowledge: Any) -> Callable[..., Any]:
    """`await read(document)`: the document as it is now."""

    async def get_document(document: d.Document) -> d.Document:
        return (await knowledge.GetDocument(k.GetDocumentRequest(name=document.name))).document

    return get_document


async def test_chunks_are_written_in_the_order_of_the_request(
    upsert: Any, listed: Any, read: Any, document: d.Document
) -> None:
    answer = await upsert(
        document,
        chunk("b", ordinal=1, content="second", metadata=struct(page=2)),
        chunk("a", ordinal=0, content="first"),
    )
    assert [each.chunk_id for each in answer.chunks] == ["b", "a"]
    assert all(each.state == ACTIVE and each.uid for each in answer.chunks)
    assert not any(each.content or each.HasField("embedding") for each in answer.chunks)
    assert len(answer.receipt.leaf_hash) == 32
    found = await listed(document)
    assert [(each.chunk_id, each.ordinal) for each in found] == [("a", 0), ("b", 1)]
    assert (await read(document)).chunk_count == 2


async def test_a_chunk_is_read_back_whole(upsert: Any, get: Any, document: d.Document) -> None:
    given = chunk("a", content="Ünï\n", ordinal=7, metadata=struct(page=3, deep={"x": [1, None]}))
    await upsert(document, given)
    found = await get(document, "a")
    assert found.name == f"{document.name}/chunks/a"
    assert uuid.UUID(found.uid).version == 7
    assert (found.content, found.ordinal, found.state) == ("Ünï\n", 7, ACTIVE)
    assert MessageToDict(found.metadata) == {"page": 3, "deep": {"x": [1, None]}}
    assert found.content_sha256 == hashlib.sha256("Ünï\n".encode()).digest()
    assert found.embedding.f32_le == given.embedding.f32_le
    assert not found.HasField("start_offset")
    assert found.create_time == found.update_time


BITS = [
    "00000080" + "0000803f" + "01000000" + "01000080",  # -0.0, 1, the smallest denormals
    "ffff7f00" + "cdcc4c3e" + "00e07f47" + "00e07fc7",  # largest denormal, 0.2, ±65504
    "dbe84940" + "11223344" + "ffff7f3f" + "00008000",
]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("distance", [1, 2, 3])
async def test_an_embedding_comes_back_bit_for_bit(
    bits: str,
    distance: int,
    knowledge: Any,
    make_collection: Any,
    upsert: Any,
    get: Any,
    vectors: Any,
) -> None:
    collection = await make_collection(dimension=4, distance=distance)
    document = await make_document(knowledge, collection, d.ORIGIN_CALLER)
    await upsert(document, Chunk(chunk_id="a", embedding=Vector(f32_le=bytes.fromhex(bits))))
    assert (await get(document, "a")).embedding.f32_le.hex() == bits
    search = v.SearchRequest(
        collection=collection.name, vector=f32(1, 1, 1, 1), include_embedding=True
    )
    (hit,) = (await vectors.Search(search)).hits
    assert hit.chunk.embedding.f32_le.hex() == bits


async def test_both_forms_of_a_vector_mean_the_same(
    upsert: Any, get: Any, document: d.Document
) -> None:
    floats = Vector(floats=FloatVector(values=[0.1, -2.5, 1e-40, 3]))
    await upsert(document, Chunk(chunk_id="a", embedding=floats))
    assert (await get(document, "a")).embedding == f32(0.1, -2.5, 1e-40, 3)


async def test_text_without_a_vector_is_embedded_by_the_server(
    upsert: Any, get: Any, vectors: Any, texts: d.Document
) -> None:
    await upsert(texts, Chunk(chunk_id="a", content="high blood pressure"))
    found = await get(texts, "a")
    embedded = await vectors.EmbedTexts(v.EmbedTextsRequest(texts=["high blood pressure"]))
    assert found.state == ACTIVE
    assert found.token_count == 3
    assert_near(found.embedding, embedded.embeddings[0])


def assert_near(found: Vector, expected: Vector) -> None:
    """Equal but for what a batch of another shape does to the last digits."""
    values = [np.frombuffer(vector.f32_le, "<f4") for vector in (found, expected)]
    assert values[0].shape == values[1].shape
    assert np.dot(*values) > 0.999


async def test_a_text_that_changes_is_embedded_again(
    upsert: Any, get: Any, vectors: Any, texts: d.Document
) -> None:
    await upsert(texts, Chunk(chunk_id="a", content="a broken arm"))
    before = await get(texts, "a")
    await upsert(texts, Chunk(chunk_id="a", content="a cold in the nose"))
    after = await get(texts, "a")
    expected = await vectors.EmbedTexts(v.EmbedTextsRequest(texts=["a cold in the nose"]))
    assert after.uid == before.uid
    assert after.create_time == before.create_time
    assert after.update_time.ToNanoseconds() > before.update_time.ToNanoseconds()
    assert_near(after.embedding, expected.embeddings[0])


async def test_a_text_that_comes_with_a_vector_keeps_that_vector(
    upsert: Any, get: Any, texts: d.Document
) -> None:
    given = f32(*[0.5] * 384)
    await upsert(texts, Chunk(chunk_id="a", content="a broken arm", embedding=given))
    assert (await get(texts, "a")).embedding == given


async def test_many_texts_wait_and_then_their_document_is_active(
    upsert: Any, get: Any, read: Any, texts: d.Document
) -> None:
    many = [Chunk(chunk_id=f"c{i}", content=f"text {i}", ordinal=i) for i in range(80)]
    answer = await upsert(texts, *many)
    assert {each.state for each in answer.chunks} <= {PENDING, ACTIVE}

    async with asyncio.timeout(20):
        while (await read(texts)).state != d.DOCUMENT_STATE_ACTIVE:  # noqa: ASYNC110 - a server works
            await asyncio.sleep(0.1)
    found = await get(texts, "c79")
    assert found.state == ACTIVE
    assert found.HasField("embedding")


async def test_texts_that_no_longer_wait_leave_their_document_active(
    upsert: Any, read: Any, texts: d.Document
) -> None:
    many = [Chunk(chunk_id=f"c{i}", content=f"text {i}") for i in range(80)]
    await upsert(texts, *many)
    vector = f32(*[1.0] * 384)
    await upsert(texts, *(Chunk(chunk_id=f"c{i}", embedding=vector) for i in range(80)))
    assert (await read(texts)).state == d.DOCUMENT_STATE_ACTIVE


async def test_insert_only_refuses_an_id_that_is_taken_and_writes_nothing(
    upsert: Any, listed: Any, document: d.Document
) -> None:
    await upsert(document, chunk("a"), mode=v.WRITE_MODE_INSERT_ONLY)
    refusal = await refused(upsert(document, chunk("b"), chunk("a"), mode=v.WRITE_MODE_INSERT_ONLY))
    assert (refusal.code, refusal.reason) == (Code.ALREADY_EXISTS, "RESOURCE_ALREADY_EXISTS")
    assert [each.chunk_id for each in await listed(document)] == ["a"]


async def test_update_only_refuses_an_id_that_is_missing_and_writes_nothing(
    upsert: Any, get: Any, listed: Any, document: d.Document
) -> None:
    await upsert(document, chunk("a"))
    update = chunk("a", 0, 1, 0, 0)
    refusal = await refused(upsert(document, update, chunk("b"), mode=v.WRITE_MODE_UPDATE_ONLY))
    assert (refusal.code, refusal.reason) == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")
    assert (await get(document, "a")).embedding == f32(1, 0, 0, 0)
    await upsert(document, update, mode=v.WRITE_MODE_UPDATE_ONLY)
    assert (await get(document, "a")).embedding == f32(0, 1, 0, 0)
    assert len(await listed(document)) == 1


async def test_upsert_writes_new_and_known_ids_together(
    upsert: Any, get: Any, listed: Any, read: Any, document: d.Document
) -> None:
    await upsert(document, chunk("a", content="old", ordinal=5, metadata=struct(x=1)))
    await upsert(document, chunk("a", content="new", ordinal=1), chunk("b", ordinal=0))
    assert [each.chunk_id for each in await listed(document)] == ["b", "a"]
    found = await get(document, "a")
    assert (found.content, found.ordinal, dict(found.metadata.fields)) == ("new", 1, {})
    now = await read(document)
    assert (now.chunk_count, now.revision, now.etag) == (2, document.revision, document.etag)


BAD_VECTORS = {
    "nan": [1, float("nan"), 0, 0],
    "infinity": [1, float("inf"), 0, 0],
    "overflowing": [1, 7e4, 0, 0],
    "huge": [3e38, 0, 0, 0],
    "short": [1, 0, 0],
    "long": [1, 0, 0, 0, 0],
    "empty": [],
}


@pytest.mark.parametrize("name", BAD_VECTORS)
async def test_a_bad_vector_is_named_by_its_place_and_nothing_is_written(
    name: str, upsert: Any, listed: Any, document: d.Document
) -> None:
    bad = Chunk(chunk_id="c", embedding=f32(*BAD_VECTORS[name]))
    refusal = await refused(upsert(document, chunk("a"), chunk("b"), bad))
    assert (refusal.code, refusal.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert set(refusal.fields) == {"chunks[2].embedding"}
    assert await listed(document) == []


@pytest.mark.parametrize("tiny", [0.0, 1e-8, 1e-45])
async def test_a_vector_without_direction_is_refused_for_cosine_alone(
    tiny: float, knowledge: Any, make_collection: Any, upsert: Any, document: d.Document
) -> None:
    cosine = await make_document(knowledge, await make_collection(dimension=4), d.ORIGIN_CALLER)
    refusal = await refused(upsert(cosine, chunk("a"), chunk("b", tiny, 0, 0, 0)))
    assert set(refusal.fields) == {"chunks[1].embedding"}
    assert refusal.code is Code.INVALID_ARGUMENT
    await upsert(document, chunk("a"), chunk("b", tiny, 0, 0, 0))


async def test_all_faults_of_a_batch_are_named_at_once_and_none_is_repeated(
    upsert: Any, listed: Any, document: d.Document
) -> None:
    refusal = await refused(
        upsert(
            document,
            Chunk(chunk_id=f"{MARKER}/", embedding=f32(1, 0, 0, 0)),
            chunk("b", content=MARKER + "\0"),
            chunk("c", ordinal=-1, metadata=struct(page=MARKER)),
            Chunk(chunk_id="d"),
            chunk("e", metadata=struct(x=MARKER * 2000)),
            Chunk(chunk_id="f", embedding=f32(1)),
            request_id="once",
            mode=9,
        )
    )
    assert refusal.code is Code.INVALID_ARGUMENT
    assert set(refusal.fields) == {
        "chunks[0].chunk_id",
        "chunks[1].content",
        "chunks[2].ordinal",
        "chunks[2].chunk_metadata.page",
        "chunks[3].content",
        "chunks[4].metadata",
        "chunks[5].embedding",
        "request_id",
        "mode",
    }
    assert MARKER not in refusal.raw
    assert await listed(document) == []


async def test_an_id_may_stand_in_a_batch_once(
    upsert: Any, listed: Any, document: d.Document
) -> None:
    refusal = await refused(upsert(document, chunk("a"), chunk("b"), chunk("a")))
    assert (refusal.code, set(refusal.fields)) == (Code.INVALID_ARGUMENT, {"chunks"})
    assert await listed(document) == []


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_batch_has_1_to_1000_chunks(count: int, upsert: Any, document: d.Document) -> None:
    refusal = await refused(upsert(document, *(chunk(f"c{i}") for i in range(count))))
    assert (refusal.code, set(refusal.fields)) == (Code.INVALID_ARGUMENT, {"chunks"})
    assert str(count) in refusal.fields["chunks"]


async def test_a_batch_of_1000_is_written_and_listed_page_by_page(
    upsert: Any, vectors: Any, document: d.Document
) -> None:
    await upsert(document, *(chunk(f"c{i}", i, 0, 0, 0, ordinal=i // 2) for i in range(1000)))
    found: list[Chunk] = []
    token, pages = "", 0
    while pages == 0 or token:
        answer = await vectors.ListChunks(
            v.ListChunksRequest(parent=document.name, page_size=300, page_token=token)
        )
        found.extend(answer.chunks)
        token, pages = answer.next_page_token, pages + 1
    assert pages == 4
    assert [each.ordinal for each in found] == sorted(each.ordinal for each in found)
    assert {each.chunk_id for each in found} == {f"c{i}" for i in range(1000)}
    assert len(found) == 1000


async def test_a_page_may_be_followed_while_chunks_are_inserted_and_deleted(
    upsert: Any, vectors: Any, document: d.Document
) -> None:
    await upsert(document, *(chunk(f"c{i}", ordinal=i) for i in range(10)))
    first = await vectors.ListChunks(v.ListChunksRequest(parent=document.name, page_size=5))
    await upsert(document, chunk("before", ordinal=0), chunk("after", ordinal=20))
    await vectors.DeleteChunk(v.DeleteChunkRequest(name=f"{document.name}/chunks/c4"))
    rest = await vectors.ListChunks(
        v.ListChunksRequest(parent=document.name, page_token=first.next_page_token)
    )
    assert [each.chunk_id for each in rest.chunks] == ["c5", "c6", "c7", "c8", "c9", "after"]
    assert rest.next_page_token == ""


async def test_lists_give_what_is_asked_for(upsert: Any, listed: Any, document: d.Document) -> None:
    await upsert(document, chunk("a", content="text"))
    (basic,) = await listed(document)
    assert (basic.content, basic.HasField("embedding")) == ("", False)
    (full,) = await listed(document, view=d.VIEW_FULL, include_embedding=True)
    assert (full.content, full.embedding) == ("text", f32(1, 0, 0, 0))


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ("ordinal >= 1 ordinal < 3", ["b", "c"]),
        ('chunk_id = "a"', ["a"]),
        ("chunk_metadata.page = 2", ["b"]),
        ("chunk_metadata.page:*", ["a", "b"]),
        ("NOT chunk_metadata.page > 1", ["a", "c"]),
        ("state = ACTIVE", ["a", "b", "c"]),
        ("state = PENDING", []),
        ('create_time < "2020-01-01T00:00:00Z"', []),
    ],
)
async def test_lists_are_filtered(
    filter: str, expected: list[str], upsert: Any, listed: Any, document: d.Document
) -> None:
    await upsert(
        document,
        chunk("a", ordinal=0, metadata=struct(page=1)),
        chunk("b", ordinal=1, metadata=struct(page=2)),
        chunk("c", ordinal=2),
    )
    assert [each.chunk_id for each in await listed(document, filter=filter)] == expected


async def test_a_bad_list_names_all_its_faults(listed: Any, document: d.Document) -> None:
    refusal = await refused(listed(document, filter="nonsense = 1 =", page_size=-1))
    assert refusal.code is Code.INVALID_ARGUMENT
    assert set(refusal.fields) == {"filter", "page_size"}
    unknown = await refused(listed(document, filter="title = 'x'"))
    assert (unknown.code, set(unknown.fields)) == (Code.INVALID_ARGUMENT, {"filter"})


async def test_a_page_token_holds_for_its_own_list_only(
    upsert: Any, vectors: Any, listed: Any, document: d.Document
) -> None:
    await upsert(document, chunk("a"), chunk("b"))
    page = await vectors.ListChunks(v.ListChunksRequest(parent=document.name, page_size=1))
    for change in ({"filter": "ordinal >= 0"}, {"view": d.VIEW_FULL}):
        refusal = await refused(listed(document, page_token=page.next_page_token, **change))
        assert (refusal.code, refusal.reason) == (Code.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID")


async def test_a_list_with_embeddings_ends_a_page_before_the_message_limit(
    knowledge: Any, make_collection: Any, upsert: Any, vectors: Any
) -> None:
    collection = await make_collection(dimension=1900)
    document = await make_document(knowledge, collection, d.ORIGIN_CALLER)
    vector = f32(*[1.0] * 1900)
    for part in range(2):
        ids = range(part * 350, part * 350 + 350)
        await upsert(document, *(Chunk(chunk_id=f"{i}", ordinal=i, embedding=vector) for i in ids))
    request = v.ListChunksRequest(parent=document.name, page_size=1000, include_embedding=True)
    first = await vectors.ListChunks(request)
    assert 100 < len(first.chunks) < 700
    assert first.ByteSize() <= 4 * 1024 * 1024
    request.page_token = first.next_page_token
    second = await vectors.ListChunks(request)
    assert [each.ordinal for each in [*first.chunks, *second.chunks]] == list(range(700))


async def test_a_chunk_is_deleted_for_good(
    upsert: Any, get: Any, read: Any, vectors: Any, document: d.Document
) -> None:
    await upsert(document, chunk("a"), chunk("b"))
    request = v.DeleteChunkRequest(name=f"{document.name}/chunks/a")
    assert len((await vectors.DeleteChunk(request)).receipt.leaf_hash) == 32
    assert (await refused(get(document, "a"))).code is Code.NOT_FOUND
    assert (await refused(vectors.DeleteChunk(request))).code is Code.NOT_FOUND
    assert (await read(document)).chunk_count == 1
    collection = document.name.split("/documents")[0]
    search = v.SearchRequest(collection=collection, vector=f32(1, 0, 0, 0))
    assert [hit.chunk.chunk_id for hit in (await vectors.Search(search)).hits] == ["b"]


async def test_writers_and_deleters_of_one_document_do_not_lose_each_others_work(
    upsert: Any, listed: Any, read: Any, vectors: Any, document: d.Document
) -> None:
    await upsert(document, *(chunk(f"old{i}") for i in range(12)))
    deletions = [
        vectors.DeleteChunk(v.DeleteChunkRequest(name=f"{document.name}/chunks/old{i}"))
        for i in range(12)
    ]
    insertions = [upsert(document, chunk(f"new{i}")) for i in range(12)]
    await asyncio.gather(*deletions, *insertions)
    assert {each.chunk_id for each in await listed(document)} == {f"new{i}" for i in range(12)}
    assert (await read(document)).chunk_count == 12


@pytest.mark.parametrize("name", ["x", "collections/a/documents/b", "collections/a/chunks/c"])
async def test_a_name_of_another_shape_is_refused(name: str, vectors: Any) -> None:
    for call in (
        vectors.GetChunk(v.GetChunkRequest(name=name)),
        vectors.DeleteChunk(v.DeleteChunkRequest(name=name)),
    ):
        refusal = await refused(call)
        assert (refusal.code, set(refusal.fields)) == (Code.INVALID_ARGUMENT, {"name"})


async def test_what_is_missing_is_not_found(
    upsert: Any, get: Any, listed: Any, vectors: Any, document: d.Document
) -> None:
    collection = document.name.split("/documents")[0]
    for name in (f"{collection}/documents/none", "collections/none/documents/none"):
        missing = d.Document(name=name)
        assert (await refused(upsert(missing, chunk("a")))).code is Code.NOT_FOUND
        assert (await refused(get(missing, "a"))).code is Code.NOT_FOUND
    missing = v.DeleteChunkRequest(name=f"{document.name}/chunks/none")
    assert (await refused(vectors.DeleteChunk(missing))).code is Code.NOT_FOUND


async def test_chunks_of_the_servers_own_making_are_not_the_callers_to_write(
    knowledge: Any, collection: c.Collection, upsert: Any, listed: Any, vectors: Any
) -> None:
    document = await make_document(knowledge, collection, d.ORIGIN_SERVER, content="a broken arm")
    (own,) = await listed(document)
    vector = f32(*[1.0] * 384)
    for call in (
        upsert(document, Chunk(chunk_id="a", embedding=vector)),
        upsert(document, Chunk(chunk_id=own.chunk_id, content="other")),
        vectors.DeleteChunk(v.DeleteChunkRequest(name=own.name)),
    ):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (Code.FAILED_PRECONDITION, "ORIGIN_MISMATCH")
    assert [each.chunk_id for each in await listed(document)] == [own.chunk_id]


async def test_a_deleted_documents_chunks_cannot_be_written(
    knowledge: Any, upsert: Any, document: d.Document
) -> None:
    await knowledge.DeleteDocument(k.DeleteDocumentRequest(name=document.name))
    refusal = await refused(upsert(document, chunk("a")))
    assert refusal.code is Code.FAILED_PRECONDITION


async def test_text_for_a_collection_of_another_model_is_refused(
    upsert: Any, document: d.Document
) -> None:
    refusal = await refused(upsert(document, Chunk(chunk_id="a", content="text")))
    assert (refusal.code, refusal.reason) == (Code.FAILED_PRECONDITION, "MODEL_MISMATCH")


async def test_a_repeated_upsert_gives_the_first_answer(
    upsert: Any, get: Any, document: d.Document
) -> None:
    once = str(uuid.uuid4())
    first = await upsert(document, chunk("a"), chunk("b"), request_id=once)
    await upsert(document, chunk("a", 0, 0, 0, 1))
    again = await upsert(document, chunk("a"), chunk("b"), request_id=once)
    assert again.receipt == first.receipt
    assert [each.uid for each in again.chunks] == [each.uid for each in first.chunks]
    assert (await get(document, "a")).embedding == f32(0, 0, 0, 1)
    refusal = await refused(upsert(document, chunk("a"), request_id=once))
    assert (refusal.code, refusal.reason) == (Code.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_a_repeated_insert_only_is_no_conflict_with_itself(
    upsert: Any, document: d.Document
) -> None:
    once = str(uuid.uuid4())
    fields = {"mode": v.WRITE_MODE_INSERT_ONLY, "request_id": once}
    first = await upsert(document, chunk("a"), **fields)
    assert (await upsert(document, chunk("a"), **fields)).receipt == first.receipt


async def test_a_repeated_deletion_gives_the_first_answer(
    upsert: Any, vectors: Any, document: d.Document
) -> None:
    await upsert(document, chunk("a"))
    request = v.DeleteChunkRequest(name=f"{document.name}/chunks/a", request_id=str(uuid.uuid4()))
    first = await vectors.DeleteChunk(request)
    assert await vectors.DeleteChunk(request) == first


def test_the_bits_tested_are_those_meant() -> None:
    values = [binary.unpack("<4f", bytes.fromhex(bits)) for bits in BITS]
    assert str(values[0][0]) == "-0.0"
    assert 0 < values[0][2] < 1.5e-45
    assert values[1][2:] == (65_504, -65_504)
