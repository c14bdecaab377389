"""A bug of ours leaks nothing, whichever RPC it is in."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import cast

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from every_request import METHODS, a_request, call
from refusal import refused

from cluster import DatabaseUrls
from knowledged.connection import connect
from knowledged.embedding import bundled
from knowledged.embedding.catalogue import Catalogue, Offered
from knowledged.embedding.chunker import Chunker
from knowledged.embedding.local import LocalEmbedder
from knowledged.embedding.tokenizer import TextTokenizer
from served import Model, Serve

Code = grpc.StatusCode


@pytest.fixture
def broken_database(only_here: None, request: pytest.FixtureRequest) -> DatabaseUrls:
    """Asked for late, so that no PostgreSQL starts for a TARGET."""
    urls: DatabaseUrls = request.getfixturevalue("database_urls")
    return urls


@pytest_asyncio.fixture(loop_scope="session")
async def broken(
    broken_database: DatabaseUrls, serve: Serve, model: Model
) -> AsyncIterator[grpc.aio.Channel]:
    """To a server whose tables vanish behind its back, and whose tokenizer is none."""
    tokenizer = cast("TextTokenizer", SimpleNamespace(special_tokens=2))
    embedder = LocalEmbedder(bundled.locate(), tokenizer, threads=1)
    parts = {"catalogue": Catalogue([Offered(embedder, Chunker(tokenizer))])}
    async with (
        serve(broken_database, parts) as running,
        grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as opened,
    ):
        admin = await connect(broken_database.superuser_dsn)
        await admin.execute("alter schema knowledge rename to hidden")
        await admin.close()
        yield opened
    await embedder.close()


async def test_a_bug_of_ours_leaks_nothing(broken: grpc.aio.Channel) -> None:
    """Of every method: in one test, since breaking a server takes a second."""
    refusals = {path: await refused(call(broken, path, a_request(path))) for path in METHODS}
    for path, refusal in refusals.items():
        seen = refusal.code, refusal.reason, refusal.message
        assert seen == (Code.INTERNAL, "INTERNAL", "internal error"), path
        assert len(refusal.call_id) == 36
        told = refusal.raw.replace("knowledge.v1", "").lower()
        for secret in ("knowledge.", "relation", "undefined", "namespace", "attribute", ".py"):
            assert secret not in told, path
