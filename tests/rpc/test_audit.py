"""AuditService: every mutation leaves an event that its receipt proves."""

import hashlib
import struct
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import grpc
import pytest
import pytest_asyncio
from google.protobuf.struct_pb2 import Struct
from refusal import refused
from secured import SecuredServer

from knowledge.v1 import audit_event_pb2 as e
from knowledge.v1 import audit_service_pb2 as a
from knowledge.v1 import chunk_pb2 as ch
from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import options_pb2 as o
from knowledge.v1 import vector_service_pb2 as v
from knowledge.v1.audit_service_pb2_grpc import AuditServiceStub

Code = grpc.StatusCode
MARKER = "Zebrafinch"


class Leaf(NamedTuple):
    """The fields of a leaf, read by docs/audit-leaf.md alone."""

    version: int
    event_id: UUID
    occurred_at: datetime
    audit_class: int
    outcome: int
    grpc_code: int
    collection_uid: UUID
    result_count: int
    rpc: str
    action: str
    payload_commit: bytes


def decoded(leaf: bytes) -> Leaf:
    head = struct.Struct(">B16sqBBB16sI")
    version, event_id, micros, audit_class, outcome, code, collection, count = head.unpack_from(
        leaf
    )
    rpc, rest = _text(leaf[head.size :])
    action, commitment = _text(rest)
    occurred_at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    return Leaf(
        version,
        UUID(bytes=event_id),
        occurred_at,
        audit_class,
        outcome,
        code,
        UUID(bytes=collection),
        count,
        rpc,
        action,
        commitment,
    )


def _text(rest: bytes) -> tuple[str, bytes]:
    (length,) = struct.unpack_from(">H", rest)
    return rest[2 : 2 + length].decode(), rest[2 + length :]


@pytest.fixture
def event(audit_log: Any) -> Callable[..., Awaitable[e.AuditEvent]]:
    """`await event(receipt)`: the event that a receipt names."""

    async def get(receipt: Any) -> e.AuditEvent:
        name = f"auditEvents/{receipt.event_id}"
        return (await audit_log.GetAuditEvent(a.GetAuditEventRequest(name=name))).event

    return get


@pytest.fixture
def events(audit_log: Any) -> Callable[..., Awaitable[list[e.AuditEvent]]]:
    """`await events(filter)`: the first page of events, latest first."""

    async def listed(text: str, **fields: Any) -> list[e.AuditEvent]:
        request = a.ListAuditEventsRequest(filter=text, **fields)
        return list((await audit_log.ListAuditEvents(request)).events)

    return listed


async def every_mutation(knowledge: Any, vectors: Any) -> list[tuple[str, str, Any]]:
    """Calls each mutating RPC once: its name, the resource it is about, and its answer."""
    collection_id = f"test-{uuid4().hex}"
    collection = f"collections/{collection_id}"
    document, caller = f"{collection}/documents/text", f"{collection}/documents/chunks"
    chunk = ch.Chunk(chunk_id="x", content="a text")
    calls = [
        (k.CreateCollectionRequest(collection_id=collection_id), collection),
        (k.UpdateCollectionRequest(collection=c.Collection(name=collection)), collection),
        (creation(collection, "text", content="a text", subject_ids=["patient-1"]), document),
        (
            k.UpdateDocumentRequest(document=d.Document(name=document, subject_ids=["patient-2"])),
            document,
        ),
        (k.DeleteDocumentRequest(name=document), document),
        (creation(collection, "chunks", origin=d.ORIGIN_CALLER), caller),
        (v.UpsertChunksRequest(parent=caller, chunks=[chunk]), f"{caller}/chunks/x"),
        (v.DeleteChunkRequest(name=f"{caller}/chunks/x"), f"{caller}/chunks/x"),
        (k.DeleteCollectionRequest(name=collection, force=True), collection),
    ]
    answers: list[tuple[str, str, Any]] = []
    for request, resource in calls:
        name = type(request).__name__.removesuffix("Request")
        stub = knowledge if hasattr(knowledge, name) else vectors
        answers.append((name, resource, await getattr(stub, name)(request)))
    return answers


def creation(collection: str, document_id: str, **fields: Any) -> k.CreateDocumentRequest:
    return k.CreateDocumentRequest(
        parent=collection, document_id=document_id, document=d.Document(**fields)
    )


