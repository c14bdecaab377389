"""A storm of calls that nobody waits for: connections come back, and the next call is answered."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

import grpc.aio

from caller import Caller, creation
from guarded import Guarded
from invariants import broken
from knowledge.v1.knowledge_service_pb2 import ListDocumentsRequest
from knowledge.v1.vector_service_pb2 import EmbedTextsRequest, SearchRequest
from knowledged.connection import Connection
from server_process import superuser

CALLS = 200
POOL_SIZE = 4
# Besides the pools: those of health, of the audit of reads, and of the keeper of vector spaces.
OTHERS = 3

BUSY = """
    select count(*)
      from pg_stat_activity
     where usename = 'knowledge_server' and state <> 'idle' and pid <> pg_backend_pid()
"""
CONNECTED = "select count(*) from pg_stat_activity where usename like 'knowledge_%'"


async def test_a_storm_of_deadlines_and_cancels_passes(
    guarded: Guarded, administrator: Caller
) -> None:
    client = administrator
    parent = await client.create_collection("storm")
    await client.create_document(parent, "first", "A fever.")
    chance = random.Random(7)
    codes = await asyncio.gather(*(hurried(client, parent, n, chance) for n in range(CALLS)))
    assert set(codes) <= {"OK", "DEADLINE_EXCEEDED", "CANCELLED", "RESOURCE_EXHAUSTED"}
    assert {"DEADLINE_EXCEEDED", "CANCELLED"} <= set(codes)
    await client.create_document(parent, "after", "A cough.", timeout=10)
    async with superuser(guarded.server) as conn:
        await idle(conn)
        assert await conn.fetchval(CONNECTED) <= POOL_SIZE + OTHERS
        answers = await asyncio.gather(*(listed(client, parent) for _ in range(4 * POOL_SIZE)))
        assert min(answers) >= 2
        assert await broken(conn) == {}
    assert guarded.server.own_bugs() == []


async def hurried(client: Caller, parent: str, number: int, chance: random.Random) -> str:
    """The code of a call with a deadline of 1 to 30 ms, or one that is cancelled that soon."""
    await asyncio.sleep(chance.random())
    seconds = chance.uniform(0.001, 0.03)
    method, request = chance.choice(kinds(client, parent, number))
    cancelled = chance.random() < 0.5
    call = method(request, timeout=10 if cancelled else seconds, metadata=client.headers)
    if cancelled:
        asyncio.get_running_loop().call_later(seconds, call.cancel)
    with suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
        await call
    return (await call.code()).name


def kinds(
    client: Caller, parent: str, number: int
) -> list[tuple[Callable[..., Awaitable[object]], object]]:
    texts = EmbedTextsRequest(texts=[f"Fever number {number}."])
    return [
        (client.knowledge.CreateDocument, creation(parent, f"storm-{number}", f"Case {number}.")),
        (client.knowledge.ListDocuments, ListDocumentsRequest(parent=parent)),
        (client.vectors.Search, SearchRequest(collection=parent, text=f"case {number}")),
        (client.vectors.EmbedTexts, texts),
    ]


async def idle(conn: Connection) -> None:
    async with asyncio.timeout(10):
        while await conn.fetchval(BUSY):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.05)


async def listed(client: Caller, parent: str) -> int:
    request = ListDocumentsRequest(parent=parent)
    answer = await client.knowledge.ListDocuments(request, timeout=10, metadata=client.headers)
    return len(answer.documents)
