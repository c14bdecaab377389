"""Documents that take chunks, and short ways to write and read them."""

from collections.abc import Callable
from typing import Any

import pytest
import pytest_asyncio
from given import make_document

from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import vector_service_pb2 as v
from knowledge.v1.chunk_pb2 import Chunk


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
