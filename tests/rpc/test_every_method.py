"""What holds for every RPC there is: who may call it, and how it refuses.

A new RPC needs an entry in `REQUESTS` and in `ALLOWED`.
"""

import ast
import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from refusal import refusal_of, refused
from secured import Metadata, SecuredServer

import knowledged
from cluster import DatabaseUrls
from knowledge.v1 import audit_service_pb2 as a
from knowledge.v1 import chunk_pb2 as ch
from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import config_service_pb2 as s
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import vector_service_pb2 as v
from knowledge.v1.append_audit_events_pb2 import AppendAuditEventsRequest, AppendedEvent
from knowledge.v1.audit_event_pb2 import AUDIT_OUTCOME_DONE, AUDIT_OUTCOME_REFUSED, AuditEvent
from knowledge.v1.disclosure_pb2 import GetDisclosureReportRequest
from knowledge.v1.erasure_pb2 import EraseSubjectRequest
from knowledge.v1.error_reason_pb2 import ErrorReason
from knowledge.v1.legal_hold_pb2 import (
    LegalHold,
    ListLegalHoldsRequest,
    ReleaseLegalHoldRequest,
    SetLegalHoldRequest,
)
from knowledge.v1.options_pb2 import AUDIT_CLASS_NONE, AUDIT_CLASS_READ, access
from knowledged.connection import connect
from knowledged.embedding import bundled
from knowledged.embedding.catalogue import Catalogue, Offered
from knowledged.embedding.chunker import Chunker
from knowledged.embedding.local import LocalEmbedder
from knowledged.embedding.tokenizer import TextTokenizer
from served import Model, Serve

Code = grpc.StatusCode
KNOWLEDGE, VECTOR = "/knowledge.v1.KnowledgeService/", "/knowledge.v1.VectorService/"
AUDIT, CONFIG = "/knowledge.v1.AuditService/", "/knowledge.v1.ConfigService/"


