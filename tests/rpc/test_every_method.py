"""What holds for every RPC there is: who may call it, and how it refuses.

A new RPC needs an entry in `every_request.requests` and in `ALLOWED`.
"""

from typing import Any

import grpc
import grpc.aio
import pytest
from every_request import (
    AUDIT,
    CONFIG,
    KNOWLEDGE,
    METHODS,
    NOBODYS_EVENT,
    VECTOR,
    a_request,
    call,
    every_method,
    requests,
    served_methods,
)
from refusal import refusal_of, refused
from secured import Metadata, SecuredServer

from knowledge.v1 import audit_service_pb2 as a
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1.audit_event_pb2 import AUDIT_OUTCOME_REFUSED, AuditEvent
from knowledge.v1.options_pb2 import AUDIT_CLASS_NONE, access

Code = grpc.StatusCode
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
