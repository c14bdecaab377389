"""A document's text on its way to being searchable."""

import asyncio
import time
from typing import Any

import grpc
import grpc.aio
from asking import creation, update

from cluster import DatabaseUrls
from knowledge.v1 import chunk_pb2 as ch
from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import vector_service_pb2 as v
from knowledge.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub
from served import Serve

Code = grpc.StatusCode


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


async def test_wait_ends_before_the_deadline(
    only_here: None, serve: Serve, database_urls: DatabaseUrls
) -> None:
    async with (
        serve(database_urls, text_workers=0) as running,
        grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        knowledge: Any = KnowledgeServiceStub(channel)
        small = c.Collection(chunking=c.ChunkingPolicy(max_tokens=16, overlap_tokens=0))
        made = await knowledge.CreateCollection(k.CreateCollectionRequest(collection=small))
        request = creation(made.collection, content=long_text(80))
        request.wait, began = True, time.monotonic()
        document = (await knowledge.CreateDocument(request, timeout=3)).document
        assert document.state == d.DOCUMENT_STATE_PENDING
        assert time.monotonic() - began > 2
