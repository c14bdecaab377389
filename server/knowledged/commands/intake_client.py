"""The caller's side of the stream protocol (docs/streams.md): one session, whatever breaks."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import grpc.aio

from knowledge.v1.intake_pb2 import IntakeAck, IntakeSession, IntakeStarted
from knowledged.commands.client import (
    FIRST_WAIT_SECONDS,
    LONGEST_WAIT_SECONDS,
    RpcError,
    is_broken,
    wait_seconds,
)

# Sent and not acked; the server's credit bounds their number.
_MOST_BYTES = 16 * 1024 * 1024

Begin = Callable[[], Any]
Start = Callable[[IntakeSession], Any]


class IntakeClient:
    """Sends messages with an `item` each, numbered from 1, until every one has its ack.

    `begin` begins a call of the streaming RPC, `start` makes its first message; `told` hears of
    each message and its ack, in order. When a stream breaks, another one goes on after what is
    settled, unless no ack has come for `patience_seconds`.
    """

    def __init__(
        self,
        begin: Begin,
        start: Start,
        messages: Iterator[Any],
        told: Callable[[Any, IntakeAck], None],
        patience_seconds: float = 30.0,
    ) -> None:
        self._begin = begin
        self._start = start
        self._messages = messages
        self._told = told
        self._patience_seconds = patience_seconds
        self._session_id = str(uuid4())
        self._under_way: deque[Any] = deque()
        self._bytes = 0
        self._sequence = 0
        self._acknowledged = 0
        self._progress = time.monotonic()
        self._acks_came = asyncio.Event()

    async def run(self) -> None:
        """Raises RpcError for a refusal, or when patience ends."""
        longest = FIRST_WAIT_SECONDS
        while True:
            before = self._acknowledged
            try:
                return await self._stream()
            except RpcError as error:
                wait = longest if is_broken(error) else wait_seconds(error, longest)
                give_up = self._progress + self._patience_seconds
                if wait is None or time.monotonic() + wait > give_up:
                    raise
            await asyncio.sleep(wait)
            moved = self._acknowledged > before
            longest = FIRST_WAIT_SECONDS if moved else min(2 * longest, LONGEST_WAIT_SECONDS)

    async def _stream(self) -> None:
        call = self._begin()
        started: asyncio.Future[IntakeStarted] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._send(call, started))
                tasks.create_task(self._read(call, started))
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            call.cancel()

    async def _send(self, call: Any, started: asyncio.Future[IntakeStarted]) -> None:
        session = IntakeSession(session_id=self._session_id, acknowledged=self._acknowledged)
        # A call that broke is told to whoever reads it.
        with suppress(RpcError, asyncio.InvalidStateError):
            await call.write(self._start(session))
            answer = await started
            again = [m for m in self._under_way if m.item.sequence > answer.resume_after]
            for message in again:
                await call.write(message)
            while (message := await self._next(answer.credit)) is not None:
                await call.write(message)
            await call.done_writing()

    async def _next(self, credit: int) -> Any:
        """The next message, numbered, as soon as there is room for it; None after the last."""
        while len(self._under_way) >= credit or self._bytes > _MOST_BYTES:
            self._acks_came.clear()
            await self._acks_came.wait()
        message = next(self._messages, None)
        if message is not None:
            self._sequence += 1
            message.item.sequence = self._sequence
            self._under_way.append(message)
            self._bytes += message.ByteSize()
        return message

    async def _read(self, call: Any, started: asyncio.Future[IntakeStarted]) -> None:
        while (answer := await call.read()) is not grpc.aio.EOF:
            if answer.WhichOneof("message") == "started":
                started.set_result(answer.started)
            for ack in answer.acks.acks:
                self._acked(ack)

    def _acked(self, ack: IntakeAck) -> None:
        message = self._under_way.popleft()
        self._bytes -= message.ByteSize()
        self._acknowledged = ack.sequence
        self._progress = time.monotonic()
        self._acks_came.set()
        self._told(message, ack)
