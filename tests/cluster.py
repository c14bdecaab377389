"""The PostgreSQL that tests share, and databases in it."""

import asyncio
import itertools
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from knowledged.connection import Connection, connect
from knowledged.database import Database
from knowledged.embedded import EmbeddedPostgres


@dataclass(frozen=True, slots=True)
class DatabaseUrls:
    """A database of a test, as its owner and as the serving role."""

    owner_dsn: str
    server_dsn: str
    superuser_dsn: str


class Cluster:
    """The PostgreSQL of this test process (each xdist worker has its own: it starts in 0.8 s).

    It has an event loop of its own, so that it outlives the loops of the tests.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, server: EmbeddedPostgres) -> None:
        self._loop = loop
        self._server = server
        self._numbers = itertools.count(1)
        self._admin: Connection = self.run(connect(server.superuser_dsn, database="postgres"))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(work)

    def create(self, template: str) -> str:
        """A copy of a database that nobody is connected to, past a log that nobody needs."""
        name = f"test_{next(self._numbers)}"
        self._format(
            """
            select format(
                'create database %I template %I owner knowledge_owner strategy file_copy',
                $1::text, $2::text
            )
            """,
            name,
            template,
        )
        return name

    def drop(self, name: str) -> None:
        self._format("select format('drop database %I with (force)', $1::text)", name)

    def urls(self, name: str) -> DatabaseUrls:
        def within(dsn: str) -> str:
            return urlsplit(dsn)._replace(path=f"/{name}").geturl()

        server = self._server
        return DatabaseUrls(
            within(server.owner_dsn), within(server.server_dsn), within(server.superuser_dsn)
        )

    def close(self) -> None:
        self.run(self._admin.close())

    def _format(self, query: str, *names: str) -> None:
        self.run(self._admin.execute(self.run(self._admin.fetchval(query, *names))))


async def open_database(dsn: str) -> Database:
    return await Database.connect(
        dsn, min_size=1, max_size=3, command_timeout_seconds=10, acquire_timeout_seconds=5
    )
