"""Fixtures for all tests: one PostgreSQL for the session, one database for each test, and a way to
serve the real server on any of them."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from cluster import Cluster, DatabaseUrls, open_database
from knowledged.app import Running
from knowledged.database import Database
from knowledged.embedded import embedded_postgres
from knowledged.embedding import bundled
from knowledged.embedding.chunker import Chunker
from knowledged.embedding.local import LocalEmbedder
from knowledged.embedding.tokenizer import TextTokenizer
from knowledged.migrate import migrate
from served import Model, Serve, serve_on

# A busy machine is no failure: the examples count, not the time that one of them takes.
settings.register_profile("knowledged", deadline=None)
settings.load_profile("knowledged")

_MEMORY = Path("/dev/shm")
# Several clusters, each with a gigabyte of log and some databases at a time.
_ROOM_BYTES = 6 * 2**30


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A PostgreSQL that forgets everything; its database `bare` has pgvector and nothing else."""
    folder = Path(tempfile.mkdtemp(prefix="knowledged-tests-", dir=_quick_folder()))
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


def _quick_folder() -> Path | None:
    """Memory, where there is room. For each new file ext4 looks at all inodes freed lately, and a
    database has hundreds of files: tests/store took half as long again on it."""
    roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _ROOM_BYTES
    return _MEMORY if roomy else None


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


@pytest.fixture(scope="session")
def model() -> Iterator[Model]:
    """One for the session: it has a thread of its own and is bound to no event loop."""
    files = bundled.locate()
    tokenizer = TextTokenizer(files.tokenizer)
    embedder = LocalEmbedder(files, tokenizer, threads=2)
    yield Model(embedder, Chunker(tokenizer))
    asyncio.run(embedder.close())


@pytest.fixture(scope="session")
def serve(model: Model) -> Serve:
    """`async with serve(urls, **settings) as running`: the real server on 127.0.0.1:running.port.

    `parts` replaces what the server is made of, by the names of app.Parts.
    """

    def start(
        urls: DatabaseUrls, parts: dict[str, Any] | None = None, **given: Any
    ) -> AbstractAsyncContextManager[Running]:
        return serve_on(urls, model, parts or {}, **given)

    return start
