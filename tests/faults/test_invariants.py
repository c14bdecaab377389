"""The checks of `invariants` find what is broken: each is shown a database tampered with."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import LiteralString

import pytest

from caller import Caller, caller, request_id
from cluster import Cluster, DatabaseUrls
from import_load import text
from invariants import CHECKS, broken, waiting
from knowledge.v1.chunk_pb2 import Chunk
from knowledge.v1.document_pb2 import ORIGIN_CALLER, Document
from knowledge.v1.knowledge_service_pb2 import (
    CreateDocumentRequest,
    DeleteDocumentRequest,
    PurgeDocumentsRequest,
    RollbackDocumentRequest,
    UndeleteDocumentRequest,
    UpdateDocumentRequest,
)
from knowledge.v1.vector_service_pb2 import UpsertChunksRequest
from knowledged.app import Running
from knowledged.connection import Connection, connect
from served import Serve

TAMPERINGS: dict[str, LiteralString] = {
    "a revision without its event": """
        update knowledge.document_revision set event_id = gen_random_uuid()
    """,
    "an event of two revisions": """
        update knowledge.document_revision r set event_id = d.event_id
          from knowledge.document d where d.document_uid = r.document_uid
    """,
    "a document's event without its revision": """
        delete from knowledge.document where document_id = 'plain'
    """,
    "an event that says another action than its revision": """
        update knowledge.audit_event set action = 'documents.update'
         where action = 'documents.create'
    """,
    "a collection without its event": """
        update knowledge.collection set event_id = gen_random_uuid()
    """,
    "a collection with more or fewer events than revisions": """
        update knowledge.collection set revision = 2
    """,
    "a change that was refused and yet has a revision": """
        update knowledge.audit_event set outcome = 2 where action = 'documents.create'
    """,
    "an event whose outcome is not its code's": """
        update knowledge.audit_event set outcome = 3
    """,
    "an event that counts less than it returned": """
        update knowledge.audit_payload
           set returned_uids = array(select gen_random_uuid() from generate_series(1, 9))
    """,
    "an event twice": """
        insert into knowledge.audit_event
        select event_id, 4, leaf, occurred_at, recorded_at, rpc, action, outcome, grpc_code,
               collection_uid, result_count, payload_commit
          from knowledge.audit_event where audit_class = 3
    """,
    "an event without its payload": """
        set session_replication_role = replica;
        delete from knowledge.audit_payload where 'collections/c/documents/plain' = any (resources)
    """,
    "a payload without its event": """
        delete from knowledge.audit_event where action = 'documents.delete'
    """,
    "a payload that its event does not commit to": """
        update knowledge.audit_payload set payload = payload || '\\x00'
    """,
    "a leaf of another event": """
        update knowledge.audit_event set leaf = overlay(leaf placing '\\x00' from 9)
    """,
    # A quick sequencer has left nothing pending.
    "an event neither pending nor in the tree, or both": """
        with waiting as (delete from knowledge.audit_pending)
        delete from knowledge.audit_leaf
    """,
    "a pending row or leaf without its event": """
        insert into knowledge.audit_pending (event_id) values (gen_random_uuid())
    """,
    "a remembered request without its event": """
        update knowledge.request_log set event_id = gen_random_uuid()
    """,
    "two remembered requests of one event": """
        update knowledge.request_log
           set event_id = (select event_id from knowledge.document where document_id = 'plain')
    """,
    "revisions with a gap": "delete from knowledge.document_revision where revision = 1",
    "revisions whose times do not meet": """
        update knowledge.document_revision set to_time = to_time - interval '1 ms'
    """,
    "a text that is not what its hash says": """
        update knowledge.chunk set content = content || '.'
    """,
    "a revision with more or fewer chunks than it says": """
        update knowledge.document set chunk_count = chunk_count + 1 where document_id = 'long'
    """,
    "a caller's document with more or fewer chunks than it says": """
        update knowledge.document set chunk_count = chunk_count + 1 where document_id = 'given'
    """,
    "a text without chunks": """
        update knowledge.document set chunk_count = 0 where document_id = 'plain'
    """,
    "spans that are not contiguous": """
        delete from knowledge.chunk_span where ordinal = 1
    """,
    "a span that is not where its chunk's text stands": """
        update knowledge.chunk_span set end_offset = end_offset - 1 where ordinal = 1
    """,
    "a span of another document's chunk": """
        update knowledge.chunk_span s set document_uid = d.document_uid
          from knowledge.document d where d.document_id = 'plain' and s.ordinal = 2
    """,
    "a chunk without a span": """
        delete from knowledge.chunk_span
    """,
    "a vector without its chunk": """
        delete from knowledge.chunk where chunk_id = 'first'
    """,
    "an embedded chunk without exactly one vector": """
        delete from knowledge.chunk_vector
    """,
    "a chunk with a vector that waits for one": """
        update knowledge.chunk set state = 1
    """,
    "a searched vector of a deleted document or a former revision": """
        update knowledge.document set delete_time = now()
    """,
    "a parked vector of a live document's current revision": """
        update knowledge.document set delete_time = null
    """,
    "a document whose state is not that of its chunks": """
        update knowledge.document set state = 3
    """,
}


@pytest.fixture(scope="module")
def filled(postgres: Cluster, migrated_template: str, serve: Serve) -> Iterator[DatabaseUrls]:
    """A database in which a server has made, changed and deleted documents."""
    name = postgres.create(migrated_template)
    postgres.run(fill(serve, postgres.urls(name)))
    yield postgres.urls(name)
    postgres.drop(name)


@pytest.fixture
async def superuser(filled: DatabaseUrls) -> AsyncIterator[Connection]:
    """In a transaction that is rolled back."""
    conn = await connect(filled.superuser_dsn)
    # No foreign key and no trigger shall mend or refuse what a test breaks.
    await conn.execute("set session_replication_role = replica")
    await conn.execute("begin")
    yield conn
    await conn.close()


async def fill(serve: Serve, urls: DatabaseUrls) -> None:
    async with serve(urls, inline_chunks=2) as running, caller(address(running)) as client:
        parent = await client.create_collection("c")
        await client.create_document(parent, "plain", text(1))
        for document_id in ("changed", "long", "deleted"):
            await client.create_document(parent, document_id, text(5))
        await update(client, f"{parent}/documents/changed")
        await client.knowledge.DeleteDocument(
            DeleteDocumentRequest(name=f"{parent}/documents/deleted")
        )
        await give_chunks(client, parent)
        await live_on(client, parent)
        async with connected(urls) as conn, asyncio.timeout(30):
            while await waiting(conn):  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.05)


async def update(client: Caller, name: str) -> None:
    kept, _, _ = text(5).partition("Part 6")
    document = Document(name=name, content=kept + text(6))
    await client.knowledge.UpdateDocument(
        UpdateDocumentRequest(document=document, request_id=request_id("update", name))
    )


async def live_on(client: Caller, parent: str) -> None:
    """Documents that were rolled back, that came back, and that are gone for good."""
    for document_id in ("rolled", "returned", "purged"):
        await client.create_document(parent, document_id, text(3))
    await update(client, f"{parent}/documents/rolled")
    rolled = RollbackDocumentRequest(name=f"{parent}/documents/rolled", revision=1)
    await client.knowledge.RollbackDocument(rolled)
    name = f"{parent}/documents/returned"
    await client.knowledge.DeleteDocument(DeleteDocumentRequest(name=name))
    await client.knowledge.UndeleteDocument(UndeleteDocumentRequest(name=name))
    purge = PurgeDocumentsRequest(parent=parent, filter='document_id = "purged"', force=True)
    await client.knowledge.PurgeDocuments(purge)


async def give_chunks(client: Caller, parent: str) -> None:
    document = Document(origin=ORIGIN_CALLER)
    await client.knowledge.CreateDocument(
        CreateDocumentRequest(parent=parent, document_id="given", document=document)
    )
    chunks = [Chunk(chunk_id=i, content=i, ordinal=n) for n, i in enumerate(["first", "second"])]
    await client.vectors.UpsertChunks(
        UpsertChunksRequest(parent=f"{parent}/documents/given", chunks=chunks)
    )


def address(running: Running) -> str:
    return f"127.0.0.1:{running.port}"


@asynccontextmanager
async def connected(urls: DatabaseUrls) -> AsyncIterator[Connection]:
    conn = await connect(urls.superuser_dsn)
    try:
        yield conn
    finally:
        await conn.close()


async def test_a_database_that_a_server_filled_breaks_nothing(superuser: Connection) -> None:
    assert await broken(superuser) == {}
    parked = await superuser.fetchval("select count(*) from knowledge.chunk_vector_parked")
    assert parked > 0


@pytest.mark.parametrize("check", CHECKS)
async def test_what_is_tampered_with_is_found(superuser: Connection, check: str) -> None:
    await superuser.execute(TAMPERINGS[check])
    assert check in await broken(superuser)
