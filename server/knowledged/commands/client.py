"""A client of a server, for the commands: where it is, who calls, when a call is tried again."""

import argparse
import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from random import SystemRandom
from typing import Any, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from knowledge.v1.audit_service_pb2_grpc import AuditServiceStub
from knowledge.v1.config_service_pb2_grpc import ConfigServiceStub
from knowledge.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub
from knowledge.v1.vector_service_pb2_grpc import VectorServiceStub
from knowledged.commands.channel import open_async_channel
from knowledged.settings import Settings, SettingsError

RpcError = grpc.aio.AioRpcError

Request = TypeVar("Request")
Answer = TypeVar("Answer")

FIRST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 3.0

_BROKEN = {grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the server is and who calls."""
    parser.add_argument("--target", metavar="HOST:PORT", help="default: from the settings")
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="holds the caller's token; default: KNOWLEDGED_TOKEN_FILE",
    )


class Client:
    """The services of one server, called by one caller.

    While the server is away, or asks to be called later, a call is tried again for
    `patience_seconds`. So a mutation must carry a request_id.
    """

    def __init__(
        self, channel: grpc.aio.Channel, token: str | None, patience_seconds: float = 30.0
    ) -> None:
        self.knowledge = KnowledgeServiceStub(channel)
        self.vector = VectorServiceStub(channel)
        self.audit = AuditServiceStub(channel)
        self.config = ConfigServiceStub(channel)
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._patience_seconds = patience_seconds

    async def call(
        self,
        rpc: grpc.aio.UnaryUnaryMultiCallable[Request, Answer],
        request: Request,
        timeout_seconds: float = 60.0,
    ) -> Answer:
        """The answer; raises RpcError when it is a refusal, or patience ends."""
        give_up = time.monotonic() + self._patience_seconds
        longest = FIRST_WAIT_SECONDS
        while True:
            try:
                return await rpc(request, metadata=self._metadata, timeout=timeout_seconds)
            except RpcError as error:
                wait = wait_seconds(error, longest)
                if wait is None or time.monotonic() + wait > give_up:
                    raise
            await asyncio.sleep(wait)
            longest = min(2 * longest, LONGEST_WAIT_SECONDS)

    def begin(self, rpc: Any, *request: Message) -> Any:
        """A streaming call; it is not tried again, and has no time limit."""
        return rpc(*request, metadata=self._metadata)

    async def stream(
        self, rpc: grpc.aio.UnaryStreamMultiCallable[Request, Answer], request: Request
    ) -> AsyncGenerator[Answer]:
        """The answers as they come, once: after some of them a call cannot be tried again."""
        async for answer in rpc(request, metadata=self._metadata):
            yield answer


@asynccontextmanager
async def open_client(
    target: str | None, settings: Settings, token_file: Path | None = None
) -> AsyncGenerator[Client]:
    """For `host:port` or where a server with these settings listens; the token is read here."""
    token = _token(token_file or settings.token_file)
    async with open_async_channel(target, settings) as channel:
        yield Client(channel, token)


def is_broken(error: RpcError) -> bool:
    """Whether gRPC itself says so: its server went away. What a server says has a call id."""
    names = {str(name) for name, _ in error.trailing_metadata() or ()}
    return error.code() in _BROKEN and "x-call-id" not in names


def status_line(error: RpcError) -> str:
    """A refusal in one line."""
    return f"{error.code().name}: {error.details()}"


def _token(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        return file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the token file cannot be read: {type(error).__name__}") from None


def wait_seconds(error: RpcError, longest: float) -> float | None:
    """How long to wait before the next try; None when another try is of no use.

    Never shorter than the server's RetryInfo, and beyond it by chance, so that callers who were
    turned away together do not come back together.
    """
    asked = _retry_after_seconds(error)
    if asked is None and error.code() is not grpc.StatusCode.UNAVAILABLE:
        return None
    return (asked or 0.0) + SystemRandom().uniform(longest / 2, longest)


def _retry_after_seconds(error: RpcError) -> float | None:
    status = cast("Status | None", rpc_status.from_call(error))  # pyright: ignore[reportUnknownMemberType, reportArgumentType]
    info = RetryInfo()
    for detail in status.details if status else ():
        if detail.Unpack(info):
            return info.retry_delay.ToNanoseconds() / 1e9
    return None
