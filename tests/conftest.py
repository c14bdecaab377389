"""Fixtures for all tests: one PostgreSQL for the session, one database for each test."""

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from knowledged.connection import Connection, connect
from knowledged.database import Database
from knowledged.embedded import EmbeddedPostgres, embedded_postgres
from knowledged.migrate import migrate


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
        """A copy of a database that nobody is connected to: about 50 ms."""
        name = f"test_{next(self._numbers)}"
        self._format(
            """
            select format(
                'create database %I template %I owner knowledge_owner', $1::text, $2::text
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


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A PostgreSQL that forgets everything; its database `bare` has pgvector and nothing else."""
    folder = Path(tempfile.mkdtemp(prefix="knowledged-tests-"))
    folder.chmod(0o711)
    loop = asyncio.new_event_loop()
    running = embedded_postgres(folder, database="bare", durable=False)
    try:
        cluster = Cluster(loop, loop.run_until_complete(running.__aenter__()))
        yield cluster
        cluster.close()
    finally:
        loop.run_until_complete(running.__aexit__(None, None, None))
        loop.close()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def migrated_template(postgres: Cluster) -> str:
    """The name of a database with our schema."""
    name = postgres.create("bare")
    postgres.run(migrate(postgres.urls(name).owner_dsn))
    return name


@pytest.fixture
def database_urls(postgres: Cluster, migrated_template: str) -> Iterator[DatabaseUrls]:
    """A fresh database with our schema."""
    name = postgres.create(migrated_template)
    yield postgres.urls(name)
    postgres.drop(name)


@pytest.fixture
def bare_urls(postgres: Cluster) -> Iterator[DatabaseUrls]:
    """A fresh database with pgvector, but without our schema."""
    name = postgres.create("bare")
    yield postgres.urls(name)
    postgres.drop(name)


@pytest.fixture
async def database(database_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """A pool of the serving role in a fresh database with our schema."""
    opened = await open_database(database_urls.server_dsn)
    yield opened
    await opened.close()


@pytest.fixture
async def bare_database(bare_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """A pool of at most three connections in a fresh database without our schema."""
    opened = await open_database(bare_urls.owner_dsn)
    yield opened
    await opened.close()


async def open_database(dsn: str) -> Database:
    return await Database.connect(
        dsn, min_size=1, max_size=3, command_timeout_seconds=10, acquire_timeout_seconds=5
    )
