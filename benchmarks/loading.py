"""Fills a collection through the service: chunks with their vectors, in documents of origin CALLER.

A document holds sixteen chunks, and their texts as its content. Each chunk carries a number from 0
to 999 as metadata, `share`, drawn by chance with a fixed seed and declared as a filter field:
`share < 10` is then one per cent of the chunks. `lot` is the same number, not declared.
"""

import asyncio
from collections.abc import Iterator
from random import Random

from google.protobuf.struct_pb2 import Struct

from benchmarks.calling import Caller
from benchmarks.corpus import Corpus
from knowledge.v1 import knowledge_service_pb2 as knowledge
from knowledge.v1 import vector_service_pb2 as vector
from knowledge.v1.chunk_pb2 import Chunk
from knowledge.v1.collection_pb2 import Collection, FilterField, FilterFieldType
from knowledge.v1.document_pb2 import Document, Origin
from knowledge.v1.vector_pb2 import Vector

COLLECTION = "collections/bench"
SHARES = 1_000
CHUNKS_A_DOCUMENT = 16
_AT_ONCE = 8
_INDEX_SECONDS = 600.0
# A collection of fewer chunks has no index.
_INDEX_FROM = 3_000

Batch = tuple[str, list[Chunk]]


async def fill(caller: Caller, corpus: Corpus) -> None:
    """Makes the collection, stores the corpus, and waits for its index if it is to have one."""
    await caller.create_collection(
        knowledge.CreateCollectionRequest(
            collection_id="bench",
            collection=Collection(
                dimension=corpus.vectors.shape[1],
                filter_fields=[
                    FilterField(
                        path="chunk_metadata.share", type=FilterFieldType.FILTER_FIELD_TYPE_NUMBER
                    )
                ],
            ),
        )
    )
    waiting = asyncio.Semaphore(_AT_ONCE)

    async def store(batch: Batch) -> None:
        async with waiting:
            await _store(caller, *batch)

    async with asyncio.TaskGroup() as tasks:
        for batch in _batches(corpus):
            tasks.create_task(store(batch))
    if len(corpus.ids) >= _INDEX_FROM:
        await _wait_for_index(caller, corpus)


def shares(chunks: int) -> list[int]:
    """The number that each chunk carries, in the corpus's order."""
    chance = Random(7)
    return [chance.randrange(SHARES) for _ in range(chunks)]


def document_id(place: int) -> str:
    """The document of the chunk that stands at a place of the corpus."""
    return f"d{place // CHUNKS_A_DOCUMENT}"


def _batches(corpus: Corpus) -> Iterator[Batch]:
    numbers = shares(len(corpus.ids))
    for first in range(0, len(corpus.ids), CHUNKS_A_DOCUMENT):
        places = range(first, min(first + CHUNKS_A_DOCUMENT, len(corpus.ids)))
        chunks = [_chunk(corpus, place, place - first, numbers[place]) for place in places]
        yield document_id(first), chunks


def _chunk(corpus: Corpus, place: int, ordinal: int, share: int) -> Chunk:
    metadata = Struct()
    metadata.update({"share": share, "lot": share, "source": "HPO"})
    return Chunk(
        chunk_id=corpus.ids[place],
        content=corpus.texts[place],
        embedding=Vector(f32_le=corpus.vectors[place].tobytes()),
        metadata=metadata,
        ordinal=ordinal,
    )


async def _store(caller: Caller, document: str, chunks: list[Chunk]) -> None:
    metadata = Struct()
    metadata.update({"release": "2025-01-16", "part": document})
    await caller.create_document(
        knowledge.CreateDocumentRequest(
            parent=COLLECTION,
            document_id=document,
            document=Document(
                title=f"Terms {chunks[0].chunk_id} to {chunks[-1].chunk_id}",
                content="\n\n".join(chunk.content for chunk in chunks),
                origin=Origin.ORIGIN_CALLER,
                metadata=metadata,
            ),
        )
    )
    parent = f"{COLLECTION}/documents/{document}"
    await caller.upsert_chunks(vector.UpsertChunksRequest(parent=parent, chunks=chunks))


async def _wait_for_index(caller: Caller, corpus: Corpus) -> None:
    """A search says whether it compared with everything, as it must while there is no index."""
    query = Vector(f32_le=corpus.vectors[0].tobytes())
    request = vector.SearchRequest(collection=COLLECTION, vector=query)
    async with asyncio.timeout(_INDEX_SECONDS):
        while (await caller.search(request)).exact:  # noqa: ASYNC110 - the server is asked
            await asyncio.sleep(0.5)


def search_request(query: bytes, ef: int, filter: str = "") -> vector.SearchRequest:
    """The ten nearest."""
    return vector.SearchRequest(
        collection=COLLECTION, vector=Vector(f32_le=query), filter=filter, limit=10, ef=ef
    )