async def test_every_mutation_leaves_the_event_of_its_receipt(
    knowledge: Any, vectors: Any, event: Any
) -> None:
    answers = await every_mutation(knowledge, vectors)
    (collection_uid,) = {
        answer.collection.uid for name, _, answer in answers if name == "CreateCollection"
    }
    for name, resource, answer in answers:
        found = await event(answer.receipt)
        assert found.event_id == answer.receipt.event_id, name
        assert found.rpc.endswith(f"/{name}")
        assert found.outcome == e.AUDIT_OUTCOME_DONE
        assert found.grpc_code == 0
        assert found.collection_uid == collection_uid
        assert resource in found.resources, name
        admin = "Collection" in name
        assert found.audit_class == (o.AUDIT_CLASS_ADMIN if admin else o.AUDIT_CLASS_WRITE)
    actions = [(await event(answer.receipt)).action for _, _, answer in answers]
    assert actions == [
        "collections.create",
        "collections.update",
        "documents.create",
        "documents.update",
        "documents.delete",
        "documents.create",
        "chunks.upsert",
        "chunks.delete",
        "collections.delete",
    ]


async def test_the_leaf_says_what_the_event_says_and_hashes_to_the_receipt(
    knowledge: Any, vectors: Any, event: Any
) -> None:
    for _, _, answer in await every_mutation(knowledge, vectors):
        found = await event(answer.receipt)
        leaf = decoded(found.leaf)
        occurred_at = found.occurred_at.ToDatetime(tzinfo=UTC)
        assert leaf == Leaf(
            1,
            UUID(found.event_id),
            occurred_at,
            found.audit_class,
            found.outcome,
            found.grpc_code,
            UUID(found.collection_uid),
            found.result_count,
            found.rpc,
            found.action,
            leaf.payload_commit,
        )
        assert len(leaf.payload_commit) == 32
        expected = hashlib.sha256(b"\x00" + found.leaf).digest()
        assert found.leaf_hash == answer.receipt.leaf_hash == expected


async def test_an_event_says_who_called_for_whom_and_why(
    knowledge: Any, collection: c.Collection, event: Any
) -> None:
    call = knowledge.CreateDocument(
        creation(collection.name, "x", origin=d.ORIGIN_CALLER, subject_ids=["patient-1"]),
        metadata=(("x-on-behalf-of", "dr.who@clinic"), ("x-purpose", "treatment")),
    )
    answer = await call
    found = await event(answer.receipt)
    assert found.actor == "anonymous"
    assert (found.on_behalf_of, found.purpose) == ("dr.who@clinic", "treatment")
    assert list(found.subject_ids) == ["patient-1"]
    assert found.peer.startswith(("ipv4:", "ipv6:"))
    assert found.call_id == dict(await call.trailing_metadata())["x-call-id"]
    age = found.recorded_at.ToDatetime() - found.occurred_at.ToDatetime()
    assert timedelta(0) <= age < timedelta(seconds=60)


async def test_an_update_is_about_those_named_before_and_after(
    knowledge: Any, collection: c.Collection, event: Any
) -> None:
    made = await knowledge.CreateDocument(
        creation(collection.name, "x", origin=d.ORIGIN_CALLER, subject_ids=["patient-1"])
    )
    changed = d.Document(name=made.document.name, subject_ids=["patient-2"])
    answer = await knowledge.UpdateDocument(k.UpdateDocumentRequest(document=changed))
    assert set((await event(answer.receipt)).subject_ids) == {"patient-1", "patient-2"}


async def test_events_carry_no_content(
    knowledge: Any, vectors: Any, collection: c.Collection, events: Any
) -> None:
    metadata = Struct()
    metadata.update({MARKER: MARKER})
    await knowledge.CreateDocument(
        creation(
            collection.name,
            "x",
            title=MARKER,
            content=f"{MARKER} is a bird.",
            source_uri=MARKER,
            metadata=metadata,
            labels={MARKER: MARKER},
        )
    )
    changed = d.Document(name=f"{collection.name}/documents/x", content=f"{MARKER} flies.")
    await knowledge.UpdateDocument(k.UpdateDocumentRequest(document=changed))
    await vectors.Search(v.SearchRequest(collection=collection.name, text=MARKER))
    found = await events(f'collection_uid = "{collection.uid}"')
    assert len(found) >= 3
    for each in found:
        assert MARKER.encode() not in each.SerializeToString()


