"""What a client reads: a real grpc.aio server on loopback, one small handler behind the hall."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_status import rpc_status

from auditing import auditing
from knowledged.call import AuditClass, Call, Method, Receipt
from knowledged.errors import Conflict, Invalid, Malformed, Overloaded, Unavailable, Violation
from knowledged.interceptors import Handler, compose
from knowledged.interceptors.auth import Auth
from knowledged.interceptors.entry import behaviour
from knowledged.interceptors.errors import errors
from knowledged.interceptors.quota import Quota
from knowledged.interceptors.shed import Shed
from knowledged.interceptors.telemetry import Telemetry
from knowledged.metrics import Metrics

READ = Method("/test.Service/Read", "documents.read", AuditClass.READ)
WRITE = Method("/test.Service/Write", "documents.write", AuditClass.WRITE)
RECEIPT = Receipt("0192d3c8-0000-7000-8000-000000000000", bytes(range(32)))
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
Send = Callable[..., Any]


@asynccontextmanager
async def served(handler: Handler, method: Method = READ) -> AsyncIterator[Send]:
    hall = [errors, Telemetry(Metrics()), auditing(), Shed(9), Auth(None), Quota(9)]
    rpc = grpc.unary_unary_rpc_method_handler(behaviour(method, compose(method, handler, hall)))
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("test.Service", {method.name: rpc})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel.unary_unary(method.path)
    finally:
        await server.stop(None)


async def refused(error: BaseException) -> grpc.aio.AioRpcError:
    async def handle(call: Call, request: bytes) -> bytes:
        raise error

    async with served(handle) as send:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await send(b"x", timeout=5)
    return failure.value


def details(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """The details by their type; a type given twice fails."""
    status = rpc_status.from_call(error)
    found: dict[str, Any] = {}
    for packed in status.details:
        for kind in (ErrorInfo, BadRequest, RetryInfo):
            if packed.Is(kind.DESCRIPTOR):
                assert kind.__name__ not in found
                found[kind.__name__] = kind.FromString(packed.value)
    assert len(found) == len(status.details)
    return found


def trailing(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    return dict(error.trailing_metadata())


async def test_bytes_pass_and_the_answer_carries_its_call_id() -> None:
    seen: list[Call] = []

    async def handle(call: Call, request: bytes) -> bytes:
        seen.append(call)
        return request[::-1]

    async with served(handle) as send:
        rpc = send(b"abc", metadata=(("traceparent", TRACE), ("raw-bin", b"\xff")), timeout=5)
        assert await rpc == b"cba"
        metadata = dict(await rpc.trailing_metadata())
    (call,) = seen
    assert metadata == {"x-call-id": call.call_id}
    assert call.call_id[14] == "7"
    assert call.traceparent == TRACE
    assert call.peer.startswith("ipv4:127.0.0.1:")
    # gRPC rounds deadlines up by some milliseconds.
    assert 0 < call.seconds_left(60) <= 5.1
    assert "raw-bin" not in call.metadata


@pytest.mark.parametrize(
    "sent",
    [
        TRACE.upper(),
        TRACE + "-00",
        TRACE.replace("00-4", "ff-4"),
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        "x",
    ],
)
async def test_a_malformed_traceparent_is_not_taken_over(sent: str) -> None:
    async def handle(call: Call, request: bytes) -> bytes:
        return call.traceparent.encode()

    async with served(handle) as send:
        assert await send(b"", metadata=(("traceparent", sent),)) == b""


async def test_a_call_without_deadline_has_none() -> None:
    async def handle(call: Call, request: bytes) -> bytes:
        return repr(call.deadline).encode()

    async with served(handle) as send:
        assert await send(b"") == b"None"


@pytest.mark.parametrize(("method", "keys"), [(READ, 3), (WRITE, 1)])
async def test_a_reads_receipt_comes_in_trailing_metadata(method: Method, keys: int) -> None:
    async def handle(call: Call, request: bytes) -> bytes:
        call.receipt = RECEIPT
        return b""

    async with served(handle, method) as send:
        rpc = send(b"")
        await rpc
        metadata = dict(await rpc.trailing_metadata())
    assert len(metadata) == keys
    if method is READ:
        assert metadata["x-audit-event-id"] == RECEIPT.event_id
        assert metadata["x-audit-leaf-hash-bin"] == RECEIPT.leaf_hash


async def test_a_refusal_has_exactly_one_error_info() -> None:
    error = await refused(Conflict("the etag is stale", document_id="d1"))
    assert error.code() is grpc.StatusCode.ABORTED
    assert error.details() == "the etag is stale"
    found = details(error)
    assert list(found) == ["ErrorInfo"]
    assert found["ErrorInfo"].reason == "ETAG_MISMATCH"
    assert found["ErrorInfo"].domain == "knowledge.v1"
    assert dict(found["ErrorInfo"].metadata) == {"document_id": "d1"}
    assert len(trailing(error)["x-call-id"]) == 36


async def test_every_bad_field_is_named() -> None:
    error = await refused(Invalid(Violation("title", "too long"), Violation("etag", "empty")))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    fields = details(error)["BadRequest"].field_violations
    assert [(f.field, f.description) for f in fields] == [("title", "too long"), ("etag", "empty")]


@pytest.mark.parametrize("text", ["a", "é", "語", "\udc80"])
async def test_a_thousand_bad_fields_still_reach_the_client(text: str) -> None:
    violations = [Violation(f"requests[{i}].title", text * 900) for i in range(1000)]
    error = await refused(Invalid(*violations))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    fields = details(error)["BadRequest"].field_violations
    assert fields[0].field == "requests[0].title"
    assert fields[-1].description == f"{1001 - len(fields)} more fields break rules"


async def test_an_overload_says_when_to_come_back() -> None:
    error = await refused(Overloaded("too much"))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details(error)["RetryInfo"].retry_delay.ToMilliseconds() == 200
    assert trailing(error)["grpc-retry-pushback-ms"] == "200"


async def test_an_outage_says_when_to_come_back() -> None:
    error = await refused(Unavailable("the database is not reachable"))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert details(error)["RetryInfo"].retry_delay.seconds == 1
    assert "grpc-retry-pushback-ms" not in trailing(error)


async def test_malformed_bytes_are_the_callers_fault() -> None:
    error = await refused(Malformed("the request is no Read request"))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(error)["ErrorInfo"].reason == "MALFORMED_MESSAGE"


async def test_an_unknown_error_leaves_as_internal_with_a_fixed_text() -> None:
    error = await refused(RuntimeError("patient Smith"))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert error.details() == "internal error"
    assert "Smith" not in str(trailing(error))


async def test_a_task_cancelled_inside_does_not_leave_the_caller_waiting() -> None:
    error = await refused(asyncio.CancelledError())
    assert error.code() is grpc.StatusCode.CANCELLED
    assert details(error)["ErrorInfo"].reason == "CANCELLED"


async def test_a_client_that_gives_up_cancels_the_handler() -> None:
    ended: list[str] = []

    async def handle(call: Call, request: bytes) -> bytes:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return b""

    async with served(handle) as send:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await send(b"", timeout=0.1)
    assert failure.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert ended == ["cancelled"]
