"""What callers entrust to the server is nowhere but in its answers and its tables."""

import asyncio
import uuid
from collections.abc import Awaitable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import grpc.aio
from google.protobuf.struct_pb2 import Struct, Value

from caller import Caller, caller
from guarded import Guarded
from knowledge.v1.audit_service_pb2 import ExportAuditEventsRequest, ListAuditEventsRequest
from knowledge.v1.chunk_pb2 import Chunk
from knowledge.v1.document_pb2 import Document
from knowledge.v1.knowledge_service_pb2 import (
    AggregateDocumentsRequest,
    CreateCollectionRequest,
    CreateDocumentRequest,
    Facet,
    GetDocumentRequest,
    ListDocumentsRequest,
    UpdateDocumentRequest,
)
from knowledge.v1.vector_service_pb2 import (
    BatchSearchRequest,
    EmbedTextsRequest,
    HybridQuery,
    PreviewChunksRequest,
    SearchRequest,
    UpsertChunksRequest,
)
from server_process import superuser

# Every secret begins so; in hexadecimal too, as bytes are shown in PostgreSQL's messages.
CANARY = "canary7f3a"
SHAPES = (CANARY, CANARY.encode().hex())

AUDITED = """
    select encode(payload, 'escape') || encode(leaf, 'escape')
      from knowledge.audit_event join knowledge.audit_payload using (event_id, audit_class)
"""


def secret(kind: str) -> str:
    return f"{CANARY}{kind}"


async def test_no_secret_shows_anywhere(guarded: Guarded, administrator: Caller) -> None:
    told = [await read(call) for call in calls(administrator)]
    told.append(await refused(guarded))
    assert sum("OK" not in answer for answer in told) >= 8
    places = {
        "error details": "".join(told),
        "log": guarded.server.log_text(),
        "log of PostgreSQL": read_text(guarded.server.folder / "postgres/postgres.log"),
        "metrics": await asyncio.to_thread(page, guarded.metrics_url),
    }
    async with superuser(guarded.server) as conn:
        places["audit log"] = "".join(row[0] for row in await conn.fetch(AUDITED))
    places["export of the audit log"] = await exported(administrator)
    assert "grpc_server_handled_total" in places["metrics"]
    assert "CreateDocument" in places["log"]
    assert "vectorService/Search".lower() in places["export of the audit log"].lower()
    assert [name for name in places if leaks(places[name])] == []


def test_a_leak_would_be_found() -> None:
    assert leaks(f"duplicate key: (title)=({secret('title')})")
    assert leaks(f"invalid bytes \\x{secret('content').encode().hex()}")
    assert not leaks("the request is no knowledge.v1.SearchRequest")


def leaks(text: str) -> bool:
    return any(shape in text for shape in SHAPES)


def calls(client: Caller) -> Iterator[Awaitable[object]]:
    """Good requests and bad ones, each with secrets in all that is not a name."""
    parent = f"collections/{uuid.uuid4().hex}"
    metadata = Struct()
    metadata.update({secret("key"): secret("value"), "nested": [{"a": secret("deep")}]})
    good = Document(title=secret("title"), content=secret("content"), metadata=metadata)
    long = Document(content="A fever.", title=secret("title") * 100, source_uri=secret("\x00"))
    values = {"v": Value(string_value=secret("bound"))}
    headers = (*client.headers, ("x-secret", secret("header")))
    missing = f"{parent}/documents/missing"
    chunk = Chunk(chunk_id="a", content=secret("chunk"), metadata=metadata)
    k, v = client.knowledge, client.vectors
    for method, request in (
        (k.CreateCollection, CreateCollectionRequest(collection_id=parent.split("/")[1])),
        (k.CreateDocument, CreateDocumentRequest(parent=parent, document=good)),
        (k.CreateDocument, CreateDocumentRequest(parent=parent, document=long)),
        (k.CreateDocument, CreateDocumentRequest(document=good, request_id=secret("request"))),
        (k.UpdateDocument, UpdateDocumentRequest(document=good, etag=secret("etag"))),
        (k.GetDocument, GetDocumentRequest(name=missing)),
        (k.ListDocuments, ListDocumentsRequest(parent=parent, page_token=secret("page"))),
        (k.ListDocuments, ListDocumentsRequest(parent=parent, filter=f"title='{secret('t')}'")),
        (k.ListDocuments, ListDocumentsRequest(parent=parent, filter=f"title = ({secret('f')}")),
        (k.ListDocuments, ListDocumentsRequest(parent=parent, filter=f"{secret('x')} = 1")),
        (k.ListDocuments, ListDocumentsRequest(parent=parent, order_by=secret("order"))),
        (
            k.ListDocuments,
            ListDocumentsRequest(parent=parent, filter="create_time > @v", filter_values=values),
        ),
        (v.Search, SearchRequest(collection=parent, text=secret("query"), exact=True)),
        (v.Search, SearchRequest(collection=parent, text=secret("\x00"))),
        (
            v.Search,
            SearchRequest(collection=parent, text="a", filter="title = @v", filter_values=values),
        ),
        (
            v.Search,
            SearchRequest(
                collection=parent,
                hybrid=HybridQuery(text=f'"{secret("quoted")}" {secret("hybrid")}'),
                highlight=True,
                explain=True,
            ),
        ),
        (
            v.BatchSearch,
            BatchSearchRequest(
                collection=parent, searches=[SearchRequest(text=secret("batch"), min_score=-1)]
            ),
        ),
        (
            k.AggregateDocuments,
            AggregateDocumentsRequest(parent=parent, facets=[Facet(path=secret("path"))]),
        ),
        (v.EmbedTexts, EmbedTextsRequest(texts=[secret("text"), secret("\x00")])),
        (v.PreviewChunks, PreviewChunksRequest(content=secret("text"), mime_type=secret("mime"))),
        (v.UpsertChunks, UpsertChunksRequest(parent=missing, chunks=[chunk, chunk])),
    ):
        yield method(request, timeout=20, metadata=headers)


async def exported(client: Caller) -> str:
    """All lines, once a checkpoint covers what happened."""
    latest = await client.audit.ListAuditEvents(
        ListAuditEventsRequest(page_size=1), timeout=20, metadata=client.headers
    )
    async with asyncio.timeout(60):
        while True:
            # None is signed in the first seconds of a server.
            with suppress(grpc.aio.AioRpcError):
                answers = client.audit.ExportAuditEvents(
                    ExportAuditEventsRequest(), timeout=30, metadata=client.headers
                )
                lines = b"".join([answer.lines async for answer in answers]).decode()
                if latest.events[0].event_id in lines:
                    return lines
            await asyncio.sleep(1)


async def refused(guarded: Guarded) -> str:
    """A token that is nobody's."""
    async with caller(guarded.server.address, f"kd_{CANARY[:8]}_{secret('token') * 3}") as nobody:
        return await read(
            nobody.knowledge.GetDocument(GetDocumentRequest(), metadata=nobody.headers)
        )


async def read(call: Awaitable[object]) -> str:
    """All that an error says, or OK."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        trailing = [*(error.trailing_metadata() or ()), *(error.initial_metadata() or ())]
        return f"{error.code().name} {error.details()} {trailing}"
    return "OK"


def read_text(file: Path) -> str:
    return file.read_text(errors="replace")


def page(url: str) -> str:
    with urlopen(url, timeout=10) as answer:  # noqa: S310 - an address of ours
        return answer.read().decode()
