"""AuditService: who did what."""

from knowledge.v1 import audit_service_pb2 as pb
from knowledged.call import Call
from knowledged.checks import Checks
from knowledged.names import audit_event_of
from knowledged.services import pack
from knowledged.services.listing import by_attribute, filter_condition
from knowledged.services.supplies import Supplies, granted
from knowledged.store import audit
from knowledged.store.audit import BY_TIME, FIELDS

SHAPE = '"auditEvents/{event_id}" with a UUID'


class Audit:
    """All RPCs of knowledge.v1.AuditService."""

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies

    async def GetAuditEvent(
        self, request: pb.GetAuditEventRequest, call: Call
    ) -> pb.GetAuditEventResponse:
        event_id = Checks().name("name", request.name, audit_event_of, SHAPE)
        async with self._supplies.database.read(call.left) as conn:
            row = await audit.get(conn, event_id, granted(call))
        call.reads([(row.event_id, row.subject_ids)], row.collection_uid)
        return pb.GetAuditEventResponse(event=pack.audit_event(row))

    async def ListAuditEvents(
        self, request: pb.ListAuditEventsRequest, call: Call
    ) -> pb.ListAuditEventsResponse:
        checks, order_by = Checks(), request.order_by or "occurred_at desc"
        condition = filter_condition(checks, request, FIELDS, 2)
        orders, position = {"occurred_at": BY_TIME}, by_attribute("event_id")
        listing = self._supplies.lists.listing(checks, call, request, orders, order_by, position)
        async with self._supplies.database.read(call.left) as conn:
            rows = await audit.list_page(conn, granted(call), condition, listing.page)
        room = self._supplies.limits.max_message_bytes
        messages, token = listing.fitted(rows, pack.audit_event, room)
        call.reads((row.event_id, row.subject_ids) for row in rows[: len(messages)])
        return pb.ListAuditEventsResponse(events=messages, next_page_token=token)
