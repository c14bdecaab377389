"""Imports that break off at random moments and go on: every document is there once, and every ack
tells the truth."""

import asyncio
import random
import uuid
from typing import Any

import grpc.aio
import pytest

from broken_import import BrokenImport, document_id, text
from cluster import DatabaseUrls
from knowledge.v1.document_pb2 import Document
from knowledge.v1.intake_pb2 import INTAKE_STATE_CREATED
from knowledge.v1.knowledge_service_pb2 import CreateCollectionRequest
from knowledge.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub
from knowledged.commands.client import open_client
from knowledged.commands.importer import Importer, Outcome, open_collection
from knowledged.commands.reader import Item
from knowledged.connection import Connection, connect
from knowledged.settings import Settings
from served import Serve
from server_process import server_process, superuser

STORED = "select document_id, content, event_id::text as event_id from knowledge.document"
EVENTS = """
    select event_id::text as event_id
      from knowledge.audit_event
     where action = 'documents.create'
"""
MIB = 1024 * 1024


async def make_collection(channel: grpc.aio.Channel) -> None:
    knowledge: Any = KnowledgeServiceStub(channel)
    await knowledge.CreateCollection(CreateCollectionRequest(collection_id="leaflets"))


async def check(conn: Connection, done: BrokenImport) -> None:
    """All there once, as it was sent, by the event that its ack told; and no other event."""
    stored = {row["document_id"]: row for row in await conn.fetch(STORED)}
    numbers = range(1, done.documents + 1)
    assert sorted(stored) == [document_id(n) for n in numbers]
    assert all(stored[document_id(n)]["content"] == text(n) for n in numbers)
    assert [ack.sequence for ack in done.acks] == list(numbers)
    assert {ack.state for ack in done.acks} == {INTAKE_STATE_CREATED}
    told = [ack.receipt.event_id for ack in done.acks]
    assert told == [stored[document_id(n)]["event_id"] for n in numbers]
    events = [row["event_id"] for row in await conn.fetch(EVENTS)]
    assert sorted(events) == sorted(told)


async def test_an_import_goes_on_after_breaks_and_with_another_server(
    database_urls: DatabaseUrls, serve: Serve
) -> None:
    bringing = BrokenImport("collections/leaflets", 300, str(uuid.uuid4()))
    moments = sorted(random.Random(3).sample(range(1, 280), 3))
    for part, until in enumerate([*moments, None]):
        async with (
            serve(database_urls) as running,
            grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel,
        ):
            if part == 0:
                await make_collection(channel)
            assert await bringing.stream(channel, until) is (until is None)
    assert all(after > 0 for after in bringing.resumed_after[1:])
    conn = await connect(database_urls.superuser_dsn)
    await check(conn, bringing)
    await conn.close()


async def test_the_command_line_goes_on_when_the_server_comes_back(
    database_urls: DatabaseUrls, serve: Serve, unused_tcp_port: int
) -> None:
    port, told = unused_tcp_port, list[Outcome]()
    half = asyncio.Event()

    def tell(outcome: Outcome) -> None:
        told.append(outcome)
        if len(told) >= 200:
            half.set()

    async with open_client(f"127.0.0.1:{port}", Settings()) as client:
        async with serve(database_urls, port=port, shutdown_grace_seconds=0):
            collection = await open_collection(client, "leaflets", create=True)
            items = [Item(document_id(n), Document(content=text(n))) for n in range(1, 501)]
            importing = asyncio.create_task(Importer(client, collection, tell).run(items))
            await half.wait()
        async with serve(database_urls, port=port):
            report = await importing
    assert report.complete, report
    assert report.outcomes == {Outcome.CREATED: 500}
    conn = await connect(database_urls.superuser_dsn)
    assert await conn.fetchval("select max(stream_number) from knowledge.intake_session") > 1
    assert await conn.fetchval("select count(*) from knowledge.document") == 500
    await conn.close()


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.timeout(1800)
async def test_twenty_thousand_documents_come_in_through_ten_breaks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """At every third break the server is killed and started again."""
    bringing = BrokenImport("collections/leaflets", 20_000, str(uuid.uuid4()))
    moments = sorted(random.Random(4).sample(range(1, 20_000), 10))
    async with server_process(log_level="warning") as server:
        idle, peaks = server.peak_memory_bytes(), list[int]()
        for part, until in enumerate([*moments, None]):
            async with grpc.aio.insecure_channel(server.address) as channel:
                if part == 0:
                    await make_collection(channel)
                assert await bringing.stream(channel, until) is (until is None)
            peaks.append(server.peak_memory_bytes())
            if part % 3 == 2:
                server.kill()
                server.start()
        async with superuser(server) as conn:
            await check(conn, bringing)
        assert server.own_bugs() == []
    with capsys.disabled():
        peak = max(peaks)
        print(f"resident: {idle / MIB:.0f} MiB at first, {peak / MIB:.0f} MiB at most")
    assert peak - idle < 256 * MIB
