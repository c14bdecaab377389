"""The disclosure reports of AuditService."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

from google.protobuf.timestamp_pb2 import Timestamp

from knowledge.v1 import disclosure_pb2 as pb
from knowledged.call import Call
from knowledged.checks import Checks
from knowledged.names import AUDIT_EVENTS
from knowledged.services import pack
from knowledged.services.listing import by_attribute, filter_condition
from knowledged.services.supplies import Supplies, granted
from knowledged.store import disclosures
from knowledged.store.audit import FIELDS, AuditEvent
from knowledged.store.disclosures import BOUND, BY_TIME, Subject

LONGEST_SUBJECT = 128


class Disclosures:
    """Tells who saw or changed what of one subject."""

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies

    async def GetDisclosureReport(
        self, request: pb.GetDisclosureReportRequest, call: Call
    ) -> pb.GetDisclosureReportResponse:
        checks, order_by = Checks(), request.order_by or "occurred_at"
        subject = _subject(checks, request, self._supplies.subject_name)
        condition = filter_condition(checks, request, FIELDS, BOUND + 1)
        orders, position = {"occurred_at": BY_TIME}, by_attribute("event_id")
        listing = self._supplies.lists.listing(checks, call, request, orders, order_by, position)
        async with self._supplies.database.read(call.left) as conn:
            rows = await disclosures.list_page(
                conn, granted(call), subject, condition, listing.page
            )
        room = self._supplies.limits.max_message_bytes
        messages, token = listing.fitted(rows, _entry, room)
        told = rows[: len(messages)]
        call.reads((row.event_id, _named(row, request.subject_id)) for row in told)
        return pb.GetDisclosureReportResponse(entries=messages, next_page_token=token)


def _subject(
    checks: Checks, request: pb.GetDisclosureReportRequest, name: Callable[[str], str]
) -> Subject:
    checks.text("subject_id", request.subject_id, LONGEST_SUBJECT, required=True)
    start = _instant(checks, request, "start_time")
    end = _instant(checks, request, "end_time")
    if start and end and end <= start:
        checks.fault("end_time", "must be after start_time")
    return Subject(request.subject_id, name(request.subject_id), start, end)


def _instant(
    checks: Checks, request: pb.GetDisclosureReportRequest, field: Literal["start_time", "end_time"]
) -> datetime | None:
    if not request.HasField(field):
        return None
    value: Timestamp = getattr(request, field)
    try:
        return value.ToDatetime(UTC)
    except (ValueError, OverflowError):
        checks.fault(field, "is no time of the years 1 to 9999")
        return None


def _named(row: AuditEvent, subject_id: str) -> tuple[str, ...]:
    """After an erasure nothing may name the subject again, not even who asks for its report."""
    return (subject_id,) if subject_id in row.subject_ids else ()


def _entry(row: AuditEvent) -> pb.DisclosureEntry:
    return pb.DisclosureEntry(
        event=f"{AUDIT_EVENTS}/{row.event_id}",
        occurred_at=pack.timestamp(row.occurred_at),
        actor=row.actor,
        on_behalf_of=row.on_behalf_of,
        purpose=row.purpose,
        rpc=row.rpc,
        action=row.action,
        audit_class=row.audit_class,  # pyright: ignore[reportArgumentType]
        outcome=row.outcome,  # pyright: ignore[reportArgumentType]
        grpc_code=row.grpc_code,
        collection_uid=str(row.collection_uid) if row.collection_uid else "",
        resources=row.resources,
        returned_uids=map(str, row.returned_uids),
        call_id=row.call_id,
    )