def requests(name: str, event_id: str) -> dict[str, Message]:
    """A good request of every method: to the collection `name`, its document `d`, its chunk `x`."""
    document, chunk = f"{name}/documents/d", f"{name}/documents/d/chunks/x"
    return {
        f"{KNOWLEDGE}CreateCollection": k.CreateCollectionRequest(
            collection_id=name.removeprefix("collections/")
        ),
        f"{KNOWLEDGE}GetCollection": k.GetCollectionRequest(name=name),
        f"{KNOWLEDGE}ListCollections": k.ListCollectionsRequest(),
        f"{KNOWLEDGE}UpdateCollection": k.UpdateCollectionRequest(
            collection=c.Collection(name=name)
        ),
        f"{KNOWLEDGE}DeleteCollection": k.DeleteCollectionRequest(name=name, force=True),
        f"{KNOWLEDGE}CreateDocument": k.CreateDocumentRequest(
            parent=name, document=d.Document(content="a text")
        ),
        f"{KNOWLEDGE}GetDocument": k.GetDocumentRequest(name=document),
        f"{KNOWLEDGE}ListDocuments": k.ListDocumentsRequest(parent=name),
        f"{KNOWLEDGE}AggregateDocuments": k.AggregateDocumentsRequest(parent=name),
        f"{KNOWLEDGE}ImportDocuments": k.ImportDocumentsRequest(start=k.ImportStart(parent=name)),
        f"{KNOWLEDGE}ExportDocuments": k.ExportDocumentsRequest(parent=name),
        f"{KNOWLEDGE}WatchDocuments": k.WatchDocumentsRequest(parent=name),
        f"{KNOWLEDGE}UpdateDocument": k.UpdateDocumentRequest(
            document=d.Document(name=document, title="changed"), allow_missing=True
        ),
        f"{KNOWLEDGE}DeleteDocument": k.DeleteDocumentRequest(name=document, allow_missing=True),
        f"{KNOWLEDGE}UndeleteDocument": k.UndeleteDocumentRequest(name=document),
        f"{KNOWLEDGE}PurgeDocuments": k.PurgeDocumentsRequest(parent=name, filter="revision > 9"),
        f"{KNOWLEDGE}ListDocumentRevisions": k.ListDocumentRevisionsRequest(parent=document),
        f"{KNOWLEDGE}RollbackDocument": k.RollbackDocumentRequest(name=document, revision=1),
        f"{KNOWLEDGE}BatchGetDocuments": k.BatchGetDocumentsRequest(parent=name, names=[document]),
        f"{KNOWLEDGE}BatchCreateDocuments": k.BatchCreateDocumentsRequest(
            parent=name,
            requests=[k.CreateDocumentRequest(document=d.Document(origin=d.ORIGIN_CALLER))],
        ),
        f"{KNOWLEDGE}BatchUpdateDocuments": k.BatchUpdateDocumentsRequest(
            parent=name,
            requests=[k.UpdateDocumentRequest(document=d.Document(name=document, title="changed"))],
        ),
        f"{KNOWLEDGE}BatchDeleteDocuments": k.BatchDeleteDocumentsRequest(
            parent=name, requests=[k.DeleteDocumentRequest(name=document)]
        ),
        f"{VECTOR}UpsertChunks": v.UpsertChunksRequest(
            parent=document, chunks=[ch.Chunk(chunk_id="x", content="a text")]
        ),
        f"{VECTOR}IngestChunks": v.IngestChunksRequest(start=v.IngestStart(parent=document)),
        f"{VECTOR}GetChunk": v.GetChunkRequest(name=chunk),
        f"{VECTOR}ListChunks": v.ListChunksRequest(parent=document),
        f"{VECTOR}DeleteChunk": v.DeleteChunkRequest(name=chunk),
        f"{VECTOR}EmbedTexts": v.EmbedTextsRequest(texts=["a text"]),
        f"{VECTOR}PreviewChunks": v.PreviewChunksRequest(content="a text"),
        f"{VECTOR}Search": v.SearchRequest(collection=name, text="a text"),
        f"{VECTOR}BatchSearch": v.BatchSearchRequest(
            collection=name, searches=[v.SearchRequest(text="a text")]
        ),
        f"{VECTOR}AggregateChunks": v.AggregateChunksRequest(collection=name),
        f"{VECTOR}GetIndexStats": v.GetIndexStatsRequest(collection=name),
        f"{VECTOR}MeasureRecall": v.MeasureRecallRequest(collection=name),
        f"{AUDIT}AppendAuditEvents": AppendAuditEventsRequest(
            events=[
                AppendedEvent(
                    insert_id=str(uuid4()),
                    action="pharmacy.orders.read",
                    audit_class=AUDIT_CLASS_READ,
                    outcome=AUDIT_OUTCOME_DONE,
                )
            ]
        ),
        f"{AUDIT}SetLegalHold": SetLegalHoldRequest(
            legal_hold=LegalHold(reason="a case", collection=name)
        ),
        f"{AUDIT}ReleaseLegalHold": ReleaseLegalHoldRequest(name="legalHolds/never-was"),
        f"{AUDIT}ListLegalHolds": ListLegalHoldsRequest(),
        f"{AUDIT}EraseSubject": EraseSubjectRequest(subject_id="p-1"),
        f"{AUDIT}GetDisclosureReport": GetDisclosureReportRequest(subject_id="p-1"),
        f"{AUDIT}GetAuditEvent": a.GetAuditEventRequest(name=f"auditEvents/{event_id}"),
        f"{AUDIT}ListAuditEvents": a.ListAuditEventsRequest(),
        f"{AUDIT}TailAuditEvents": a.TailAuditEventsRequest(start_log_index=0),
        f"{AUDIT}GetCheckpoint": a.GetCheckpointRequest(),
        f"{AUDIT}ListCheckpoints": a.ListCheckpointsRequest(),
        f"{AUDIT}GetInclusionProof": a.GetInclusionProofRequest(name=f"auditEvents/{event_id}"),
        f"{AUDIT}GetConsistencyProof": a.GetConsistencyProofRequest(old_tree_size=1),
        f"{AUDIT}VerifyAuditLog": a.VerifyAuditLogRequest(),
        f"{AUDIT}ExportAuditEvents": a.ExportAuditEventsRequest(),
        f"{CONFIG}GetServerInfo": s.GetServerInfoRequest(),
        f"{CONFIG}ListEmbeddingModels": s.ListEmbeddingModelsRequest(),
        f"{CONFIG}SetProviderCredential": s.SetProviderCredentialRequest(
            name=PROVIDER, api_key="hf_notakeynotakeynotakey", skip_validation=True
        ),
        f"{CONFIG}GetProviderCredential": s.GetProviderCredentialRequest(name=PROVIDER),
        f"{CONFIG}ValidateProviderCredential": s.ValidateProviderCredentialRequest(name=PROVIDER),
        f"{CONFIG}DeleteProviderCredential": s.DeleteProviderCredentialRequest(name=PROVIDER),
    }


