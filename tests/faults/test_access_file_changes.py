"""The access file changes while the server serves: tokens come and go without a restart."""

import asyncio
import time
from collections.abc import Iterator

import grpc
import pytest

from caller import caller
from guarded import Guarded, new_token
from knowledge.v1.config_service_pb2 import GetServerInfoRequest

# The file is looked at once a second.
NOTICED_SECONDS = 2.5


@pytest.fixture
def unchanged(guarded: Guarded) -> Iterator[str]:
    """The file's text, which is put back afterwards."""
    text = guarded.access_file.read_text()
    yield text
    guarded.access_file.write_text(text)


async def test_tokens_come_and_go_while_the_server_serves(guarded: Guarded, unchanged: str) -> None:
    file = guarded.access_file
    token = new_token(file, "newcomer", "reader")
    assert await until(guarded, token, to_work=True) < NOTICED_SECONDS
    file.write_text("subjects: [this is no entry")
    await asyncio.sleep(NOTICED_SECONDS)
    assert await works(guarded, token)
    assert await works(guarded, guarded.token)
    assert "access_file_rejected" in {line["event"] for line in guarded.server.log_lines()}
    file.write_text(unchanged)
    assert await until(guarded, token, to_work=False) < NOTICED_SECONDS
    assert await works(guarded, guarded.token)


async def until(guarded: Guarded, token: str, *, to_work: bool) -> float:
    began = time.monotonic()
    async with asyncio.timeout(30):
        while await works(guarded, token) is not to_work:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return time.monotonic() - began


async def works(guarded: Guarded, token: str) -> bool:
    """Whether a call with the token is answered; if not, it is the token's fault."""
    async with caller(guarded.server.address, token) as client:
        request = GetServerInfoRequest()
        call = client.config.GetServerInfo(request, metadata=client.headers, timeout=10)
        code = await call.code()
    assert code in (grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED)
    return code is grpc.StatusCode.OK
