"""Items of a stream in batches; the next is read while whoever took the last works on it."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

BATCH_BYTES = 4 * 1024 * 1024
T = TypeVar("T")

# A stream's first batch is so much smaller than those that follow: until it is prepared nothing is
# settled, and PostgreSQL has nothing to do.
_FIRST_SHARE = 5
# Messages that come after a shorter pause than this belong together.
_PAUSE_SECONDS = 0.02


class Incoming:
    """Holds one batch at most, `most` items (of the first a fifth) or those that pass `BATCH_BYTES`
    together, and what the last message has beyond it. `items` tells the items of a message."""

    def __init__(
        self, messages: AsyncGenerator[Any], items: Callable[[Any], Sequence[Any]], most: int
    ) -> None:
        self._messages = messages
        self._items = items
        self._most = max(1, most // _FIRST_SHARE)
        self._most_later = most
        self._ended = False
        self._held: list[Any] = []
        self._bytes = 0
        self._some = asyncio.Event()
        self._whole = asyncio.Event()
        self._taken = asyncio.Event()

    async def batches(self) -> AsyncGenerator[list[Any]]:
        """Until the stream ends; what ends it by an error is raised after what came before."""
        reading = asyncio.create_task(self._read())
        try:
            while batch := await self._next():
                yield batch
            await reading
        finally:
            reading.cancel()
            await asyncio.wait([reading])

    async def _read(self) -> None:
        try:
            async for message in self._messages:
                self._held += self._items(message)
                self._bytes += message.ByteSize()
                self._some.set()
                while len(self._held) >= self._most or self._bytes >= BATCH_BYTES:
                    self._taken.clear()
                    self._whole.set()
                    await self._taken.wait()
        finally:
            self._ended = True
            self._some.set()
            self._whole.set()

    async def _next(self) -> list[Any]:
        """A batch that is whole, or that nothing was added to for a pause; empty at the end."""
        await self._some.wait()
        known = 0
        while known < len(self._held) and not self._whole.is_set():
            known = len(self._held)
            await self._pause()
        return self._take()

    async def _pause(self) -> None:
        """Until the batch is whole, but no longer than a pause."""
        waiting = asyncio.ensure_future(self._whole.wait())
        await asyncio.wait([waiting], timeout=_PAUSE_SECONDS)
        waiting.cancel()

    def _take(self) -> list[Any]:
        batch, self._held, self._bytes = self._held[: self._most], self._held[self._most :], 0
        self._most = self._most_later
        if not self._ended:
            self._whole.clear()
            if not self._held:
                self._some.clear()
        self._taken.set()
        return batch


async def one_ahead(values: AsyncGenerator[T]) -> AsyncGenerator[T]:
    """The values, each following one made while whoever took the last works on it."""
    async with aclosing(values):
        following = asyncio.ensure_future(anext(values, None))
        try:
            while (value := await following) is not None:
                following = asyncio.ensure_future(anext(values, None))
                yield value
        finally:
            following.cancel()
            await asyncio.wait([following])
