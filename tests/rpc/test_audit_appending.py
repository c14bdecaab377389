"""AppendAuditEvents: other services' events, each taken once or refused by itself."""

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from refusal import refused
from secured import SecuredServer

from knowledge.v1 import append_audit_events_pb2 as p
from knowledge.v1 import audit_event_pb2 as e
from knowledge.v1 import audit_service_pb2 as a
from knowledge.v1 import options_pb2 as o
from knowledge.v1.audit_service_pb2_grpc import AuditServiceStub

Code = grpc.StatusCode
MARKER = "Zebrafinch"
OK, INVALID, EXISTS = 0, 3, 6


def an_event(**fields: Any) -> p.AppendedEvent:
    good: dict[str, Any] = {
        "insert_id": str(uuid4()),
        "action": "pharmacy.orders.read",
        "audit_class": o.AUDIT_CLASS_READ,
        "outcome": e.AUDIT_OUTCOME_DONE,
        "user": "dr.who",
        "purpose": "treatment",
        "resources": ["orders/42"],
        "subject_ids": ["patient-7"],
        "details": {"ward": "3b"},
    }
    return p.AppendedEvent(**good | fields)


async def append(audit_log: Any, *events: p.AppendedEvent) -> list[p.AppendedResult]:
    request = p.AppendAuditEventsRequest(events=events)
    return list((await audit_log.AppendAuditEvents(request)).results)


async def appended(audit_log: Any, result: p.AppendedResult) -> e.AuditEvent:
    name = f"auditEvents/{result.receipt.event_id}"
    return (await audit_log.GetAuditEvent(a.GetAuditEventRequest(name=name))).event


def at(**ago: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(datetime.now(UTC) - timedelta(**ago))
    return stamp


async def test_an_event_is_kept_as_it_was_told_and_says_who_told_it(audit_log: Any) -> None:
    told = an_event(occurred_at=at(days=3), audit_class=o.AUDIT_CLASS_ADMIN)
    (result,) = await append(audit_log, told)
    event = await appended(audit_log, result)
    assert (event.action, event.rpc.rpartition("/")[2]) == (told.action, "AppendAuditEvents")
    assert (event.actor, event.on_behalf_of) == ("anonymous", "dr.who")
    assert (event.purpose, event.audit_class) == ("treatment", o.AUDIT_CLASS_ADMIN)
    assert event.occurred_at.ToSeconds() == told.occurred_at.ToSeconds()
    assert list(event.resources) == ["orders/42", "details/ward=3b"]
    assert list(event.subject_ids) == ["patient-7"]
    assert event.collection_uid == ""
    assert result.receipt.leaf_hash == hashlib.sha256(b"\x00" + event.leaf).digest()


async def test_the_call_leaves_no_other_event(audit_log: Any) -> None:
    request = p.AppendAuditEventsRequest(events=[an_event(), an_event()])
    call = audit_log.AppendAuditEvents(request)
    await call
    call_id = dict(await call.trailing_metadata())["x-call-id"]
    listing = a.ListAuditEventsRequest(filter=f'call_id = "{call_id}"')
    events = (await audit_log.ListAuditEvents(listing)).events
    assert [event.action for event in events] == ["pharmacy.orders.read"] * 2


async def test_a_repeat_gets_the_first_receipt_and_no_second_event(audit_log: Any) -> None:
    told = an_event()
    answers = await asyncio.gather(*(append(audit_log, told, an_event()) for _ in range(20)))
    assert len({results[0].receipt.event_id for results in answers}) == 1
    assert len({results[1].receipt.event_id for results in answers}) == 20


async def test_batches_in_opposite_order_do_not_wait_for_each_other(audit_log: Any) -> None:
    events = [an_event() for _ in range(100)]
    answers = await asyncio.gather(
        *(append(audit_log, *(events if turn % 2 else events[::-1])) for turn in range(8))
    )
    receipts = {each.receipt.event_id for results in answers for each in results}
    assert len(receipts) == 100


async def test_an_insert_id_of_another_event_is_refused(audit_log: Any) -> None:
    told = an_event()
    await append(audit_log, told)
    changed = an_event(insert_id=told.insert_id, purpose=MARKER)
    refusal, good = await append(audit_log, changed, an_event())
    assert (refusal.code, refusal.HasField("receipt")) == (EXISTS, False)
    assert MARKER not in refusal.message
    assert good.code == OK


async def test_the_same_insert_id_twice_in_a_request_is_refused_once(audit_log: Any) -> None:
    told = an_event()
    first, second = await append(audit_log, told, told)
    assert (first.code, second.code) == (OK, INVALID)
    assert "insert_id" in second.message


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"insert_id": ""}, "insert_id"),
        ({"insert_id": "x" * 129}, "insert_id"),
        ({"insert_id": "a\nb"}, "insert_id"),
        ({"action": ""}, "action"),
        ({"action": "read"}, "action"),
        ({"action": "Pharmacy.Orders.Read"}, "action"),
        ({"action": "a.b.c.d"}, "action"),
        ({"action": f"{'x' * 41}.b.c"}, "action"),
        ({"action": "documents.create.unchanged"}, "action"),
        ({"action": "audit_events.list.all"}, "action"),
        ({"audit_class": o.AUDIT_CLASS_UNSPECIFIED}, "audit_class"),
        ({"audit_class": o.AUDIT_CLASS_NONE}, "audit_class"),
        ({"outcome": e.AUDIT_OUTCOME_UNSPECIFIED}, "outcome"),
        ({"outcome": 17}, "outcome"),
        ({"occurred_at": at(days=32)}, "occurred_at"),
        ({"occurred_at": at(days=-1)}, "occurred_at"),
        ({"occurred_at": Timestamp(seconds=2**60)}, "occurred_at"),
        ({"user": "u" * 257}, "user"),
        ({"purpose": "p\0"}, "purpose"),
        ({"resources": ["x"] * 101}, "resources"),
        ({"resources": [""]}, "resources[0]"),
        ({"resources": ["x" * 401]}, "resources[0]"),
        ({"subject_ids": ["x"] * 101}, "subject_ids"),
        ({"subject_ids": ["x" * 129]}, "subject_ids[0]"),
        ({"details": {str(n): "x" for n in range(17)}}, "details"),
        ({"details": {"k" * 64: "x"}}, "details key"),
        ({"details": {"ward": MARKER * 30}}, "details value"),
        *(
            ({"details": {key: MARKER}}, "details key")
            for key in ("password", "Auth-Token", "AUTHORIZATION", "api_key", "client.secret")
        ),
    ],
)
async def test_a_bad_event_is_refused_and_the_good_beside_it_taken(
    audit_log: Any, fields: dict[str, Any], field: str
) -> None:
    bad, good = await append(audit_log, an_event(**fields), an_event())
    assert (bad.code, good.code) == (INVALID, OK)
    assert bad.message.startswith(f"{field}: ")
    assert MARKER not in bad.message
    assert not bad.HasField("receipt")


