"""Streams through the whole hall: a real grpc.aio server, a small generator behind it."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.wrappers_pb2 import BytesValue, Int64Value
from structlog.testing import capture_logs

from auditing import auditing
from knowledged.call import AuditClass, Call, Method, Receipt
from knowledged.errors import Conflict
from knowledged.interceptors import compose
from knowledged.interceptors.audit import Auditing
from knowledged.interceptors.auth import Auth
from knowledged.interceptors.errors import errors
from knowledged.interceptors.innermost import innermost
from knowledged.interceptors.quota import Quota
from knowledged.interceptors.shed import Shed
from knowledged.interceptors.stream import stream_behaviour
from knowledged.interceptors.telemetry import Telemetry
from knowledged.metrics import Metrics

DOWN = Method("/test.Service/Down", "documents.read", AuditClass.READ, server_streams=True)
BOTH = Method(
    "/test.Service/Both",
    "documents.write",
    AuditClass.WRITE,
    client_streams=True,
    server_streams=True,
)
RECEIPT = Receipt("0192d3c8-0000-7000-8000-000000000000", bytes(range(32)))
Code = grpc.StatusCode
Open = Callable[..., Any]


@asynccontextmanager
async def served(
    serve: Any,
    method: Method,
    metrics: Metrics | None = None,
    most_calls: int = 9,
    audit: Auditing | None = None,
) -> AsyncIterator[Open]:
    telemetry = Telemetry(metrics or Metrics())
    hall = [errors, telemetry, audit or auditing(), Shed(most_calls), Auth(None), Quota(9)]
    inner = innermost(serve, method, Int64Value.DESCRIPTOR, 1_000)
    behave: Any = stream_behaviour(method, compose(method, inner, hall))
    rpc = (
        grpc.stream_stream_rpc_method_handler(behave)
        if method.client_streams
        else grpc.unary_stream_rpc_method_handler(behave)
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("test.Service", {method.name: rpc})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            kind = channel.stream_stream if method.client_streams else channel.unary_stream
            yield kind(
                method.path,
                request_serializer=lambda number: Int64Value(value=number).SerializeToString(),
                response_deserializer=lambda raw: Int64Value.FromString(raw).value,
            )
    finally:
        await server.stop(None)


async def count_to(request: Int64Value, call: Call) -> AsyncIterator[Int64Value]:
    call.receipt = RECEIPT
    for number in range(request.value):
        yield Int64Value(value=number)


async def double(messages: AsyncIterator[Int64Value], call: Call) -> AsyncIterator[Int64Value]:
    async for message in messages:
        yield Int64Value(value=2 * message.value)


async def test_answers_come_in_order_and_the_receipt_in_trailing_metadata() -> None:
    async with served(count_to, DOWN) as open_stream:
        stream = open_stream(500)
        assert [number async for number in stream] == list(range(500))
        metadata = dict(await stream.trailing_metadata())
    assert metadata["x-audit-event-id"] == RECEIPT.event_id
    assert len(metadata["x-call-id"]) == 36


async def test_a_stream_without_answers_ends_well() -> None:
    async with served(count_to, DOWN) as open_stream:
        assert [number async for number in open_stream(0)] == []


async def test_both_sides_stream_in_turn() -> None:
    async with served(double, BOTH) as open_stream:
        stream = open_stream()
        for number in range(20):
            await stream.write(number)
            assert await stream.read() == 2 * number
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
        assert await stream.code() is Code.OK


async def test_a_failure_midway_keeps_what_was_sent_and_tells_its_status() -> None:
    async def fail(request: Int64Value, call: Call) -> AsyncIterator[Int64Value]:
        yield Int64Value(value=1)
        raise Conflict("the reader is too slow")

    async with served(fail, DOWN) as open_stream:
        stream = open_stream(1)
        assert await stream.read() == 1
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await stream.read()
    assert failure.value.code() is Code.ABORTED
    assert failure.value.details() == "the reader is too slow"


async def test_a_bug_midway_leaks_nothing() -> None:
    async def fail(request: Int64Value, call: Call) -> AsyncIterator[Int64Value]:
        yield Int64Value(value=1)
        raise RuntimeError("patient Smith")

    async with served(fail, DOWN) as open_stream:
        stream = open_stream(1)
        await stream.read()
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await stream.read()
    assert failure.value.code() is Code.INTERNAL
    assert "Smith" not in str(failure.value)


@pytest.mark.parametrize("method", [DOWN, BOTH])
async def test_malformed_bytes_are_the_callers_fault(method: Method) -> None:
    async with served(double if method is BOTH else count_to, method) as open_stream:
        open_stream._request_serializer = bytes  # what goes over the wire as it is
        stream = open_stream(iter([b"\xff"])) if method is BOTH else open_stream(b"\xff")
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await stream.read()
    assert failure.value.code() is Code.INVALID_ARGUMENT


async def test_a_slow_reader_stops_the_writer() -> None:
    """What nobody reads waits in gRPC's own buffers; the rest is not made."""
    made = 0

    async def make(request: Int64Value, call: Call) -> AsyncIterator[BytesValue]:
        nonlocal made
        while True:
            made += 1
            yield BytesValue(value=bytes(100_000))

    async with served(make, DOWN) as open_stream:
        stream, before = open_stream(0), -1
        await stream.wait_for_connection()
        while made != before:
            before = made
            await asyncio.sleep(0.3)
        stream.cancel()
    assert 0 < made < 500


