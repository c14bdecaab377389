"""One server process for the tests that leave it running: token, metrics, a talkative log."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from caller import Caller, caller
from guarded import Guarded, new_token
from server_process import free_port, reachable_folder, server_process


@pytest.fixture(scope="session")
def guarded() -> Iterator[Guarded]:
    """With a pool of four: a connection that is lost is missed soon."""
    loop = asyncio.new_event_loop()
    with reachable_folder() as folder:
        access_file, metrics_port = folder / "access.yaml", free_port()
        token = new_token(access_file, "administrator", "admin")
        running = server_process(
            auth="token",
            access_file=access_file,
            metrics_port=metrics_port,
            log_level="debug",
            pool_min_size=1,
            pool_max_size=4,
        )
        server = loop.run_until_complete(running.__aenter__())
        try:
            metrics_url = f"http://127.0.0.1:{metrics_port}/metrics"
            yield Guarded(server, access_file, metrics_url, token)
        finally:
            loop.run_until_complete(running.__aexit__(None, None, None))
            loop.close()


@pytest.fixture
async def administrator(guarded: Guarded) -> AsyncIterator[Caller]:
    """A caller of the guarded server who may do everything."""
    async with caller(guarded.server.address, guarded.token) as client:
        yield client
