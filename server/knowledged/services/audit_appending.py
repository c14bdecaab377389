"""AuditService: other services write what they did into this log."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid5

from knowledge.v1 import append_audit_events_pb2 as pb
from knowledged.call import Call, Receipt
from knowledged.checks import Checks
from knowledged.errors import Code, Invalid
from knowledged.services import pack
from knowledged.services.appended_event import checked_event
from knowledged.services.recording import request_key
from knowledged.services.supplies import Supplies
from knowledged.store import appended_events
from knowledged.store.appended_events import Appendix, Known

MOST_EVENTS = 1_000
# Repeats are known by UUIDs; an insert_id becomes one of this name space.
_INSERT_IDS = UUID("8f5c3c1e-6a0b-5d52-9a57-5d1b6a9be0a4")


class AuditAppending:
    """AppendAuditEvents."""

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies

    async def AppendAuditEvents(
        self, request: pb.AppendAuditEventsRequest, call: Call
    ) -> pb.AppendAuditEventsResponse:
        checks = Checks()
        checks.count("events", len(request.events), MOST_EVENTS, least=1)
        checks.done()
        read = _read(call, request.events)
        good = [each for each in read if isinstance(each, Appendix)]
        async with self._supplies.database.transaction(call.left) as conn:
            known = await appended_events.append(conn, good)
        results = [_result(each, known) for each in read]
        call.receipt = _first_receipt(good, known)
        call.unaudited = call.receipt is None
        return pb.AppendAuditEventsResponse(results=results)


def _read(call: Call, events: Sequence[pb.AppendedEvent]) -> list[Appendix | Invalid]:
    """Each event, or what is wrong with it; a second one of the same insert_id is wrong, too."""
    now, seen, read = datetime.now(UTC), set[str](), list[Appendix | Invalid]()
    for message in events:
        checks = Checks()
        if message.insert_id in seen:
            checks.fault("insert_id", "stands for an earlier event of the same request")
        seen.add(message.insert_id)
        event = checked_event(checks, message, call, now)
        key = request_key(call, message, uuid5(_INSERT_IDS, message.insert_id))
        read.append(Invalid(*checks.violations) if event is None else Appendix(event, key))
    return read


def _result(each: Appendix | Invalid, known: dict[UUID, Known]) -> pb.AppendedResult:
    if isinstance(each, Invalid):
        return pb.AppendedResult(code=Code.INVALID_ARGUMENT, message=each.message)
    found = _known(each, known)
    if found.body_hash != each.key.body_hash:
        message = "insert_id: stands for another event since less than 24 hours"
        return pb.AppendedResult(code=Code.ALREADY_EXISTS, message=message)
    return pb.AppendedResult(receipt=pack.receipt(found.receipt))


def _known(each: Appendix, known: dict[UUID, Known]) -> Known:
    assert each.key.request_id is not None  # noqa: S101 - made of the insert_id
    return known[each.key.request_id]


def _first_receipt(good: Sequence[Appendix], known: dict[UUID, Known]) -> Receipt | None:
    """Of a new event, or of one that was appended before; None if all were refused."""
    receipts = (
        found.receipt
        for each in good
        if (found := _known(each, known)).body_hash == each.key.body_hash
    )
    return next(receipts, None)
