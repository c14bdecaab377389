"""Collections filled with vectors, and what a search of them must find."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from asking import struct
from numpy.typing import NDArray

from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import vector_service_pb2 as v
from knowledge.v1.chunk_pb2 import Chunk
from knowledge.v1.vector_pb2 import Vector

NUMBER = c.FILTER_FIELD_TYPE_NUMBER
STRING = c.FILTER_FIELD_TYPE_STRING
Floats = NDArray[np.float32]


def vector(values: Any) -> Vector:
    return Vector(f32_le=np.asarray(values, "<f4").tobytes())


def random_vectors(count: int, dimension: int, seed: int = 7) -> Floats:
    """Vectors, (count, dimension), around random centres, as texts lie around topics."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(1).normal(size=(40, dimension))
    noise = 0.3 * random.normal(size=(count, dimension))
    return (centres[random.integers(40, size=count)] + noise).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Filled:
    """A collection of chunks `c0`, `c1`, ... in order of `rows`, (n, dimension)."""

    collection: c.Collection
    rows: Floats

    def scores(self, query: Floats) -> Floats:
        """The documented formula, in float64 rounded to float32; (n,)."""
        rows, asked = self.rows.astype(np.float64), query.astype(np.float64)
        match self.collection.distance:
            case c.DISTANCE_COSINE:
                norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(asked)
                found = rows @ asked / norms
            case c.DISTANCE_L2:
                found = 1 / (1 + np.linalg.norm(rows - asked, axis=1))
            case _:
                found = rows @ asked
        return found.astype(np.float32)


async def fill(
    knowledge: Any, vectors: Any, collection: c.Collection, rows: Floats, **fields: Any
) -> str:
    """Writes the rows as chunks of one document, by batches; the document's name."""
    request = k.CreateDocumentRequest(
        parent=collection.name, document=d.Document(origin=d.ORIGIN_CALLER, **fields)
    )
    name = (await knowledge.CreateDocument(request)).document.name
    for first in range(0, len(rows), 500):
        batch = enumerate(rows[first : first + 500], first)
        chunks = [
            Chunk(
                chunk_id=f"c{i}",
                ordinal=i,
                embedding=vector(row),
                metadata=struct(place=i, kind="even" if i % 2 == 0 else "odd"),
            )
            for i, row in batch
        ]
        await vectors.UpsertChunks(v.UpsertChunksRequest(parent=name, chunks=chunks))
    return name


Search = Callable[..., Awaitable[v.SearchResponse]]


def found_ids(answer: v.SearchResponse) -> list[str]:
    return [hit.chunk.chunk_id for hit in answer.hits]


def found_documents(answer: v.SearchResponse) -> list[str]:
    return [hit.document.name.rsplit("/", 1)[1] for hit in answer.hits]
