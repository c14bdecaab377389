"""ConfigService: what the server says of itself, and that its limits hold."""

import re
from typing import Any

import grpc
import pytest
import pytest_asyncio
from refusal import refused

from knowledge.v1 import chunk_pb2 as ch
from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import config_service_pb2 as s
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import vector_service_pb2 as v
from knowledge.v1.vector_pb2 import FloatVector, Vector

Code = grpc.StatusCode


@pytest_asyncio.fixture(loop_scope="session")
async def limits(config: Any) -> s.Limits:
    return (await config.GetServerInfo(s.GetServerInfoRequest())).limits


async def test_the_server_tells_its_versions(config: Any) -> None:
    info = await config.GetServerInfo(s.GetServerInfoRequest())
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", info.version)
    assert int(info.postgresql_version.split(".")[0]) >= 17
    assert re.fullmatch(r"\d+\.\d+\.\d+", info.pgvector_version)
    assert info.schema_version >= 8


async def test_the_server_tells_its_model(config: Any, vectors: Any) -> None:
    model = (await config.GetServerInfo(s.GetServerInfoRequest())).embedding_model
    embedded = await vectors.EmbedTexts(v.EmbedTextsRequest(texts=["a text"]))
    assert (model.model_id, model.model_digest) == (embedded.model_id, embedded.model_digest)
    assert model.dimension == embedded.dimension == len(embedded.embeddings[0].f32_le) // 4
    assert re.fullmatch("[0-9a-f]{64}", model.model_digest)
    assert model.max_tokens >= 254


def creation(collection: c.Collection, content: str) -> k.CreateDocumentRequest:
    return k.CreateDocumentRequest(
        parent=collection.name, document=d.Document(content=content), validate_only=True
    )


async def test_the_limit_of_a_text_holds(
    knowledge: Any, collection: c.Collection, limits: s.Limits
) -> None:
    longest = "x" * limits.max_content_characters
    answer = await knowledge.CreateDocument(creation(collection, longest))
    assert answer.document.revision == 1
    refusal = await refused(knowledge.CreateDocument(creation(collection, longest + "x")))
    assert (refusal.code, list(refusal.fields)) == (Code.INVALID_ARGUMENT, ["document.content"])


async def test_the_limit_of_a_message_holds(channel: grpc.aio.Channel, limits: s.Limits) -> None:
    call = channel.unary_unary("/knowledge.v1.ConfigService/GetServerInfo")
    assert await call(message_of(limits.max_message_bytes))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(message_of(limits.max_message_bytes + 1))
    assert caught.value.code() is Code.RESOURCE_EXHAUSTED


def message_of(size: int) -> bytes:
    """A message of so many bytes: an unknown field 15 of type bytes, its length in 4 bytes."""
    length = size - 5
    head = [0x7A, *(length >> shift & 127 | 128 for shift in (0, 7, 14)), length >> 21]
    return bytes(head) + b"x" * length


def chunks(count: int) -> list[ch.Chunk]:
    vector = Vector(floats=FloatVector(values=[1.0, 2.0, 3.0]))
    return [ch.Chunk(chunk_id=f"{i}", embedding=vector) for i in range(count)]


async def test_the_limit_of_a_batch_holds(
    knowledge: Any, vectors: Any, make_collection: Any, limits: s.Limits
) -> None:
    small = await make_collection(dimension=3)
    caller = d.Document(origin=d.ORIGIN_CALLER)
    request = k.CreateDocumentRequest(parent=small.name, document=caller)
    parent = (await knowledge.CreateDocument(request)).document.name
    most = limits.max_batch_items
    whole = v.UpsertChunksRequest(parent=parent, chunks=chunks(most))
    assert len((await vectors.UpsertChunks(whole)).chunks) == most
    beyond = v.UpsertChunksRequest(parent=parent, chunks=chunks(most + 1))
    refusal = await refused(vectors.UpsertChunks(beyond))
    assert (refusal.code, list(refusal.fields)) == (Code.INVALID_ARGUMENT, ["chunks"])

    page = v.ListChunksRequest(parent=parent, page_size=2**31 - 1)
    assert len((await vectors.ListChunks(page)).chunks) == min(most, limits.max_page_size)


async def test_the_limit_of_a_search_holds(
    vectors: Any, collection: c.Collection, limits: s.Limits
) -> None:
    request = v.SearchRequest(collection=collection.name, text="x", limit=limits.max_search_limit)
    assert list((await vectors.Search(request)).hits) == []
    request.limit += 1
    refusal = await refused(vectors.Search(request))
    assert (refusal.code, list(refusal.fields)) == (Code.INVALID_ARGUMENT, ["limit"])


async def test_the_limit_of_embedding_holds(vectors: Any, limits: s.Limits) -> None:
    most = limits.max_embed_texts
    answer = await vectors.EmbedTexts(v.EmbedTextsRequest(texts=["x"] * most))
    assert len(answer.embeddings) == most
    refusal = await refused(vectors.EmbedTexts(v.EmbedTextsRequest(texts=["x"] * (most + 1))))
    assert (refusal.code, list(refusal.fields)) == (Code.INVALID_ARGUMENT, ["texts"])


async def test_the_limit_of_inline_chunks_holds(
    knowledge: Any, make_collection: Any, limits: s.Limits
) -> None:
    policy = c.ChunkingPolicy(max_tokens=16, overlap_tokens=0)
    small = await make_collection(chunking=policy)

    async def made_of(paragraphs: int) -> d.Document:
        each = "Paragraph {} says what helps against disease number {}."
        content = "\n\n".join(each.format(i, i) for i in range(paragraphs))
        request = k.CreateDocumentRequest(parent=small.name, document=d.Document(content=content))
        return (await knowledge.CreateDocument(request)).document

    inline = await made_of(limits.max_inline_chunks)
    assert inline.chunk_count == limits.max_inline_chunks
    assert inline.state == d.DOCUMENT_STATE_ACTIVE
    assert (await made_of(limits.max_inline_chunks + 1)).state == d.DOCUMENT_STATE_PENDING
