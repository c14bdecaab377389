"""The end of the hall: bytes become messages, a service's method answers, messages become bytes."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from math import inf
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from knowledged.call import Call, Method, Stream
from knowledged.errors import Malformed, TooLarge
from knowledged.interceptors.hall import Handler

# Of unary methods `async def serve(message, call) -> message`. Of streaming ones an async generator
# of answers, whose first parameter is an async iterator of messages if the caller streams, too.
Serve = Any


def innermost(serve: Serve, method: Method, request: Descriptor, most_bytes: int) -> Handler:
    """The handler that gives `serve` messages of the type `request`.

    A unary answer that only reads has at most `most_bytes`, beyond which gRPC would not send it;
    what was changed is changed, whatever its answer's size.
    """
    if method.client_streams:
        return _both_stream(serve, request)
    if method.server_streams:
        return _server_streams(serve, request)
    return _unary(serve, request, inf if method.mutates else most_bytes)


def _unary(serve: Serve, descriptor: Descriptor, most_bytes: float) -> Handler:
    message_class = GetMessageClass(descriptor)

    async def handle(call: Call, request: bytes) -> bytes:
        call.asking = message = _parsed(message_class, request)
        answer: bytes = (await serve(message, call)).SerializeToString()
        if len(answer) > most_bytes:
            raise TooLarge(
                f"the answer has {len(answer)} bytes, over {most_bytes}; ask for less of it at"
                " once: a smaller limit or page, or without what is large, such as"
                " include_embedding"
            )
        return answer

    return handle


def _server_streams(serve: Serve, descriptor: Descriptor) -> Handler:
    message_class = GetMessageClass(descriptor)

    async def handle(call: Call, request: bytes) -> bytes:
        call.asking = message = _parsed(message_class, request)
        await _send_all(call, serve(message, call))
        return b""

    return handle


def _both_stream(serve: Serve, descriptor: Descriptor) -> Handler:
    message_class = GetMessageClass(descriptor)

    async def handle(call: Call, request: bytes) -> bytes:
        async with aclosing(_messages(message_class, call)) as messages:
            await _send_all(call, serve(messages, call))
        return b""

    return handle


async def _send_all(call: Call, answers: AsyncGenerator[Message]) -> None:
    stream = _stream(call)
    async with aclosing(answers):
        async for answer in answers:
            await stream.send(answer.SerializeToString())


async def _messages(message_class: type[Message], call: Call) -> AsyncGenerator[Message]:
    async with aclosing(_stream(call).received()) as received:
        async for each in received:
            call.asking = message = _parsed(message_class, each)
            yield message


def _stream(call: Call) -> Stream:
    assert call.stream is not None  # noqa: S101 - gRPC calls streaming methods by `stream_behaviour`
    return call.stream


def _parsed(message_class: type[Message], request: bytes) -> Message:
    try:
        return message_class.FromString(request)
    except DecodeError:
        name = message_class.DESCRIPTOR.full_name
        raise Malformed(f"the request is no {name}") from None
