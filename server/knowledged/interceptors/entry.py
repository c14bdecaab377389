"""Where gRPC meets the hall: its context becomes a `Call`, an answer or a refusal goes back."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import cast

import grpc.aio
from uuid_utils import uuid7

from knowledged.call import Call, Method, Receipt
from knowledged.interceptors.errors import Refusal
from knowledged.interceptors.hall import Handler
from knowledged.interceptors.wire import abort_arguments

Context = grpc.aio.ServicerContext[bytes, bytes]
Behaviour = Callable[[bytes, Context], Awaitable[bytes]]

# W3C Trace Context, section 3.2: version, trace id, parent id, flags; all-zero ids are invalid.
_TRACEPARENT = re.compile(
    "(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)


def behaviour(method: Method, handler: Handler) -> Behaviour:
    """What gRPC calls for `method`: raw request bytes in, raw answer bytes out."""

    async def behave(request: bytes, context: Context) -> bytes:
        call = call_of(method, context)
        try:
            answer = await handler(call, request)
        except Refusal as refusal:
            await context.abort(*abort_arguments(refusal.status, call.call_id))
        # Answers that are ready in the same turn of the event loop go out right after one another:
        # gRPC here and the caller there then wake once for all of them.
        await asyncio.sleep(0)
        context.set_trailing_metadata(trailing_metadata(call))
        return answer

    return behave


def call_of(method: Method, context: Context) -> Call:
    """The call that gRPC tells of, with an id of its own."""
    metadata = {
        key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)
    }
    # None without a deadline, whatever the stubs say.
    left = cast("float | None", context.time_remaining())
    return Call(
        method=method,
        call_id=str(uuid7()),
        peer=context.peer(),
        metadata=metadata,
        deadline=None if left is None else time.monotonic() + left,
        traceparent=_traceparent(metadata.get("traceparent", "")),
    )


def _traceparent(sent: str) -> str:
    return sent if sent and _TRACEPARENT.fullmatch(sent) else ""


def trailing_metadata(call: Call) -> tuple[tuple[str, str | bytes], ...]:
    """The call id; for reads also the audit receipt, which mutations carry in their answer."""
    call_id = ("x-call-id", call.call_id)
    if call.receipt is None or call.method.mutates:
        return (call_id,)
    return (call_id, *_receipt(call.receipt))


def _receipt(receipt: Receipt) -> tuple[tuple[str, str | bytes], ...]:
    return (
        ("x-audit-event-id", receipt.event_id),
        ("x-audit-leaf-hash-bin", receipt.leaf_hash),
    )
