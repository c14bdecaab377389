"""Chunks as a caller gives them, for the tests of chunks."""

from typing import Any

import numpy as np

from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1.chunk_pb2 import Chunk
from knowledge.v1.vector_pb2 import Vector


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
