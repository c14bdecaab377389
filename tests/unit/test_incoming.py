"""Items of a stream come in batches: a small one first, so that writing begins soon."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from google.protobuf.wrappers_pb2 import UInt32Value

from knowledged.services.incoming import BATCH_BYTES, Incoming

MOST = 50


async def messages(count: int, items: int) -> AsyncGenerator[UInt32Value]:
    """So many, each standing for so many items."""
    for _ in range(count):
        yield UInt32Value(value=items)


async def sizes(incoming: AsyncGenerator[UInt32Value], most: int = MOST) -> list[int]:
    def items(message: UInt32Value) -> list[int]:
        return [0] * message.value

    async with aclosing(Incoming(incoming, items, most).batches()) as batches:
        return [len(batch) async for batch in batches]


async def test_the_first_batch_is_a_fifth_of_the_others() -> None:
    assert await sizes(messages(120, 1)) == [10, 50, 50, 10]


async def test_what_a_message_holds_beyond_a_batch_goes_into_the_next() -> None:
    assert await sizes(messages(3, 50)) == [10, 50, 50, 40]


async def test_batches_of_few_items_are_never_empty() -> None:
    assert await sizes(messages(3, 1), most=1) == [1, 1, 1]


async def test_large_messages_make_short_batches() -> None:
    async def large() -> AsyncGenerator[object]:
        for _ in range(3):
            yield _Large()

    assert await sizes(large()) == [1, 1, 1]  # pyright: ignore[reportArgumentType]


class _Large:
    value = 1

    def ByteSize(self) -> int:
        return BATCH_BYTES
