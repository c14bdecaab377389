"""What the callers of the service do, each in a process of its own with an event loop of its own.

Requests are built before the clock starts, and answers are parsed whole.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from benchmarks.calling import Caller, caller
from benchmarks.load import Load, Measured, run
from knowledge.v1 import vector_service_pb2 as vector
from knowledge.v1.knowledge_service_pb2 import GetDocumentRequest


@dataclass(frozen=True, slots=True)
class Target:
    """The service, how many call it at once, and for how long."""

    address: str
    token: str
    callers: int
    seconds: float


async def search(
    target: Target, requests: Sequence[vector.SearchRequest], replicas: Sequence[str] = ()
) -> Measured:
    """The requests in turn, round and round; callers go to the target and to replicas alike."""

    def of(one: Caller):
        async def ask(place: int) -> None:
            answer = await one.search(requests[place % len(requests)])
            assert answer.hits

        return ask

    async with AsyncExitStack() as channels:
        opened = [caller(each, target.token) for each in (target.address, *replicas)]
        asks = [of(await channels.enter_async_context(each)) for each in opened]
        shared = [asks[number % len(asks)] for number in range(target.callers)]
        return await run(Load(shared, target.seconds))


async def batch_search(target: Target, requests: Sequence[vector.BatchSearchRequest]) -> Measured:
    """The batches in turn, round and round."""

    def of(one: Caller):
        async def ask(place: int) -> None:
            answer = await one.batch_search(requests[place % len(requests)])
            assert all(result.hits for result in answer.results)

        return ask

    async with caller(target.address, target.token) as one:
        return await run(Load([of(one)] * target.callers, target.seconds))


async def found(target: Target, requests: Sequence[vector.SearchRequest]) -> list[list[str]]:
    """The chunk ids that each request finds, best first."""
    async with caller(target.address, target.token) as one:
        answers = [await one.search(request) for request in requests]
    return [[hit.chunk.chunk_id for hit in answer.hits] for answer in answers]


async def get_document(target: Target, names: Sequence[str]) -> Measured:
    """The documents in turn, round and round."""
    requests = [GetDocumentRequest(name=name) for name in names]

    def of(one: Caller):
        async def ask(place: int) -> None:
            await one.get_document(requests[place % len(requests)])

        return ask

    async with caller(target.address, target.token) as one:
        return await run(Load([of(one)] * target.callers, target.seconds))
