"""The chunks of VectorService, over the wire."""

import asyncio
import hashlib
import uuid
from typing import Any

import grpc
import pytest
from asking import struct
from given import chunk, f32, make_document
from google.protobuf.json_format import MessageToDict
from refusal import refused

from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import vector_service_pb2 as v
from knowledge.v1.chunk_pb2 import Chunk, ChunkState

Code = grpc.StatusCode
MARKER = "Zebrafinch"
ACTIVE, PENDING = ChunkState.CHUNK_STATE_ACTIVE, ChunkState.CHUNK_STATE_PENDING


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
