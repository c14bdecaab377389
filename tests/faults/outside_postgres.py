"""A PostgreSQL beside the server, to be stopped, frozen and started again while it serves."""

import os
import secrets
import signal
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from knowledged import migrate
from knowledged.embedded import EmbeddedPostgres, embedded_postgres
from server_process import ServerProcess, reachable_folder, server_process


class OutsidePostgres:
    """PostgreSQL with our schema, always at the same addresses; they are known once it started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: AbstractAsyncContextManager[EmbeddedPostgres] | None = None
        self.addresses: EmbeddedPostgres | None = None

    async def start(self) -> EmbeddedPostgres:
        self._running = embedded_postgres(self._folder, durable=False)
        self.addresses = await self._running.__aenter__()
        return self.addresses

    async def stop(self) -> None:
        """Fast: whoever is connected is thrown out."""
        if self._running is not None:
            running, self._running = self._running, None
            await running.__aexit__(None, None, None)

    def freeze(self) -> None:
        """It still takes connections, as its kernel does that, but never answers."""
        for pid in self._processes():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in self._processes():
            os.kill(pid, signal.SIGCONT)

    def _processes(self) -> list[int]:
        """The postmaster first, so that it makes no more."""
        pid_file = self._folder / "postgres/cluster/postmaster.pid"
        postmaster = int(pid_file.read_text().split()[0])
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        return [postmaster, *map(int, children)]


@asynccontextmanager
async def outside_postgres() -> AsyncIterator[OutsidePostgres]:
    with reachable_folder() as folder:
        postgres = OutsidePostgres(folder)
        try:
            await migrate.migrate((await postgres.start()).owner_dsn)
            yield postgres
        finally:
            await postgres.stop()


@asynccontextmanager
async def served(postgres: OutsidePostgres, **settings: object) -> AsyncGenerator[ServerProcess]:
    """A server process on it, set up as an operator would."""
    assert postgres.addresses is not None
    with reachable_folder() as folder:
        secret = folder / "secret.key"
        secret.write_bytes(secrets.token_bytes(32))
        async with server_process(
            database_url=postgres.addresses.server_dsn,
            maintenance_database_url=postgres.addresses.owner_dsn,
            secret_key_file=secret,
            **settings,
        ) as server:
            yield server
