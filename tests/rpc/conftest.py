"""The contract is tested over a channel. It may also lead to a deployed server without access
control, `TARGET=host:port pytest tests/rpc`: tests that need more than a channel then skip.

Everything here lives in one event loop, that of the session. Tests share a database and make
collections of their own; never list everything and expect to be alone.
"""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio
import structlog.testing
from asking import creation
from command_line import Ended, Run
from grpc_health.v1.health_pb2_grpc import HealthStub
from secured import SecuredServer, furnished, write_access_file

from cluster import Cluster, DatabaseUrls
from knowledge.v1.audit_event_pb2 import AuditEvent
from knowledge.v1.audit_service_pb2 import ListAuditEventsRequest
from knowledge.v1.audit_service_pb2_grpc import AuditServiceStub
from knowledge.v1.chunk_pb2 import Chunk
from knowledge.v1.collection_pb2 import Collection
from knowledge.v1.config_service_pb2_grpc import ConfigServiceStub
from knowledge.v1.document_pb2 import VIEW_FULL, Document
from knowledge.v1.knowledge_service_pb2 import CreateCollectionRequest, GetDocumentRequest
from knowledge.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub
from knowledge.v1.vector_service_pb2 import ListChunksRequest, SearchRequest, SearchResponse
from knowledge.v1.vector_service_pb2_grpc import VectorServiceStub
from knowledged.__main__ import main
from knowledged.app import Running
from served import Serve

Start = Callable[[], AbstractAsyncContextManager[Running]]
TARGET = os.environ.get("TARGET")
HERE = Path(__file__).parent
in_session_loop = pytest.mark.asyncio(loop_scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A server answers in the event loop it was started in: tests run in it, too."""
    for item in items:
        if HERE in item.path.parents and pytest_asyncio.is_async_test(item):
            item.add_marker(in_session_loop, append=False)


@pytest.fixture(scope="session")
def rpc_server(request: pytest.FixtureRequest) -> Iterator[Start | None]:
    """Starts a server on the database that the tests share; None when TARGET is tested instead."""
    if TARGET:
        yield None
        return
    postgres: Cluster = request.getfixturevalue("postgres")
    serve: Serve = request.getfixturevalue("serve")
    name = postgres.create(request.getfixturevalue("migrated_template"))
    yield lambda: serve(postgres.urls(name))
    postgres.drop(name)


@pytest.fixture(scope="session")
def second_database(postgres: Cluster, migrated_template: str) -> Iterator[DatabaseUrls]:
    """The database behind the secured server."""
    name = postgres.create(migrated_template)
    yield postgres.urls(name)
    postgres.drop(name)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def channel(rpc_server: Start | None) -> AsyncIterator[grpc.aio.Channel]:
    """To the server under test: TARGET, or one that is started here."""
    async with AsyncExitStack() as stack:
        target = TARGET or await _started(stack, rpc_server)
        yield await stack.enter_async_context(grpc.aio.insecure_channel(target))


async def _started(stack: AsyncExitStack, start: Start | None) -> str:
    assert start is not None
    running = await stack.enter_async_context(start())
    return f"127.0.0.1:{running.port}"


@pytest.fixture(scope="session")
def knowledge(channel: grpc.aio.Channel) -> Any:
    return KnowledgeServiceStub(channel)


@pytest.fixture(scope="session")
def vectors(channel: grpc.aio.Channel) -> Any:
    return VectorServiceStub(channel)


@pytest.fixture(scope="session")
def audit_log(channel: grpc.aio.Channel) -> Any:
    return AuditServiceStub(channel)


@pytest.fixture(scope="session")
def config(channel: grpc.aio.Channel) -> Any:
    return ConfigServiceStub(channel)


@pytest.fixture(scope="session")
def health(channel: grpc.aio.Channel) -> Any:
    return HealthStub(channel)


MakeCollection = Callable[..., Coroutine[Any, Any, Collection]]


@pytest.fixture
def make_collection(knowledge: Any) -> MakeCollection:
    """`await make_collection(dimension=3, ...)`: a fresh collection with these fields."""

    async def make(**fields: Any) -> Collection:
        request = CreateCollectionRequest(
            collection=Collection(**fields), collection_id=f"test-{uuid.uuid4().hex}"
        )
        return (await knowledge.CreateCollection(request)).collection

    return make


@pytest_asyncio.fixture(loop_scope="session")
async def collection(make_collection: MakeCollection) -> Collection:
    """A fresh collection with all defaults; its name is `collection.name`."""
    return await make_collection()


@pytest.fixture(scope="session")
def only_here() -> None:
    """Skips a test that needs more than a channel when a deployed server is the TARGET."""
    if TARGET:
        pytest.skip("needs its own server or database, and TARGET is another's")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def secured_server(
    only_here: None,
    second_database: DatabaseUrls,
    serve: Serve,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[SecuredServer]:
    """See SecuredServer."""
    file = tmp_path_factory.mktemp("access") / "access.yaml"
    subjects = write_access_file(file)
    async with (
        serve(second_database, auth="token", access_file=file) as running,
        grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as opened,
    ):
        yield await furnished(opened, subjects)


@pytest.fixture
def create(knowledge: Any, collection: Collection) -> Callable[..., Any]:
    """`await create("id", content=...)`: a document in `collection`."""

    async def make(document_id: str = "", **fields: Any) -> Document:
        answer = await knowledge.CreateDocument(creation(collection, document_id, **fields))
        return answer.document

    return make


@pytest.fixture
def read(knowledge: Any) -> Callable[..., Any]:
    """`await read(document)`: the document as it is now."""

    async def get(document: Document) -> Document:
        answer = await knowledge.GetDocument(GetDocumentRequest(name=document.name))
        return answer.document

    return get


@pytest.fixture
def chunks(vectors: Any) -> Callable[..., Any]:
    """`await chunks(document)`: its chunks in order, whole."""

    async def listed(document: Document) -> list[Chunk]:
        request = ListChunksRequest(parent=document.name, view=VIEW_FULL, page_size=1000)
        return list((await vectors.ListChunks(request)).chunks)

    return listed


@pytest.fixture
def found(vectors: Any, collection: Collection) -> Callable[..., Any]:
    """`await found("text")`: the names of the documents that a search finds, best first."""

    async def search(text: str) -> list[str]:
        answer = await vectors.Search(SearchRequest(collection=collection.name, text=text))
        return [hit.document.name for hit in answer.hits]

    return search


@pytest.fixture
def search(vectors: Any) -> Callable[..., Any]:
    """`await search(collection, text=... or vector=..., ...)`: the answer."""

    async def ask(collection: Collection, **fields: Any) -> SearchResponse:
        return await vectors.Search(SearchRequest(collection=collection.name, **fields))

    return ask


@pytest.fixture
def events(audit_log: Any) -> Callable[..., Any]:
    """`await events(filter)`: the first page of events, latest first."""

    async def listed(text: str, **fields: Any) -> list[AuditEvent]:
        request = ListAuditEventsRequest(filter=text, **fields)
        return list((await audit_log.ListAuditEvents(request)).events)

    return listed


@pytest.fixture
def knowledged(capsys: pytest.CaptureFixture[str]) -> Run:
    """`await knowledged("search", ...)`: the command line, in a thread with a loop of its own."""

    async def run(*arguments: str | Path) -> Ended:
        capsys.readouterr()
        # The server's log, which would stand between what the command prints.
        with structlog.testing.capture_logs():
            code = await asyncio.to_thread(main, list(map(str, arguments)))
        return Ended(code, *capsys.readouterr())

    return run