async def test_all_faults_of_an_event_are_named_at_once(audit_log: Any) -> None:
    (bad,) = await append(audit_log, p.AppendedEvent(user="u" * 300))
    for field in ("insert_id", "user", "action", "audit_class", "outcome"):
        assert f"{field}: " in bad.message


@pytest.mark.parametrize("count", [0, 1_001])
async def test_a_request_of_no_or_too_many_events_is_refused(audit_log: Any, count: int) -> None:
    request = p.AppendAuditEventsRequest(events=[p.AppendedEvent()] * count)
    refusal = await refused(audit_log.AppendAuditEvents(request))
    assert (refusal.code, list(refusal.fields)) == (Code.INVALID_ARGUMENT, ["events"])


async def test_the_largest_events_are_taken(audit_log: Any) -> None:
    largest = an_event(
        resources=[f"{n:03d}".ljust(400, "ß") for n in range(100)],
        subject_ids=[f"{n:03d}".ljust(128, "ß") for n in range(100)],
        details={f"{n:02d}".ljust(63, "ß"): "ß" * 256 for n in range(16)},
    )
    (result,) = await append(audit_log, largest)
    event = await appended(audit_log, result)
    assert len(event.resources) == 116
    assert len(event.leaf) < 65_536


async def test_insert_ids_of_other_callers_do_not_count(secured_server: SecuredServer) -> None:
    log = AuditServiceStub(secured_server.channel)
    request = p.AppendAuditEventsRequest(events=[an_event()])
    events: list[e.AuditEvent] = []
    for subject in ("recorder", "admin"):
        answer = await log.AppendAuditEvents(request, metadata=secured_server.metadata(subject))
        name = f"auditEvents/{answer.results[0].receipt.event_id}"
        auditor = secured_server.metadata("auditor")
        found = await log.GetAuditEvent(a.GetAuditEventRequest(name=name), metadata=auditor)
        events.append(found.event)
    assert [event.actor for event in events] == ["recorder", "admin"]
