"""EmbedTexts and PreviewChunks, over the wire."""

from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.json_format import MessageToDict
from numpy.typing import NDArray
from refusal import refused

from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import vector_service_pb2 as v

Code = grpc.StatusCode
MARKER = "Zebrafinch"
TEXT = "\n\n".join(
    f"Paragraph {i} tells of the therapy of disease {i}, and of what the nurse must know. " * 3
    for i in range(12)
)


async def embed(vectors: Any, *texts: str, **fields: Any) -> NDArray[np.float32]:
    """The texts' embeddings, (n, 384)."""
    answer = await vectors.EmbedTexts(v.EmbedTextsRequest(texts=texts, **fields))
    rows = [np.frombuffer(each.f32_le, "<f4") for each in answer.embeddings]
    return np.asarray(rows)


async def test_embeddings_have_the_dimension_that_is_said_and_length_one(vectors: Any) -> None:
    answer = await vectors.EmbedTexts(v.EmbedTextsRequest(texts=["a", "b c d"]))
    assert answer.dimension == 384
    assert answer.model_id
    assert len(bytes.fromhex(answer.model_digest)) == 32
    rows = await embed(vectors, "a", "b c d")
    assert rows.shape == (2, 384)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


async def test_embeddings_come_in_the_order_of_the_texts(vectors: Any) -> None:
    texts = ["a broken arm", "high blood pressure " * 20, "gout", "the common cold"]
    together = await embed(vectors, *texts)
    for place, text in enumerate(texts):
        (alone,) = await embed(vectors, text)
        assert int(np.argmax(together @ alone)) == place
        assert float(together[place] @ alone) > 0.999


async def test_what_means_the_same_is_near(vectors: Any) -> None:
    rows = await embed(vectors, "high blood pressure", "hypertension", "a broken arm")
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.2


@pytest.mark.parametrize("task", [v.EMBEDDING_TASK_QUERY, v.EMBEDDING_TASK_PASSAGE])
async def test_both_tasks_are_known(task: v.EmbeddingTask, vectors: Any) -> None:
    assert (await embed(vectors, "gout", task=task)).shape == (1, 384)


@pytest.mark.parametrize(
    ("texts", "task", "fields"),
    [
        ([], 0, {"texts"}),
        (["x"] * 257, 0, {"texts"}),
        (["x", " "], 0, {"texts[1]"}),
        (["", "x", "x" * 65_537], 9, {"texts[0]", "texts[2]", "task"}),
        ([f"{MARKER}\0"], 0, {"texts[0]"}),
    ],
)
async def test_bad_texts_are_named_all_at_once(
    texts: list[str], task: Any, fields: set[str], vectors: Any
) -> None:
    refusal = await refused(embed(vectors, *texts, task=task))
    assert (refusal.code, set(refusal.fields)) == (Code.INVALID_ARGUMENT, fields)
    assert MARKER not in refusal.raw


async def preview(vectors: Any, content: str, **fields: Any) -> list[Any]:
    request = v.PreviewChunksRequest(content=content, **fields)
    return list((await vectors.PreviewChunks(request)).chunks)


async def test_a_preview_gives_pieces_in_order_with_their_offsets(vectors: Any) -> None:
    policy = c.ChunkingPolicy(max_tokens=64, overlap_tokens=16)
    pieces = await preview(vectors, TEXT, chunking=policy)
    assert len(pieces) > 5
    assert [piece.ordinal for piece in pieces] == list(range(len(pieces)))
    for piece in pieces:
        assert piece.content == TEXT[piece.start_offset : piece.end_offset]
        assert 0 < piece.token_count <= 64
        assert not piece.HasField("embedding")


async def test_offsets_count_code_points(vectors: Any) -> None:
    (piece,) = await preview(vectors, "😀 Übelkeit\u0301")
    assert (piece.start_offset, piece.end_offset) == (0, 11)


async def test_a_preview_is_what_a_document_is_cut_into(
    knowledge: Any, vectors: Any, make_collection: Any
) -> None:
    policy = c.ChunkingPolicy(max_tokens=50, overlap_tokens=0)
    collection = await make_collection(chunking=policy)
    request = k.CreateDocumentRequest(
        parent=collection.name, document=d.Document(content=TEXT), wait=True
    )
    document = (await knowledge.CreateDocument(request, timeout=30)).document
    listing = v.ListChunksRequest(parent=document.name, view=d.VIEW_FULL, page_size=1000)
    stored = (await vectors.ListChunks(listing)).chunks
    shown = await preview(vectors, TEXT, chunking=policy)
    names = ("content", "ordinal", "startOffset", "endOffset", "tokenCount")
    assert [part(each, names) for each in stored] == [part(each, names) for each in shown]


def part(chunk: Any, names: tuple[str, ...]) -> dict[str, Any]:
    found = MessageToDict(chunk)
    return {name: found.get(name) for name in names}


async def test_markdown_is_cut_at_its_headings(vectors: Any) -> None:
    section = "word " * 40
    text = f"# One\n\n{section}\n\n# Two\n\n{section}"
    policy = c.ChunkingPolicy(max_tokens=60, overlap_tokens=0)
    pieces = await preview(vectors, text, mime_type="text/markdown", chunking=policy)
    assert [piece.content.startswith("# ") for piece in pieces] == [True, True]


async def test_an_overlap_of_zero_is_zero(vectors: Any) -> None:
    policy = c.ChunkingPolicy(max_tokens=32, overlap_tokens=0)
    pieces = await preview(vectors, TEXT, chunking=policy)
    ends = [piece.end_offset for piece in pieces[:-1]]
    assert all(end <= piece.start_offset for end, piece in zip(ends, pieces[1:], strict=True))


async def test_bad_previews_are_named_all_at_once(vectors: Any) -> None:
    policy = c.ChunkingPolicy(max_tokens=15, overlap_tokens=9)
    refusal = await refused(
        preview(vectors, f"{MARKER}\0", mime_type="application/pdf", chunking=policy)
    )
    assert refusal.code is Code.INVALID_ARGUMENT
    assert set(refusal.fields) == {
        "content",
        "mime_type",
        "chunking.max_tokens",
        "chunking.overlap_tokens",
    }
    assert MARKER not in refusal.raw


@pytest.mark.parametrize("content", ["", " \n"])
async def test_a_blank_text_is_refused(content: str, vectors: Any) -> None:
    refusal = await refused(preview(vectors, content))
    assert (refusal.code, set(refusal.fields)) == (Code.INVALID_ARGUMENT, {"content"})
