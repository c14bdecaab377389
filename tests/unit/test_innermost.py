"""The end of the hall: what a service's method answers, and how much of it goes out."""

import pytest
from google.protobuf.wrappers_pb2 import BytesValue

from knowledged.call import AuditClass, Call, Method
from knowledged.errors import TooLarge
from knowledged.interceptors import Handler
from knowledged.interceptors.innermost import innermost

READ = Method("/knowledge.v1.VectorService/Search", "search", AuditClass.READ)
WRITE = Method("/knowledge.v1.VectorService/UpsertChunks", "chunks.write", AuditClass.WRITE)
MOST_BYTES = 100
# Of the answer beside its value: the field's tag and its length.
BESIDE = 2


def answering(method: Method, size: int) -> Handler:
    async def serve(message: BytesValue, call: Call) -> BytesValue:
        return BytesValue(value=bytes(size - BESIDE))

    return innermost(serve, method, BytesValue.DESCRIPTOR, MOST_BYTES)


async def answered(method: Method, size: int) -> int:
    call = Call(method, "call-1", "ipv4:127.0.0.1:1", {})
    return len(await answering(method, size)(call, b""))


async def test_an_answer_of_the_most_bytes_goes_out() -> None:
    assert await answered(READ, MOST_BYTES) == MOST_BYTES


async def test_a_larger_one_is_refused_with_both_sizes() -> None:
    with pytest.raises(TooLarge) as refused:
        await answered(READ, MOST_BYTES + 1)
    assert "101 bytes" in str(refused.value)
    assert "over 100" in str(refused.value)


async def test_a_change_that_was_made_is_not_refused_for_its_answer() -> None:
    assert await answered(WRITE, MOST_BYTES + 1) == MOST_BYTES + 1
