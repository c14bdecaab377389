"""An empty gRPC call: grpc.aio on uvloop that answers bytes, with nothing behind it.

No read through grpc.aio can be faster, so this says how much of a ratio to raw asyncpg is gRPC's.
`python -m benchmarks.bare_call` serves; it prints its port.
"""

import asyncio
from typing import Any

import grpc.aio
import uvloop

from benchmarks.load import Load, Measured, run

_SERVICE, _METHOD = "benchmarks.Bare", "Call"
_METADATA = (("authorization", "Bearer of-the-length-that-tokens-have-here-too"),)
# About what a GetDocument asks and answers.
_REQUEST, _ANSWER = b"q" * 60, b"a" * 1_000


async def call(address: str, callers: int, seconds: float) -> Measured:
    """So many callers, one call after another each."""
    async with grpc.aio.insecure_channel(address) as channel:
        rpc: Any = channel.unary_unary(f"/{_SERVICE}/{_METHOD}")

        async def ask(_: int) -> None:
            assert await rpc(_REQUEST, metadata=_METADATA) == _ANSWER

        return await run(Load([ask] * callers, seconds))


async def _serve() -> None:
    async def answer(_: bytes, __: Any) -> bytes:
        return _ANSWER

    server = grpc.aio.server()
    handlers = {_METHOD: grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve())
