"""Where gRPC's streams meet the hall.

To the hall a stream is a call like any other: one handler, awaited once. Its messages go through
`call.stream` meanwhile, so the same interceptors see it begin, fail, be cancelled and end.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import partial
from typing import Any, cast

from knowledged.call import Call, Method, Stream
from knowledged.interceptors.entry import Context, call_of, trailing_metadata
from knowledged.interceptors.errors import Refusal
from knowledged.interceptors.hall import Handler
from knowledged.interceptors.wire import abort_arguments

StreamBehaviour = Callable[[bytes | AsyncIterator[bytes], Context], AsyncGenerator[bytes]]


def stream_behaviour(method: Method, handler: Handler) -> StreamBehaviour:
    """What gRPC calls for a streaming `method`: a request or many in, raw answers out."""

    async def behave(
        request: bytes | AsyncIterator[bytes], context: Context
    ) -> AsyncGenerator[bytes]:
        call = call_of(method, context)
        incoming = None if isinstance(request, bytes) else request
        call.stream = stream = Stream(incoming)
        first = request if isinstance(request, bytes) else b""
        handling = asyncio.create_task(_handled(handler, call, stream, first))
        # gRPC leaves a generator to the garbage collector when its caller is gone.
        cast("Any", context).add_done_callback(partial(_cancel, handling))
        try:
            async for message in stream.sent():
                yield message
            await handling
        except Refusal as refusal:
            await context.abort(*abort_arguments(refusal.status, call.call_id))
        finally:
            await _ended(handling)
        context.set_trailing_metadata(trailing_metadata(call))

    return behave


async def _handled(handler: Handler, call: Call, stream: Stream, request: bytes) -> None:
    try:
        await handler(call, request)
    finally:
        stream.end()


def _cancel(handling: asyncio.Task[None], context: object) -> None:
    handling.cancel()


async def _ended(handling: asyncio.Task[None]) -> None:
    """Waits for the handler to clean up; how it ended has been told already."""
    handling.cancel()
    await asyncio.wait([handling])
    if not handling.cancelled():
        handling.exception()