PROVIDER = "providers/huggingface"
NOBODYS_EVENT = "01900000-0000-7000-8000-000000000000"
METHODS = tuple(requests("collections/x", NOBODYS_EVENT))
ROLES = {"reader", "writer", "auditor", "operator", "recorder", "admin"}
COLLECTION_ROLES = ROLES - {"recorder"}
# Which roles may call it.
ALLOWED = {
    f"{KNOWLEDGE}CreateCollection": {"operator", "admin"},
    f"{KNOWLEDGE}GetCollection": COLLECTION_ROLES,
    f"{KNOWLEDGE}ListCollections": COLLECTION_ROLES,
    f"{KNOWLEDGE}UpdateCollection": {"operator", "admin"},
    f"{KNOWLEDGE}DeleteCollection": {"operator", "admin"},
    f"{KNOWLEDGE}CreateDocument": {"writer", "admin"},
    f"{KNOWLEDGE}GetDocument": {"reader", "writer", "admin"},
    f"{KNOWLEDGE}ListDocuments": {"reader", "writer", "admin"},
    f"{KNOWLEDGE}AggregateDocuments": {"reader", "writer", "admin"},
    f"{KNOWLEDGE}ImportDocuments": {"writer", "admin"},
    f"{KNOWLEDGE}ExportDocuments": {"reader", "writer", "admin"},
    f"{KNOWLEDGE}WatchDocuments": {"reader", "writer", "admin"},
    f"{KNOWLEDGE}UpdateDocument": {"writer", "admin"},
    f"{KNOWLEDGE}DeleteDocument": {"writer", "admin"},
    f"{KNOWLEDGE}UndeleteDocument": {"writer", "admin"},
    f"{KNOWLEDGE}PurgeDocuments": {"admin"},
    f"{KNOWLEDGE}ListDocumentRevisions": {"reader", "writer", "admin"},
    f"{KNOWLEDGE}RollbackDocument": {"writer", "admin"},
    f"{KNOWLEDGE}BatchGetDocuments": {"reader", "writer", "admin"},
    f"{KNOWLEDGE}BatchCreateDocuments": {"writer", "admin"},
    f"{KNOWLEDGE}BatchUpdateDocuments": {"writer", "admin"},
    f"{KNOWLEDGE}BatchDeleteDocuments": {"writer", "admin"},
    f"{VECTOR}UpsertChunks": {"writer", "admin"},
    f"{VECTOR}IngestChunks": {"writer", "admin"},
    f"{VECTOR}GetChunk": {"reader", "writer", "admin"},
    f"{VECTOR}ListChunks": {"reader", "writer", "admin"},
    f"{VECTOR}DeleteChunk": {"writer", "admin"},
    f"{VECTOR}EmbedTexts": {"reader", "writer", "admin"},
    f"{VECTOR}PreviewChunks": {"reader", "writer", "admin"},
    f"{VECTOR}Search": {"reader", "writer", "admin"},
    f"{VECTOR}BatchSearch": {"reader", "writer", "admin"},
    f"{VECTOR}AggregateChunks": {"reader", "writer", "admin"},
    f"{VECTOR}GetIndexStats": COLLECTION_ROLES,
    f"{VECTOR}MeasureRecall": {"reader", "writer", "admin"},
    f"{AUDIT}AppendAuditEvents": {"recorder", "admin"},
    f"{AUDIT}SetLegalHold": {"admin"},
    f"{AUDIT}ReleaseLegalHold": {"admin"},
    f"{AUDIT}ListLegalHolds": {"auditor", "admin"},
    f"{AUDIT}EraseSubject": {"admin"},
    f"{AUDIT}GetDisclosureReport": {"auditor", "admin"},
    f"{AUDIT}GetAuditEvent": {"auditor", "admin"},
    f"{AUDIT}ListAuditEvents": {"auditor", "admin"},
    f"{AUDIT}TailAuditEvents": {"auditor", "admin"},
    f"{AUDIT}GetCheckpoint": {"auditor", "admin"},
    f"{AUDIT}ListCheckpoints": {"auditor", "admin"},
    f"{AUDIT}GetInclusionProof": {"auditor", "admin"},
    f"{AUDIT}GetConsistencyProof": {"auditor", "admin"},
    f"{AUDIT}VerifyAuditLog": {"auditor", "admin"},
    f"{AUDIT}ExportAuditEvents": {"auditor", "admin"},
    f"{CONFIG}GetServerInfo": ROLES,
    f"{CONFIG}ListEmbeddingModels": ROLES,
    f"{CONFIG}SetProviderCredential": {"operator", "admin"},
    f"{CONFIG}GetProviderCredential": {"operator", "auditor", "admin"},
    f"{CONFIG}ValidateProviderCredential": {"operator", "admin"},
    f"{CONFIG}DeleteProviderCredential": {"operator", "admin"},
}
# What takes no collection, or leaves out what the caller is not granted.
ANSWERED_FOR_ALL = {
    f"{KNOWLEDGE}ListCollections",
    f"{VECTOR}EmbedTexts",
    f"{VECTOR}PreviewChunks",
    f"{AUDIT}AppendAuditEvents",
    f"{AUDIT}ListLegalHolds",
    f"{AUDIT}ListAuditEvents",
    f"{AUDIT}TailAuditEvents",
    f"{AUDIT}GetCheckpoint",
    f"{AUDIT}ListCheckpoints",
    f"{AUDIT}GetConsistencyProof",
    f"{AUDIT}VerifyAuditLog",
    f"{AUDIT}ExportAuditEvents",
    f"{AUDIT}GetDisclosureReport",
    f"{CONFIG}GetServerInfo",
    f"{CONFIG}ListEmbeddingModels",
    f"{CONFIG}GetProviderCredential",
}
# What is the whole server's: who is confined to some collections may not do it.
DENIED_TO_THE_CONFINED = {
    f"{KNOWLEDGE}CreateCollection",
    f"{AUDIT}EraseSubject",
    f"{CONFIG}SetProviderCredential",
    f"{CONFIG}ValidateProviderCredential",
    f"{CONFIG}DeleteProviderCredential",
}

