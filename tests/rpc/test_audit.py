"""AuditService: every mutation leaves an event that its receipt proves."""

import hashlib
import struct
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct
from mutating import creation, every_mutation
from refusal import refused

from knowledge.v1 import audit_event_pb2 as e
from knowledge.v1 import audit_service_pb2 as a
from knowledge.v1 import collection_pb2 as c
from knowledge.v1 import document_pb2 as d
from knowledge.v1 import knowledge_service_pb2 as k
from knowledge.v1 import options_pb2 as o
from knowledge.v1 import vector_service_pb2 as v

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
