"""A real server that knows the provider outside, and a client of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc.aio

from cluster import DatabaseUrls
from hugging_face_server import GATED, MODEL, HuggingFaceServer
from knowledge.v1 import audit_service_pb2 as a
from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import config_service_pb2 as s
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import vector_service_pb2 as v
from knowledge.v1.audit_service_pb2_grpc import AuditServiceStub
from knowledge.v1.config_service_pb2_grpc import ConfigServiceStub
from knowledge.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub
from knowledge.v1.vector_service_pb2_grpc import VectorServiceStub
from served import Serve

NAME = "providers/huggingface"
MISSING_MODEL = "test/missing"


@dataclass(frozen=True, slots=True)
class Caller:
    """The stubs of a server that listens at `port`."""

    port: int
    knowledge: Any
    vectors: Any
    audit: Any
    config: Any

    async def collection(
        self, model: str = MODEL, *, remote: bool = True, collection_id: str = ""
    ) -> str:
        """The name of a new collection whose text may leave, unless it may not."""
        egress = c.EGRESS_PROVIDER_ALLOWED if remote else c.EGRESS_LOCAL_ONLY
        made = c.Collection(embedding_model=model, egress=egress)
        request = k.CreateCollectionRequest(collection=made, collection_id=collection_id)
        return (await self.knowledge.CreateCollection(request)).collection.name

    async def document(self, parent: str, content: str, **fields: Any) -> d.Document:
        request = k.CreateDocumentRequest(
            parent=parent, document=d.Document(content=content), **fields
        )
        return (await self.knowledge.CreateDocument(request)).document

    async def search(self, collection: str, text: str, seconds: float = 20.0) -> list[Any]:
        request = v.SearchRequest(collection=collection, text=text, exact=True)
        return list((await self.vectors.Search(request, timeout=seconds)).hits)

    async def set_key(self, key: str, **fields: Any) -> s.ProviderCredential:
        request = s.SetProviderCredentialRequest(name=NAME, api_key=key, **fields)
        return (await self.config.SetProviderCredential(request)).credential

    async def credential(self) -> s.ProviderCredential:
        request = s.GetProviderCredentialRequest(name=NAME)
        return (await self.config.GetProviderCredential(request)).credential

    async def status(self, model: str = MODEL) -> s.ProviderStatus:
        info = await self.config.GetServerInfo(s.GetServerInfoRequest())
        return next(each for each in info.providers if each.model_id == model)

    async def events(self, filter: str = "") -> list[Any]:
        request = a.ListAuditEventsRequest(filter=filter, page_size=1_000)
        return list((await self.audit.ListAuditEvents(request)).events)

    async def actions(self) -> list[str]:
        return [event.action for event in await self.events()]


def settings(outside: HuggingFaceServer, **more: Any) -> dict[str, Any]:
    """Settings that lead to the provider outside by its router."""
    given = {
        "hugging_face_models": (f"{MODEL}:384", f"{GATED}:384", f"{MISSING_MODEL}:384"),
        "hugging_face_router_url": outside.url,
        "hugging_face_hub_url": outside.url,
    }
    return given | more


@asynccontextmanager
async def calling(port: int) -> AsyncIterator[Caller]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Caller(
            port,
            KnowledgeServiceStub(channel),
            VectorServiceStub(channel),
            AuditServiceStub(channel),
            ConfigServiceStub(channel),
        )


@asynccontextmanager
async def server(
    serve: Serve, urls: DatabaseUrls, outside: HuggingFaceServer, **more: Any
) -> AsyncIterator[Caller]:
    parts = {name: more.pop(name) for name in ("secrets",) if name in more}
    async with (
        serve(urls, parts, **settings(outside, **more)) as running,
        calling(running.port) as caller,
    ):
        yield caller
