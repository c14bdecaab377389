"""A reply that gets lost after the commit: the same request again gives the same document, once."""

import asyncio
import random
from contextlib import suppress

import grpc.aio

from caller import Caller, creation
from guarded import Guarded
from invariants import broken
from knowledge.v1.knowledge_service_pb2 import CreateDocumentRequest
from server_process import superuser

REQUESTS = 30

STORED = """
    select d.event_id::text
      from knowledge.document d
      join knowledge.collection c using (collection_uid)
     where c.collection_id = 'replies'
"""


async def test_a_request_whose_reply_was_lost_is_done_once(
    guarded: Guarded, administrator: Caller
) -> None:
    parent = await administrator.create_collection("replies")
    chance = random.Random(11)
    lost = await asyncio.gather(
        *(abandoned(administrator, parent, n, chance.uniform(0, 0.5)) for n in range(REQUESTS))
    )
    assert any(lost)
    retried = [await settled(administrator, parent, n) for n in range(REQUESTS)]
    again = [await settled(administrator, parent, n) for n in range(REQUESTS)]
    assert retried == again
    async with superuser(guarded.server) as conn:
        stored = await conn.fetch(STORED)
        assert sorted(row[0] for row in stored) == sorted(retried)
        assert await broken(conn) == {}


async def abandoned(client: Caller, parent: str, number: int, seconds: float) -> bool:
    """Sends a request and gives up on it after so many seconds; whether its reply was lost."""
    call = client.knowledge.CreateDocument(request(parent, number), metadata=client.headers)
    await asyncio.sleep(seconds)
    call.cancel()
    with suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
        await call
    return (await call.code()) is not grpc.StatusCode.OK


async def settled(client: Caller, parent: str, number: int) -> str:
    """The event of the request, sent until it is answered."""
    answer = await client.knowledge.CreateDocument(
        request(parent, number), timeout=10, metadata=client.headers
    )
    return answer.receipt.event_id


def request(parent: str, number: int) -> CreateDocumentRequest:
    return creation(parent, f"reply-{number}", f"Case {number} with a cough.")
