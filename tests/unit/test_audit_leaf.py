"""The bytes of an audit event: fixed for ever, since they are hashed into the log.

The golden file is written anew with KNOWLEDGED_REGENERATE_GOLDEN=1; a change in it is a new version
of the leaf, never an edit of this one.
"""

import hashlib
import json
import os
import struct
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledged import audit_leaf
from knowledged.audit_leaf import Event, Leaf, MalformedEvent, Payload

GOLDEN = Path(__file__).parents[1] / "golden" / "audit_leaf.json"

FULL = Event(
    event_id=UUID("01934f5e-7a6b-7c8d-9e0f-123456789abc"),
    occurred_at=datetime(2026, 11, 22, 22, 37, 5, 123457, tzinfo=UTC),
    audit_class=3,
    outcome=1,
    grpc_code=0,
    collection_uid=UUID("01934f5e-0000-7000-8000-0000000000ff"),
    result_count=70_000,
    rpc="/knowledge.v1.KnowledgeService/CreateDocument",
    action="documents.create",
    payload=Payload(
        actor="Zoë",
        on_behalf_of="dr. 山田",
        purpose="treatment",
        peer="ipv4:127.0.0.1:50",
        call_id="call-1",
        resources=("collections/a/documents/ä", ""),
        subject_ids=("patient-7",),
        returned_uids=(UUID(int=2**128 - 1),),
    ),
    salt=bytes(range(32)),
)
BARE = replace(
    FULL,
    occurred_at=datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    collection_uid=None,
    result_count=0,
    payload=Payload("", "", "", "", ""),
    rpc="",
    action="",
)
EVENTS = {"full": FULL, "bare": BARE}


def written(event: Event) -> dict[str, str]:
    return {
        "payload": event.payload.encode().hex(),
        "payload_commit": event.payload_commit.hex(),
        "leaf": event.leaf().hex(),
        "leaf_hash": audit_leaf.leaf_hash(event.leaf()).hex(),
    }


def test_the_bytes_are_the_golden_ones() -> None:
    found = {name: written(event) for name, event in EVENTS.items()}
    if os.environ.get("KNOWLEDGED_REGENERATE_GOLDEN") == "1":
        GOLDEN.write_text(json.dumps(found, indent=2) + "\n")
    assert found == json.loads(GOLDEN.read_text())


def test_a_leaf_reads_back_by_its_specification_alone() -> None:
    leaf = FULL.leaf()
    assert leaf[0] == 1
    assert leaf[1:17] == FULL.event_id.bytes
    micros, audit_class, outcome, code = struct.unpack(">qBBB", leaf[17:28])
    assert (audit_class, outcome, code) == (3, 1, 0)
    assert micros == 1_795_387_025_123_457
    assert leaf[28:44] == FULL.collection_uid.bytes  # pyright: ignore[reportOptionalMemberAccess]
    assert int.from_bytes(leaf[44:48]) == 70_000
    rpc, rest = text_of_length(leaf[48:])
    action, rest = text_of_length(rest)
    assert (rpc, action) == (FULL.rpc, FULL.action)
    assert rest == hashlib.sha256(FULL.salt + FULL.payload.encode()).digest()


def text_of_length(data: bytes) -> tuple[str, bytes]:
    length = int.from_bytes(data[:2])
    return data[2 : 2 + length].decode(), data[2 + length :]


def test_the_leaf_holds_nothing_of_the_payload() -> None:
    leaf = FULL.leaf()
    texts = [FULL.payload.actor, FULL.payload.purpose, *FULL.payload.subject_ids]
    assert not any(text.encode() in leaf for text in texts)


def test_no_collection_is_sixteen_zeros() -> None:
    assert BARE.leaf()[28:44] == bytes(16)


def test_microseconds_are_exact_before_and_after_1970() -> None:
    assert audit_leaf.microseconds(datetime(1970, 1, 1, tzinfo=UTC)) == 0
    assert audit_leaf.microseconds(BARE.occurred_at) == -1
    latest = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    assert audit_leaf.microseconds(latest) == 253_402_300_799_999_999


def test_texts_that_run_into_each_other_differ_in_bytes() -> None:
    one = Payload("ab", "c", "", "", "", ("x", "y"))
    other = Payload("a", "bc", "", "", "", ("xy",))
    assert one.encode() != other.encode()
    listed = Payload("", "", "", "", "", resources=("x",))
    assert listed.encode() != Payload("", "", "", "", "", subject_ids=("x",)).encode()


def test_the_commitment_needs_the_salt() -> None:
    same = replace(FULL, salt=bytes(32))
    assert same.payload_commit != FULL.payload_commit
    assert len(audit_leaf.new_salt()) == 32
    assert audit_leaf.new_salt() != audit_leaf.new_salt()


def test_the_leaf_hash_is_that_of_rfc_6962() -> None:
    # The example of RFC 6962's own test vectors: the leaf of no bytes.
    empty = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert audit_leaf.leaf_hash(b"").hex() == empty


@pytest.mark.parametrize("field", ["audit_class", "outcome", "grpc_code", "result_count", "action"])
def test_every_field_of_the_leaf_changes_its_hash(field: str) -> None:
    other = "x" if field == "action" else getattr(FULL, field) + 1
    changed = replace(FULL, **{field: other})
    assert audit_leaf.leaf_hash(changed.leaf()) != audit_leaf.leaf_hash(FULL.leaf())


def leaf_of(event: Event) -> Leaf:
    """What the event's leaf is to be read as."""
    return Leaf(
        event.event_id,
        event.occurred_at,
        event.audit_class,
        event.outcome,
        event.grpc_code,
        event.collection_uid,
        event.result_count,
        event.rpc,
        event.action,
        event.payload_commit,
    )


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_leaf_and_payload_are_read_back_as_they_were_written(event: Event) -> None:
    assert Leaf.decode(event.leaf()) == leaf_of(event)
    assert Payload.decode(event.payload.encode()) == event.payload


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_bytes_that_are_cut_short_or_go_on_are_no_event(event: Event) -> None:
    for decode, data in ((Leaf.decode, event.leaf()), (Payload.decode, event.payload.encode())):
        for end in range(len(data)):
            with pytest.raises(MalformedEvent):
                decode(data[:end])
        with pytest.raises(MalformedEvent, match="bytes follow"):
            decode(data + b"\0")
        with pytest.raises(MalformedEvent, match="version"):
            decode(b"\x02" + data[1:])


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_malformed(data: bytes) -> None:
    for decode in (Leaf.decode, Payload.decode):
        for sample in (data, b"\x01" + data):
            try:
                decode(sample)
            except MalformedEvent:
                continue


def test_a_time_beyond_the_calendar_is_malformed() -> None:
    leaf = FULL.leaf()
    with pytest.raises(MalformedEvent, match="calendar"):
        Leaf.decode(leaf[:17] + b"\x7f" * 8 + leaf[25:])


def test_a_uid_that_is_written_otherwise_is_malformed() -> None:
    encoded = replace(FULL.payload, subject_ids=()).encode()
    with pytest.raises(MalformedEvent, match="as uids are"):
        Payload.decode(encoded[:-36] + encoded[-36:].upper())
