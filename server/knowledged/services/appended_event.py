"""An event of another service: its rules, and the audit event it becomes."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from uuid_utils.compat import uuid7

from knowledge.v1.append_audit_events_pb2 import AppendedEvent
from knowledge.v1.audit_event_pb2 import (
    AUDIT_OUTCOME_DONE,
    AUDIT_OUTCOME_FAILED,
    AUDIT_OUTCOME_REFUSED,
)
from knowledge.v1.options_pb2 import AUDIT_CLASS_ADMIN, AUDIT_CLASS_READ, AUDIT_CLASS_WRITE
from knowledged.audit_leaf import Event, Payload, new_salt
from knowledged.call import Call
from knowledged.checks import Checks
from knowledged.errors import Code

OLDEST = timedelta(days=31)
FARTHEST = timedelta(minutes=5)

_ACTION = re.compile(r"([a-z][a-z0-9_]{0,39})\.[a-z][a-z0-9_]{0,39}\.[a-z][a-z0-9_]{0,39}")
# What our own actions begin with; nobody else may speak in their name.
_OURS = {
    "audit_events",
    "calls",
    "chunks",
    "collections",
    "documents",
    "legal_holds",
    "search",
    "subjects",
}
_CLASSES = {AUDIT_CLASS_READ, AUDIT_CLASS_WRITE, AUDIT_CLASS_ADMIN}
# The log's rule is that an event is done if and only if its code is 0.
_CODES = {
    AUDIT_OUTCOME_DONE: Code.OK,
    AUDIT_OUTCOME_REFUSED: Code.PERMISSION_DENIED,
    AUDIT_OUTCOME_FAILED: Code.INTERNAL,
}
_SECRET = re.compile(
    "pass(word|wd|phrase|code)|secret|token|authorization|credential|cookie|session|bearer"
    "|(api|private|access|signing)key"
)


def checked_event(
    checks: Checks, message: AppendedEvent, call: Call, now: datetime
) -> Event | None:
    """The event; None if it breaks rules, which then stand in the checks."""
    _check_texts(checks, message)
    _check_action(checks, message.action)
    checks.choice("audit_class", message.audit_class, _CLASSES)
    checks.choice("outcome", message.outcome, _CODES)
    _check_details(checks, message.details)
    occurred_at = _occurred_at(checks, message, now)
    if checks.violations:
        return None
    return _event(message, call, occurred_at)


def _event(message: AppendedEvent, call: Call, occurred_at: datetime) -> Event:
    details = (f"details/{key}={value}" for key, value in sorted(message.details.items()))
    payload = Payload(
        actor=call.principal.subject,
        on_behalf_of=message.user,
        purpose=message.purpose,
        peer=call.peer,
        call_id=call.call_id,
        resources=(*message.resources, *details),
        subject_ids=tuple(message.subject_ids),
    )
    return Event(
        event_id=uuid7(),
        occurred_at=occurred_at,
        audit_class=message.audit_class,
        outcome=message.outcome,
        grpc_code=_CODES[message.outcome],
        collection_uid=None,
        result_count=len(message.resources),
        rpc=call.method.path,
        action=message.action,
        payload=payload,
        salt=new_salt(),
    )


def _check_texts(checks: Checks, message: AppendedEvent) -> None:
    _printable(checks, "insert_id", message.insert_id, 128, least=1)
    _printable(checks, "user", message.user, 256)
    _printable(checks, "purpose", message.purpose, 256)
    checks.count("resources", len(message.resources), 100)
    for place, name in enumerate(message.resources):
        _printable(checks, f"resources[{place}]", name, 400, least=1)
    checks.subject_ids("subject_ids", message.subject_ids)


def _printable(checks: Checks, field: str, value: str, most: int, *, least: int = 0) -> None:
    if not least <= len(value) <= most or not value.isprintable():
        rule = f"{least} to {most} printable ones are allowed"
        checks.fault(field, f"{len(value)} characters; {rule}")


def _check_action(checks: Checks, action: str) -> None:
    form = _ACTION.fullmatch(action)
    if form is None:
        checks.fault("action", 'must be "{service}.{noun}.{verb}", each a word of at most 40')
    elif form[1] in _OURS:
        checks.fault("action", "begins as this server's own actions do")


def _check_details(checks: Checks, details: Mapping[str, str]) -> None:
    checks.count("details", len(details), 16)
    for key, value in details.items():
        _printable(checks, "details key", key, 63, least=1)
        _printable(checks, "details value", value, 256)
        if _SECRET.search(re.sub("[^a-z]", "", key.lower())):
            checks.fault("details key", "speaks of a secret; secrets do not belong into the log")


def _occurred_at(checks: Checks, message: AppendedEvent, now: datetime) -> datetime:
    if not message.HasField("occurred_at"):
        return now
    try:
        at = message.occurred_at.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        checks.fault("occurred_at", "is no time of the years 1 to 9999")
        return now
    if not now - OLDEST <= at <= now + FARTHEST:
        checks.fault("occurred_at", "must be at most 31 days ago and 5 minutes ahead")
    return at
