"""A sequencer alone, for test_sequencers: `DSN PAUSE_SECONDS`. It stays so long in each batch.

It says a line when it is inside its first; more would fill a pipe that nobody reads."""

import asyncio
import os
import sys
from contextlib import suppress

import asyncpg

from knowledged.connection import connect
from knowledged.ledger import sequencing
from knowledged.ledger.sequencing import sequence


async def work(dsn: str, pause_seconds: float) -> None:
    told = iter(["inside"])
    while True:
        conn = await connect(dsn)
        # Whoever was stopped finds its connection gone, as a server's pool does.
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            await batches(conn, pause_seconds, told)
        conn.terminate()


async def batches(conn, pause_seconds: float, told) -> None:
    while True:
        async with conn.transaction():
            done = await sequence(conn, 500)
            if done is not None and done.added:
                for line in told:
                    print(line, flush=True)
                await asyncio.sleep(pause_seconds)
        await asyncio.sleep(0.02)


sequencing.LIMIT_SECONDS = float(os.environ.get("SEQUENCER_LIMIT_SECONDS", "10"))
asyncio.run(work(sys.argv[1], float(sys.argv[2])))
