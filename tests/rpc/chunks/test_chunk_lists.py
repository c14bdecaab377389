"""ListChunks: pages, filters, and what is shown."""

from typing import Any

import grpc
import pytest
from asking import struct
from given import chunk, f32, make_document
from refusal import refused

from knowledge.v1 import document_pb2 as d
from knowledge.v1 import vector_service_pb2 as v
from knowledge.v1.chunk_pb2 import Chunk

Code = grpc.StatusCode


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
