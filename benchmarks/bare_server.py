"""A server without a house: grpc.aio on uvloop, raw's own statements, answers as messages.

It resolves no name, checks neither token nor fields, records and counts nothing; it is what is left
of a service when all that is ours is taken away: a yardstick for what that costs. It is no ceiling,
since it sends each search to the database alone.
`python -m benchmarks.bare_server DSN COLLECTION SPACE EF` serves; it prints its port.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import grpc.aio
import uvloop

from benchmarks import raw
from benchmarks.raw import Place
from knowledge.v1.document_pb2 import Document
from knowledge.v1.knowledge_service_pb2 import GetDocumentRequest
from knowledge.v1.knowledge_service_pb2_grpc import KnowledgeServiceServicer
from knowledge.v1.knowledge_service_pb2_grpc import (
    add_KnowledgeServiceServicer_to_server as add_knowledge,
)
from knowledge.v1.vector_service_pb2 import Hit, SearchRequest, SearchResponse
from knowledge.v1.vector_service_pb2_grpc import VectorServiceServicer
from knowledge.v1.vector_service_pb2_grpc import add_VectorServiceServicer_to_server as add_vector
from knowledged.services import pack
from knowledged.services.json_struct import fill

# Each asks one statement after another: a few keep PostgreSQL busy.
_CONNECTIONS = 4


class _Connections:
    """Lent to whoever has waited longest."""

    def __init__(self, opened: Any) -> None:
        self._free: asyncio.Queue[Any] = asyncio.Queue()
        for conn in opened:
            self._free.put_nowait(conn)

    @asynccontextmanager
    async def lent(self) -> AsyncGenerator[Any]:
        conn = await self._free.get()
        try:
            yield conn
        finally:
            self._free.put_nowait(conn)


class _Vectors(VectorServiceServicer):
    def __init__(self, connections: _Connections, place: Place) -> None:
        self._connections, self._space_uid = connections, place.space_uid

    async def Search(self, request: SearchRequest, context: Any) -> SearchResponse:
        async with self._connections.lent() as conn:
            vector = request.vector.f32_le
            rows = await conn.fetch(raw.SEARCH, vector, self._space_uid, request.limit)
        answer = SearchResponse()
        for row in rows:
            _fill_hit(answer.hits.add(), row)
        return answer


class _Documents(KnowledgeServiceServicer):
    def __init__(self, connections: _Connections, place: Place) -> None:
        self._connections, self._collection_uid = connections, place.collection_uid

    async def GetDocument(self, request: GetDocumentRequest, context: Any) -> Document:
        document_id = request.name.rpartition("/")[2]
        async with self._connections.lent() as conn:
            row = await conn.fetchrow(raw.DOCUMENT, self._collection_uid, document_id)
        answer = Document(
            name=request.name,
            title=row["title"],
            content=row["content"],
            mime_type=row["mime_type"],
            state=row["state"],
            revision=row["revision"],
            create_time=pack.timestamp(row["create_time"]),
            update_time=pack.timestamp(row["update_time"]),
        )
        fill(answer.metadata, row["metadata"])
        return answer


def _fill_hit(hit: Hit, row: Any) -> None:
    hit.score = row["score"]
    hit.chunk.chunk_id, hit.chunk.content = row["chunk_id"], row["content"]
    hit.document.name, hit.document.title = row["document_id"], row["title"]
    fill(hit.chunk.metadata, row["chunk_metadata"])
    fill(hit.document.metadata, row["metadata"])


async def _serve(dsn: str, place: Place) -> None:
    async with raw.connections(dsn, place.ef, _CONNECTIONS) as opened:
        server, connections = grpc.aio.server(), _Connections(opened)
        add_vector(_Vectors(connections, place), server)
        add_knowledge(_Documents(connections, place), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(port, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    _dsn, _collection_uid, _space_uid, _ef = sys.argv[1:]
    uvloop.run(_serve(_dsn, Place(UUID(_collection_uid), UUID(_space_uid), int(_ef))))
