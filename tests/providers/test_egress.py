"""Text leaves the machine only where its collection lets it; a listener hears all that leaves."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from refusal import Refusal, refused
from serving import MODEL, Caller, server

from cluster import DatabaseUrls
from hugging_face_server import GOOD, HuggingFaceServer
from knowledge.v1 import chunk_pb2 as ch
from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import vector_service_pb2 as v
from knowledge.v1.vector_pb2 import FloatVector, Vector
from served import Model, Serve

KEY = "hf_egressegressegressegress0001"
TEXT = "a text that must stay here"


@pytest.fixture
async def caller(
    serve: Serve, database_urls: DatabaseUrls, outside: HuggingFaceServer
) -> AsyncIterator[Caller]:
    """A server whose default model is remote, with a good key."""
    outside.keys[KEY] = GOOD
    given = {"default_model": MODEL, "hugging_face_api_key": KEY, "inline_chunks": 2}
    async with server(serve, database_urls, outside, **given) as opened:
        yield opened


def forbidden(refusal: Refusal) -> bool:
    told = refusal.code.name, refusal.reason
    assert TEXT not in refusal.raw
    assert "PROVIDER_ALLOWED" in refusal.message
    return told == ("FAILED_PRECONDITION", "EGRESS_FORBIDDEN")


async def test_a_collection_that_keeps_its_text_sends_none_to_a_remote_default_model(
    caller: Caller, outside: HuggingFaceServer
) -> None:
    made = await caller.knowledge.CreateCollection(k.CreateCollectionRequest())
    name = made.collection.name
    assert made.collection.embedding_model == MODEL
    assert made.collection.egress == c.EGRESS_LOCAL_ONLY
    owner = await own_document(caller, name)
    attempts: list[Any] = [
        caller.document(name, TEXT),
        caller.document(name, TEXT, validate_only=True),
        caller.document(name, many(TEXT)),
        caller.search(name, TEXT),
        upsert(caller, owner, [ch.Chunk(chunk_id="a", content=TEXT)]),
        upsert(caller, owner, [ch.Chunk(chunk_id=f"{i}", content=TEXT) for i in range(9)]),
        caller.vectors.EmbedTexts(v.EmbedTextsRequest(texts=[TEXT])),
        caller.vectors.EmbedTexts(v.EmbedTextsRequest(texts=[TEXT], model_id=MODEL)),
    ]
    assert all([forbidden(await refused(attempt)) for attempt in attempts])
    vector = Vector(floats=FloatVector(values=[1.0] * 384))
    await upsert(caller, owner, [ch.Chunk(chunk_id="v", content=TEXT, embedding=vector)])
    found = await caller.vectors.Search(v.SearchRequest(collection=name, vector=vector))
    assert len(found.hits) == 1
    await caller.vectors.PreviewChunks(v.PreviewChunksRequest(content=TEXT))
    await asyncio.sleep(1.5)
    assert TEXT not in outside.seen()
    assert set(outside.texts()) <= {"knowledged"}


def many(text: str) -> str:
    """So long that the workers embed it."""
    return " ".join(f"{text}, {i}." for i in range(200))


async def own_document(caller: Caller, name: str) -> str:
    document = d.Document(origin=d.ORIGIN_CALLER)
    request = k.CreateDocumentRequest(parent=name, document=document)
    return (await caller.knowledge.CreateDocument(request)).document.name


async def upsert(caller: Caller, parent: str, chunks: list[ch.Chunk]) -> Any:
    return await caller.vectors.UpsertChunks(v.UpsertChunksRequest(parent=parent, chunks=chunks))


async def test_permission_taken_back_holds_for_texts_that_wait(
    caller: Caller, outside: HuggingFaceServer
) -> None:
    outside.down = True
    name = await caller.collection()
    document = await caller.document(name, TEXT)
    assert document.state == d.DOCUMENT_STATE_PENDING
    outside.asked.clear()
    request = k.UpdateCollectionRequest(
        collection=c.Collection(name=name, egress=c.EGRESS_LOCAL_ONLY)
    )
    request.update_mask.paths.append("egress")
    await caller.knowledge.UpdateCollection(request)
    await asyncio.sleep(0.5)
    outside.down = False
    outside.asked.clear()
    assert forbidden(await refused(caller.search(name, TEXT)))
    await asyncio.sleep(2)
    assert TEXT not in outside.seen()
    got = await caller.knowledge.GetDocument(k.GetDocumentRequest(name=document.name))
    assert got.document.state == d.DOCUMENT_STATE_PENDING


async def test_what_may_leave_goes_to_the_provider_and_is_found(
    caller: Caller, outside: HuggingFaceServer, model: Model
) -> None:
    name = await caller.collection()
    assert (await caller.document(name, "Gout hurts.")).state == d.DOCUMENT_STATE_ACTIVE
    long = await caller.document(name, many("A fever is hot"), wait=True)
    assert long.state == d.DOCUMENT_STATE_ACTIVE
    assert long.chunk_count > 2
    hits = await caller.search(name, "a pain in the toe, from uric acid")
    assert hits[0].chunk.content == "Gout hurts."
    request = v.EmbedTextsRequest(texts=["gout"], model_id=MODEL, egress=c.EGRESS_PROVIDER_ALLOWED)
    embedded = await caller.vectors.EmbedTexts(request)
    assert (embedded.model_id, embedded.dimension) == (MODEL, 384)
    assert {"Gout hurts.", "gout"} <= set(outside.texts())
    assert {each.key for each in outside.embedded} == {KEY}


async def test_a_local_collection_beside_it_sends_nothing(
    caller: Caller, outside: HuggingFaceServer, model: Model
) -> None:
    name = await caller.collection(model.embedder.model_id, remote=False)
    assert (await caller.document(name, TEXT)).state == d.DOCUMENT_STATE_ACTIVE
    await caller.document(name, many(TEXT), wait=True)
    assert await caller.search(name, TEXT)
    local = v.EmbedTextsRequest(texts=[TEXT], model_id=model.embedder.model_id)
    assert (await caller.vectors.EmbedTexts(local)).model_id == model.embedder.model_id
    assert TEXT not in outside.seen()
