"""A client of a server under test: its stubs, and what an error says."""

import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_status import rpc_status

from knowledge.v1.audit_service_pb2_grpc import AuditServiceStub
from knowledge.v1.config_service_pb2_grpc import ConfigServiceStub
from knowledge.v1.document_pb2 import Document
from knowledge.v1.knowledge_service_pb2 import CreateCollectionRequest, CreateDocumentRequest
from knowledge.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub
from knowledge.v1.vector_service_pb2_grpc import VectorServiceStub

# The first call after a restart shall not wait for the channel's own back-off.
_OPTIONS = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)]


@dataclass(frozen=True, slots=True)
class Caller:
    """The stubs of a channel; `token` goes as metadata in `headers`."""

    channel: grpc.aio.Channel
    knowledge: Any
    vectors: Any
    audit: Any
    config: Any
    health: Any
    headers: tuple[tuple[str, str], ...] = ()

    async def status(self, service: str = "") -> str:
        """SERVING or NOT_SERVING."""
        answer = await self.health.Check(HealthCheckRequest(service=service), timeout=3)
        return HealthCheckResponse.ServingStatus.Name(answer.status)

    async def create_collection(self, collection_id: str) -> str:
        request = CreateCollectionRequest(collection_id=collection_id)
        answer = await self.knowledge.CreateCollection(request, timeout=30, metadata=self.headers)
        return answer.collection.name

    async def create_document(
        self, parent: str, document_id: str, content: str, timeout: float = 30.0
    ) -> Any:
        """With a request_id made from the names, so that it may be repeated."""
        request = creation(parent, document_id, content)
        return await self.knowledge.CreateDocument(request, timeout=timeout, metadata=self.headers)


def creation(parent: str, document_id: str, content: str) -> CreateDocumentRequest:
    return CreateDocumentRequest(
        parent=parent,
        document_id=document_id,
        document=Document(content=content),
        request_id=request_id("create", parent, document_id),
    )


def request_id(*names: str) -> str:
    """The same UUID for the same names."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(names)))


@asynccontextmanager
async def caller(address: str, token: str = "") -> AsyncGenerator[Caller]:
    headers = (("authorization", f"Bearer {token}"),) if token else ()
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        yield Caller(
            channel,
            KnowledgeServiceStub(channel),
            VectorServiceStub(channel),
            AuditServiceStub(channel),
            ConfigServiceStub(channel),
            HealthStub(channel),
            headers,
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """What a caller reads of a failed call."""

    code: str
    reason: str
    retry_seconds: float | None


def failure(error: grpc.aio.AioRpcError) -> Failure:
    status, info, retry = rpc_status.from_call(error), ErrorInfo(), RetryInfo()
    seconds = None
    for detail in status.details if status else ():
        detail.Unpack(info)
        if detail.Unpack(retry):
            seconds = retry.retry_delay.ToMilliseconds() / 1000
    return Failure(error.code().name, info.reason, seconds)
