"""Whatever bytes a method gets, the answer blames the caller, and the server lives."""

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import grpc.aio
import pytest

from caller import Caller
from guarded import Guarded
from invariants import broken
from knowledge.v1.chunk_pb2 import Chunk
from knowledge.v1.document_pb2 import ORIGIN_CALLER, Document
from knowledge.v1.knowledge_service_pb2 import CreateDocumentRequest
from knowledge.v1.vector_service_pb2 import UpsertChunksRequest
from knowledged.app import service_descriptors
from nasty import Nasty
from server_process import superuser

BLAMED = {
    "OK",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "FAILED_PRECONDITION",
    "ABORTED",
}
MESSAGE_LIMIT = 4 * 2**20
CALLS_AT_ONCE = 4
CALL_SECONDS = 30.0
ROUNDS = 5

METHODS = {
    f"/{service.full_name}/{name}": method
    for service in service_descriptors()
    for name, method in service.methods_by_name.items()
}


async def test_nothing_a_caller_sends_is_the_servers_fault(
    guarded: Guarded, administrator: Caller
) -> None:
    await fuzzed(guarded, administrator, seed=1, scenes=1)


@pytest.mark.fault
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(2, 6))
async def test_nothing_a_caller_sends_for_long_is_the_servers_fault(
    guarded: Guarded, administrator: Caller, seed: int
) -> None:
    await fuzzed(guarded, administrator, seed, scenes=20)


@pytest.mark.parametrize("path", METHODS)
async def test_a_message_over_the_limit_is_refused(administrator: Caller, path: str) -> None:
    too_large = b"\0" * (MESSAGE_LIMIT + 1)
    assert await sent(administrator, path, too_large, CALL_SECONDS) == "RESOURCE_EXHAUSTED"


async def fuzzed(guarded: Guarded, client: Caller, seed: int, scenes: int) -> None:
    """New resources for each scene: the requests of the one before may have deleted theirs."""
    chance = random.Random(seed)
    surprises: list[tuple[str, str, bytes]] = []
    for scene in range(scenes):
        names = await resources(client, f"fuzz-{seed}-{scene}")
        todo = iter(list(requests(Nasty(chance, names))))

        async def work(todo: Iterator[tuple[str, bytes]] = todo) -> None:
            for path, request in todo:
                code = await sent(client, path, request)
                if code not in BLAMED:
                    surprises.append((code, path, request))

        await asyncio.gather(*(work() for _ in range(CALLS_AT_ONCE)))
    assert surprises == []
    assert await client.status() == "SERVING"
    assert guarded.server.own_bugs() == []
    async with superuser(guarded.server) as conn:
        assert await broken(conn) == {}


def requests(nasty: Nasty) -> Iterator[tuple[str, bytes]]:
    for _ in range(ROUNDS):
        for path, method in METHODS.items():
            message = nasty.request(method.input_type)
            yield path, message.SerializeToString()
            yield path, nasty.garbled(message)
            yield path, nasty.noise()


async def resources(client: Caller, collection_id: str) -> dict[str, str]:
    """Names of what is there, by how the messages' names begin in which they make sense."""
    parent = await client.create_collection(collection_id)
    given, document = f"{parent}/documents/given", f"{parent}/documents/document"
    await client.create_document(parent, "document", "A fever. A cough.")
    await client.create_document(parent, "doomed", "A fever. A cough.")
    request = CreateDocumentRequest(
        parent=parent, document_id="given", document=Document(origin=ORIGIN_CALLER)
    )
    await client.knowledge.CreateDocument(request, metadata=client.headers)
    chunks = UpsertChunksRequest(parent=given, chunks=[Chunk(chunk_id="a", content="A cough.")])
    await client.vectors.UpsertChunks(chunks, metadata=client.headers)
    doomed = await client.create_collection(f"{collection_id}-doomed")
    return {
        **dict.fromkeys(("CreateDocument", "ListDocuments", "Search", "GetCollection"), parent),
        **dict.fromkeys(("GetDocument", "Document"), document),
        **dict.fromkeys(("ListChunks", "UpsertChunks"), given),
        **dict.fromkeys(("GetChunk", "DeleteChunk"), f"{given}/chunks/a"),
        "Collection": parent,
        "DeleteDocument": f"{parent}/documents/doomed",
        "DeleteCollection": doomed,
    }


async def sent(
    client: Caller, path: str, request: bytes, goes_on_after_seconds: float = 1.0
) -> str:
    """The code that these bytes are answered with; OK of a stream that answers, or goes on."""
    if not METHODS[path].server_streaming:
        call = client.channel.unary_unary(path)(
            request, timeout=CALL_SECONDS, metadata=client.headers
        )
        return (await call.code()).name
    stream = streamed(client, path, request)
    try:
        async with asyncio.timeout(goes_on_after_seconds):
            async for _ in stream:
                return "OK"
            return (await stream.code()).name
    except grpc.aio.AioRpcError as error:
        return error.code().name
    except TimeoutError:
        return "OK"
    finally:
        stream.cancel()


def streamed(client: Caller, path: str, request: bytes) -> Any:
    if METHODS[path].client_streaming:
        open_stream = client.channel.stream_stream(path)
        return open_stream(iter([request]), timeout=CALL_SECONDS, metadata=client.headers)
    return client.channel.unary_stream(path)(request, timeout=CALL_SECONDS, metadata=client.headers)