async def test_a_mutation_that_fails_leaves_no_event_of_success(
    knowledge: Any, collection: c.Collection, events: Any
) -> None:
    await refused(knowledge.CreateDocument(creation(collection.name, "x")))
    await refused(
        knowledge.DeleteDocument(k.DeleteDocumentRequest(name=f"{collection.name}/documents/x"))
    )
    found = await events(f'collection_uid = "{collection.uid}" AND outcome = DONE')
    assert [each.action for each in found] == ["collections.create"]


async def test_validate_only_leaves_no_event_of_a_change(
    knowledge: Any, collection: c.Collection, events: Any
) -> None:
    request = creation(collection.name, "x", content="a text")
    request.validate_only = True
    await knowledge.CreateDocument(request)
    found = await events(f'collection_uid = "{collection.uid}"')
    actions = [(each.action, each.audit_class) for each in found]
    assert actions == [
        ("documents.create.unchanged", o.AUDIT_CLASS_READ),
        ("collections.create", o.AUDIT_CLASS_ADMIN),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["delete", "update", "create b", "create a", "collection"]),
        ('action = "documents.update"', ["update"]),
        ('rpc = "/knowledge.v1.KnowledgeService/DeleteDocument"', ["delete"]),
        ("audit_class = ADMIN", ["collection"]),
        ("audit_class = WRITE", ["delete", "update", "create b", "create a"]),
        ("outcome = REFUSED", []),
        ("grpc_code = 0", ["delete", "update", "create b", "create a", "collection"]),
        ("grpc_code != 0", []),
        ("actor = anonymous", ["delete", "update", "create b", "create a", "collection"]),
        ("on_behalf_of = somebody", ["create b"]),
        ("purpose = treatment", ["create a"]),
        ('resources:"{name}/documents/a"', ["delete", "update", "create a"]),
        ('subject_ids:"patient-2"', ["create b"]),
        ('occurred_at < "2020-01-01T00:00:00Z"', []),
    ],
)
async def test_events_are_filtered(
    trail: tuple[str, dict[str, str]], events: Any, text: str, expected: list[str]
) -> None:
    scope, names = trail
    both = f"{scope} AND ({text})" if text else scope
    name = names["collection name"]
    found = await events(both.replace("{name}", name))
    assert [names[each.event_id] for each in found] == expected


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def trail(knowledge: Any) -> tuple[str, dict[str, str]]:
    """A filter for the events of one collection, and what each event is."""
    made = await knowledge.CreateCollection(k.CreateCollectionRequest())
    name, caller = made.collection.name, {"origin": d.ORIGIN_CALLER}
    first = await knowledge.CreateDocument(
        creation(name, "a", subject_ids=["patient-1"], **caller),
        metadata=(("x-purpose", "treatment"),),
    )
    second = await knowledge.CreateDocument(
        creation(name, "b", subject_ids=["patient-2"], **caller),
        metadata=(("x-on-behalf-of", "somebody"),),
    )
    changed = d.Document(name=first.document.name, title="changed")
    update = await knowledge.UpdateDocument(k.UpdateDocumentRequest(document=changed))
    delete = await knowledge.DeleteDocument(k.DeleteDocumentRequest(name=first.document.name))
    answers = {
        "collection": made,
        "create a": first,
        "create b": second,
        "update": update,
        "delete": delete,
    }
    names = {answer.receipt.event_id: what for what, answer in answers.items()}
    scope = f'collection_uid = "{made.collection.uid}"'
    return scope, names | {"collection name": name}


async def test_events_come_latest_first_unless_told(
    trail: tuple[str, dict[str, str]], events: Any
) -> None:
    scope, names = trail
    expected = ["collection", "create a", "create b", "update", "delete"]
    for order_by, wanted in (
        ("", expected[::-1]),
        ("occurred_at desc", expected[::-1]),
        ("occurred_at", expected),
    ):
        found = await events(scope, order_by=order_by)
        assert [names[each.event_id] for each in found] == wanted