@pytest.mark.parametrize("ends", ["cancel", "deadline"])
async def test_a_caller_who_leaves_ends_the_handler_at_once(ends: str) -> None:
    """With the garbage collector off: nobody waits for it."""
    ended = asyncio.Event()

    async def wait(request: Int64Value, call: Call) -> AsyncIterator[Int64Value]:
        try:
            yield Int64Value(value=1)
            await asyncio.sleep(30)
        finally:
            ended.set()

    gc.disable()
    try:
        async with served(wait, DOWN) as open_stream:
            stream = open_stream(0, timeout=0.5 if ends == "deadline" else None)
            await stream.read()
            if ends == "cancel":
                stream.cancel()
            await asyncio.wait_for(ended.wait(), 5)
    finally:
        gc.enable()


async def test_a_writer_whom_nobody_reads_ends_when_its_caller_leaves() -> None:
    ended = asyncio.Event()

    async def make(request: Int64Value, call: Call) -> AsyncIterator[Int64Value]:
        try:
            while True:
                yield Int64Value(value=1)
        finally:
            ended.set()

    async with served(make, DOWN) as open_stream:
        stream = open_stream(0)
        await stream.read()
        await asyncio.sleep(0.2)
        stream.cancel()
        await asyncio.wait_for(ended.wait(), 5)


async def test_messages_are_counted_as_they_go() -> None:
    metrics = Metrics()
    with capture_logs() as lines:
        async with served(double, BOTH, metrics) as open_stream:
            stream = open_stream()
            for number in range(3):
                await stream.write(number)
                await stream.read()
            assert counted(metrics, "msg_received") == counted(metrics, "msg_sent") == 3
            await stream.done_writing()
            await stream.code()
    assert counted(metrics, "started") == 1
    (line,) = [line for line in lines if line["event"] == "rpc_handled"]
    assert (line["method"], line["code"]) == (BOTH.path, "OK")


def counted(metrics: Metrics, name: str) -> float | None:
    labels = {"grpc_type": "bidi_stream", "grpc_service": "test.Service", "grpc_method": "Both"}
    return metrics.registry.get_sample_value(f"grpc_server_{name}_total", labels)


async def test_a_stream_takes_a_place_until_it_ends() -> None:
    async with served(double, BOTH, most_calls=1) as open_stream:
        first = open_stream()
        await first.write(1)
        assert await first.read() == 2
        assert await open_stream().code() is Code.RESOURCE_EXHAUSTED
        await first.done_writing()
        assert await first.code() is Code.OK
        assert [number async for number in open_stream(iter([4]))] == [8]


async def page_by_page(request: Int64Value, call: Call) -> AsyncIterator[Int64Value]:
    """Pages of three."""
    for first in range(0, request.value, 3):
        call.reads((uuid4(), ()) for _ in range(3))
        for number in range(first, first + 3):
            yield Int64Value(value=number)


async def test_what_a_stream_reads_is_recorded_a_page_at_a_time() -> None:
    audit = auditing()
    async with served(page_by_page, DOWN, audit=audit) as open_stream:
        assert [number async for number in open_stream(9)] == list(range(9))
    assert audit.recorder.metrics.waiting._value.get() == 3


async def test_what_cannot_be_recorded_is_not_sent() -> None:
    audit = auditing("postgresql://nobody:x@127.0.0.1:1/nowhere", durable=True)
    recording = asyncio.create_task(audit.recorder.run())
    async with served(page_by_page, DOWN, audit=audit) as open_stream:
        stream = open_stream(9)
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await stream.read()
    recording.cancel()
    await asyncio.wait([recording])
    assert failure.value.code() is Code.UNAVAILABLE
    assert failure.value.details() == "the audit log cannot be written"


async def test_a_stream_that_sends_nothing_leaves_an_event_all_the_same() -> None:
    audit = auditing()
    async with served(page_by_page, DOWN, audit=audit) as open_stream:
        assert [number async for number in open_stream(0)] == []
    assert audit.recorder.metrics.waiting._value.get() == 1
