"""A caller of the service: a channel with its token on every call."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio

from knowledge.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub
from knowledge.v1.vector_service_pb2_grpc import VectorServiceStub

Rpc = Callable[[Any], Any]


class Caller:
    """The RPCs that are measured or prepare a measurement, ready to be called."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        metadata = (("authorization", f"Bearer {token}"),)

        def bound(rpc: Any) -> Rpc:
            # No deadline: raw has none either, and each would cost caller and service a timer.
            return lambda request: rpc(request, metadata=metadata)

        knowledge, vector = KnowledgeServiceStub(channel), VectorServiceStub(channel)
        self.create_collection = bound(knowledge.CreateCollection)
        self.create_document = bound(knowledge.CreateDocument)
        self.batch_create_documents = bound(knowledge.BatchCreateDocuments)
        self.list_documents = bound(knowledge.ListDocuments)
        self.get_document = bound(knowledge.GetDocument)
        self.upsert_chunks = bound(vector.UpsertChunks)
        self.ingest_chunks = bound(vector.IngestChunks)
        self.search = bound(vector.Search)
        self.batch_search = bound(vector.BatchSearch)


@asynccontextmanager
async def caller(address: str, token: str) -> AsyncGenerator[Caller]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield Caller(channel, token)