@pytest.mark.parametrize("page_size", [1, 2, 5])
async def test_pages_of_events_give_each_once(
    trail: tuple[str, dict[str, str]], audit_log: Any, page_size: int
) -> None:
    scope, names = trail
    request = a.ListAuditEventsRequest(filter=scope, page_size=page_size)
    found: list[str] = []
    while True:
        page = await audit_log.ListAuditEvents(request)
        assert len(page.events) <= page_size
        found += [names[each.event_id] for each in page.events]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert found == ["delete", "update", "create b", "create a", "collection"]


async def test_a_page_token_of_another_filter_is_refused(
    trail: tuple[str, dict[str, str]], audit_log: Any
) -> None:
    request = a.ListAuditEventsRequest(filter=trail[0], page_size=1)
    request.page_token = (await audit_log.ListAuditEvents(request)).next_page_token
    request.filter += " AND outcome = DONE"
    refusal = await refused(audit_log.ListAuditEvents(request))
    assert (refusal.code, refusal.reason) == (Code.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID")


async def test_all_faults_of_a_list_are_named_at_once(audit_log: Any) -> None:
    request = a.ListAuditEventsRequest(
        filter="content = x", page_size=-1, order_by="actor", page_token="forged"
    )
    refusal = await refused(audit_log.ListAuditEvents(request))
    assert set(refusal.fields) == {"filter", "page_size", "order_by", "page_token"}


@pytest.mark.parametrize("text", ["leaf = x", "outcome = 1", "collection_uid = x", "peer = x"])
async def test_a_bad_filter_is_refused(audit_log: Any, text: str) -> None:
    refusal = await refused(audit_log.ListAuditEvents(a.ListAuditEventsRequest(filter=text)))
    assert (refusal.code, list(refusal.fields)) == (Code.INVALID_ARGUMENT, ["filter"])


async def test_a_missing_event_is_not_found(audit_log: Any) -> None:
    request = a.GetAuditEventRequest(name=f"auditEvents/{uuid4()}")
    refusal = await refused(audit_log.GetAuditEvent(request))
    assert (refusal.code, refusal.reason) == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")


@pytest.mark.parametrize("name", ["", "auditEvents/", "auditEvents/x", "collections/x", "x"])
async def test_a_name_that_is_no_events_is_refused(audit_log: Any, name: str) -> None:
    refusal = await refused(audit_log.GetAuditEvent(a.GetAuditEventRequest(name=name)))
    assert (refusal.code, list(refusal.fields)) == (Code.INVALID_ARGUMENT, ["name"])


async def test_an_auditor_sees_events_of_granted_collections_only(
    secured_server: SecuredServer,
) -> None:
    log = AuditServiceStub(secured_server.channel)

    async def seen_by(subject: str) -> set[str]:
        metadata = secured_server.metadata(subject)
        listed = await log.ListAuditEvents(
            a.ListAuditEventsRequest(order_by="occurred_at"), metadata=metadata
        )
        return {each.collection_uid for each in listed.events}

    own, foreign = secured_server.own, secured_server.foreign
    assert await seen_by("confined-auditor") == {own.uid}
    assert await seen_by("auditor") >= {own.uid, foreign.uid}


async def test_a_foreign_event_is_not_found(secured_server: SecuredServer) -> None:
    log = AuditServiceStub(secured_server.channel)
    request = a.GetAuditEventRequest(name=f"auditEvents/{secured_server.foreign.event_id}")
    confined = secured_server.metadata("confined-auditor")
    refusal = await refused(log.GetAuditEvent(request, metadata=confined))
    assert refusal.code is Code.NOT_FOUND
    found = await log.GetAuditEvent(request, metadata=secured_server.metadata("auditor"))
    assert found.event.actor == "admin"


async def test_a_page_token_of_another_grant_is_refused(secured_server: SecuredServer) -> None:
    log = AuditServiceStub(secured_server.channel)
    request = a.ListAuditEventsRequest(page_size=1)
    page = await log.ListAuditEvents(request, metadata=secured_server.metadata("auditor"))
    request.page_token = page.next_page_token
    assert request.page_token
    confined = secured_server.metadata("confined-auditor")
    refusal = await refused(log.ListAuditEvents(request, metadata=confined))
    assert refusal.reason == "PAGE_TOKEN_INVALID"