every_method = pytest.mark.parametrize("path", METHODS, ids=lambda path: path.split("/")[-1])


def served_methods() -> dict[str, MethodDescriptor]:
    """All methods of our services, from the descriptors."""
    return {
        f"/{service.full_name}/{method.name}": method
        for module in (k, v, a, s)
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


STREAMS = {path: m.client_streaming for path, m in served_methods().items() if m.server_streaming}


def call(
    channel: grpc.aio.Channel, path: str, request: bytes, metadata: Metadata | None = None
) -> Any:
    """Bytes in, bytes out; of a stream the first answer."""
    if path not in STREAMS:
        return channel.unary_unary(path)(request, metadata=metadata)
    if STREAMS[path]:
        return first(channel.stream_stream(path)(iter([request]), metadata=metadata))
    return first(channel.unary_stream(path)(request, metadata=metadata))


async def first(stream: Any) -> bytes:
    """A stream that goes on for ever, as a tail does, has nothing to say for a while."""
    try:
        async with asyncio.timeout(1):
            return await anext(aiter(stream), b"")
    except TimeoutError:
        return b""
    finally:
        stream.cancel()


def a_request(path: str) -> bytes:
    return requests("collections/x", NOBODYS_EVENT)[path].SerializeToString()


def test_every_method_of_the_descriptors_is_tested_here() -> None:
    assert set(METHODS) == set(ALLOWED) == set(served_methods())


@every_method
async def test_without_a_token_nobody_calls(secured_server: SecuredServer, path: str) -> None:
    refusal = await refused(call(secured_server.channel, path, a_request(path)))
    assert (refusal.code, refusal.reason) == (Code.UNAUTHENTICATED, "CREDENTIALS_MISSING")


@every_method
@pytest.mark.parametrize(
    "header",
    [
        "Bearer nonsense",
        "Bearer kd_aaaaaaaa_" + "a" * 43,
        "Basic abc",
        "Bearer",
        "",
    ],
    ids=["nonsense", "unknown", "basic", "empty", "nothing"],
)
async def test_with_a_wrong_token_nobody_calls(
    secured_server: SecuredServer, path: str, header: str
) -> None:
    metadata = (("authorization", header),)
    refusal = await refused(call(secured_server.channel, path, a_request(path), metadata))
    assert (refusal.code, refusal.reason) == (Code.UNAUTHENTICATED, "CREDENTIALS_INVALID")


@every_method
async def test_a_token_of_another_secret_does_not_do(
    secured_server: SecuredServer, path: str
) -> None:
    token = secured_server.tokens["admin"]
    changed = token[:-2] + ("A" if token[-2] != "A" else "B") + token[-1]
    metadata = (("authorization", f"Bearer {changed}"),)
    refusal = await refused(call(secured_server.channel, path, a_request(path), metadata))
    assert (refusal.code, refusal.reason) == (Code.UNAUTHENTICATED, "CREDENTIALS_INVALID")
    assert token[:12] not in refusal.raw


@every_method
@pytest.mark.parametrize("role", sorted(ROLES))
async def test_a_role_may_call_what_it_is_allowed(
    secured_server: SecuredServer, path: str, role: str
) -> None:
    """The bytes are no message, so that nothing happens: only who may call hears of that."""
    metadata = secured_server.metadata(role)
    refusal = await refused(call(secured_server.channel, path, b"\xff", metadata))
    if role in ALLOWED[path]:
        assert refusal.code is Code.INVALID_ARGUMENT
    else:
        assert (refusal.code, refusal.reason) == (Code.PERMISSION_DENIED, "PERMISSION_MISSING")


def confined_to_own(path: str) -> str:
    """A subject who may call the method, but on the collection `own` alone."""
    return next(
        f"confined-{role}"
        for role in ("reader", "writer", "auditor", "admin")
        if role in ALLOWED[path]
    )


@every_method
async def test_a_foreign_collection_is_as_good_as_missing(
    secured_server: SecuredServer, path: str
) -> None:
    metadata = secured_server.metadata(confined_to_own(path))
    foreign = requests(secured_server.foreign.name, secured_server.foreign.event_id)[path]
    missing = requests("collections/never-was", NOBODYS_EVENT)[path]
    outcomes = [
        await outcome(call(secured_server.channel, path, each.SerializeToString(), metadata))
        for each in (foreign, missing)
    ]
    assert outcomes[0] == outcomes[1]
    if path in ANSWERED_FOR_ALL:
        assert outcomes[0] == (Code.OK, "")
    elif path in DENIED_TO_THE_CONFINED:
        assert outcomes[0][0] is Code.PERMISSION_DENIED
    else:
        assert outcomes[0][0] is Code.NOT_FOUND


async def outcome(answer: Any) -> tuple[Code, str]:
    """The code, and the message of a refusal."""
    try:
        await answer
    except grpc.aio.AioRpcError as error:
        return error.code(), refusal_of(error).message
    return Code.OK, ""


async def test_lists_leave_foreign_collections_out(secured_server: SecuredServer) -> None:
    path = f"{KNOWLEDGE}ListCollections"
    metadata = secured_server.metadata("confined-reader")
    listed = k.ListCollectionsResponse.FromString(
        await call(secured_server.channel, path, b"", metadata)
    )
    assert [each.name for each in listed.collections] == [secured_server.own.name]
    assert not listed.next_page_token


@pytest.mark.parametrize(
    "path", [p for p in METHODS if not p.endswith(("/DeleteChunk", "/ReleaseLegalHold"))]
)
async def test_a_confined_caller_reaches_its_own_collection(
    secured_server: SecuredServer, path: str
) -> None:
    """Nothing that others read is changed: etags are stale, and validate_only where there is it."""
    request: Any = requests(secured_server.own.name, secured_server.own.event_id)[path]
    if "etag" in request.DESCRIPTOR.fields_by_name:
        request.etag = "stale"
    if "validate_only" in request.DESCRIPTOR.fields_by_name:
        request.validate_only = True
    metadata = secured_server.metadata(confined_to_own(path))
    raw = request.SerializeToString()
    code, _ = await outcome(call(secured_server.channel, path, raw, metadata))
    if path in DENIED_TO_THE_CONFINED and not path.endswith("/CreateCollection"):
        assert code is Code.PERMISSION_DENIED
        return
    assert code in (Code.OK, Code.ABORTED, Code.ALREADY_EXISTS)


@every_method
@pytest.mark.parametrize(
    "raw", [b"\xff", b"\x0a\x05ab", b"\x0a\xff\xff\xff\xff\x0f", b"\x07", b"\x0b" * 200]
)
async def test_malformed_bytes_are_refused(
    channel: grpc.aio.Channel, path: str, raw: bytes
) -> None:
    refusal = await refused(call(channel, path, raw))
    assert (refusal.code, refusal.reason) == (Code.INVALID_ARGUMENT, "MALFORMED_MESSAGE")


@every_method
async def test_an_empty_request_is_answered_or_refused_by_its_fields(
    channel: grpc.aio.Channel, path: str
) -> None:
    code, _ = await outcome(call(channel, path, b""))
    assert code in (Code.OK, Code.INVALID_ARGUMENT)


@every_method
async def test_a_declaration_that_is_too_long_is_refused(
    channel: grpc.aio.Channel, path: str
) -> None:
    metadata = (("x-purpose", "p" * 257), ("x-on-behalf-of", "o" * 257))
    refusal = await refused(call(channel, path, a_request(path), metadata))
    assert set(refusal.fields) == {"x-purpose", "x-on-behalf-of"}


@every_method
async def test_the_call_id_comes_back(channel: grpc.aio.Channel, path: str) -> None:
    answer = call(channel, path, b"\xff")
    refusal = await refused(answer)
    assert len(refusal.call_id) == 36


async def events_of(
    channel: grpc.aio.Channel, call_id: str, metadata: Metadata | None = None
) -> list[AuditEvent]:
    request = a.ListAuditEventsRequest(filter=f'call_id = "{call_id}"').SerializeToString()
    raw = await call(channel, f"{AUDIT}ListAuditEvents", request, metadata)
    return list(a.ListAuditEventsResponse.FromString(raw).events)


def is_audited(path: str) -> bool:
    return served_methods()[path].GetOptions().Extensions[access].audit_class != AUDIT_CLASS_NONE


@every_method
async def test_a_refused_request_leaves_exactly_one_event(
    channel: grpc.aio.Channel, path: str
) -> None:
    refusal = await refused(call(channel, path, b"\xff"))
    events = await events_of(channel, refusal.call_id)
    if not is_audited(path):
        assert events == []
        return
    (event,) = events
    assert (event.rpc, event.outcome, event.grpc_code) == (path, AUDIT_OUTCOME_REFUSED, 3)


@every_method
async def test_a_caller_without_the_right_leaves_exactly_one_event(
    secured_server: SecuredServer, path: str
) -> None:
    if not (others := sorted(ROLES - ALLOWED[path])) or not is_audited(path):
        pytest.skip("all may call it, or nothing of it is recorded")
    metadata = secured_server.metadata(others[0])
    refusal = await refused(call(secured_server.channel, path, a_request(path), metadata))
    auditor = secured_server.metadata("auditor")
    (event,) = await events_of(secured_server.channel, refusal.call_id, auditor)
    assert (event.rpc, event.actor, event.grpc_code) == (path, others[0], 7)


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


SERVER = Path(knowledged.__file__).parent


def test_every_reason_that_the_server_gives_is_in_the_proto() -> None:
    names = [value.name for value in ErrorReason.DESCRIPTOR.values]
    known = {name.removeprefix("ERROR_REASON_") for name in names}
    given = {
        reason
        for file in SERVER.rglob("*.py")
        if not file.is_relative_to(SERVER / "commands")  # what runs at a client
        for node in ast.walk(ast.parse(file.read_text()))
        for reason in reasons_in(node)
    }
    assert {"INVALID_FIELD", "QUOTA_EXHAUSTED", "DATABASE_READ_ONLY", "MODEL_MISMATCH"} <= given
    assert given <= known


def reasons_in(node: ast.AST) -> Iterator[str]:
    """`reason="X"` in a call, `reason = "X"` in a class, and the second argument of Status."""
    match node:
        case ast.keyword(arg="reason", value=ast.Constant(value=str(reason))):
            yield reason
        case ast.Assign(targets=[ast.Name(id="reason")], value=ast.Constant(value=str(reason))):
            yield reason
        case ast.Call(func=ast.Name(id="Status"), args=[_, ast.Constant(value=str(reason)), *_]):
            yield reason
        case _:
            return
