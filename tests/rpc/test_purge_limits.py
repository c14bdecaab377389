"""Purges on a server of their own: a small batch limit, and documents under legal hold."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from asking import creation
from refusal import refused

from cluster import DatabaseUrls
from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub
from knowledged.connection import connect
from served import Serve

Code = grpc.StatusCode
HOLD = """
    create or replace function knowledge.is_held(held_document uuid) returns boolean
        language sql stable
        as $$ select exists (select from knowledge.document
                              where document_uid = held_document and document_id = 'held') $$
"""


@dataclass(frozen=True, slots=True)
class Small:
    """A server that takes three items at once, and its database."""

    knowledge: Any
    urls: DatabaseUrls

    async def collection(self, *document_ids: str) -> c.Collection:
        made = await self.knowledge.CreateCollection(k.CreateCollectionRequest())
        for document_id in document_ids:
            request = creation(made.collection, document_id, origin=d.ORIGIN_CALLER)
            await self.knowledge.CreateDocument(request)
        return made.collection

    async def purged(self, collection: c.Collection, **fields: Any) -> k.PurgeDocumentsResponse:
        return await self.knowledge.PurgeDocuments(
            k.PurgeDocumentsRequest(parent=collection.name, filter="create_time:*", **fields)
        )

    async def hold(self) -> None:
        owner = await connect(self.urls.owner_dsn)
        await owner.execute(HOLD)
        await owner.close()


@pytest.fixture
def small_database(only_here: None, request: pytest.FixtureRequest) -> DatabaseUrls:
    """Asked for late, so that no PostgreSQL starts for a TARGET."""
    urls: DatabaseUrls = request.getfixturevalue("database_urls")
    return urls


@pytest_asyncio.fixture(loop_scope="session")
async def small(small_database: DatabaseUrls, serve: Serve) -> AsyncIterator[Small]:
    async with (
        serve(small_database, max_batch_items=3) as running,
        grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as opened,
    ):
        yield Small(KnowledgeServiceStub(opened), small_database)


async def test_a_purge_takes_a_batch_at_a_time_and_says_so(small: Small) -> None:
    collection = await small.collection("a", "b", "c", "d")
    assert (await small.purged(collection)).purge_count == 4
    request_id = "0190f5fe-7c00-7000-8000-000000000001"
    first = await small.purged(collection, force=True, request_id=request_id)
    assert (first.purge_count, first.more) == (3, True)
    assert await small.purged(collection, force=True, request_id=request_id) == first
    last = await small.purged(collection, force=True)
    assert (last.purge_count, last.more) == (1, False)


async def test_what_is_held_is_neither_purged_nor_goes_with_its_collection(small: Small) -> None:
    collection = await small.collection("held", "free")
    await small.hold()
    dry = await small.purged(collection)
    assert (dry.purge_count, dry.held_count) == (2, 1)
    for call in (
        small.purged(collection, force=True),
        small.knowledge.DeleteCollection(
            k.DeleteCollectionRequest(name=collection.name, force=True)
        ),
    ):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (Code.FAILED_PRECONDITION, "LEGAL_HOLD")
    listed = await small.knowledge.ListDocuments(k.ListDocumentsRequest(parent=collection.name))
    assert len(listed.documents) == 2
    free = k.PurgeDocumentsRequest(
        parent=collection.name, filter='document_id = "free"', force=True
    )
    assert (await small.knowledge.PurgeDocuments(free)).purge_count == 1
