"""The legal holds of AuditService."""

from datetime import UTC, datetime

from uuid_utils.compat import uuid7

from knowledge.v1 import legal_hold_pb2 as pb
from knowledged.call import Call
from knowledged.checks import Checks
from knowledged.errors import Denied, WrongState
from knowledged.names import collection_of, document_of, legal_hold_of, new_id
from knowledged.services import pack
from knowledged.services.listing import by_attribute, filter_condition
from knowledged.services.recording import Change, mutation, request_key
from knowledged.services.supplies import Supplies, granted
from knowledged.store import documents, legal_holds
from knowledged.store.legal_holds import FIELDS, ORDERS, LegalHold

SHAPE = '"legalHolds/{legal_hold}"'
LONGEST_REASON = 1_000
_TARGETS = {
    "document": (document_of, '"collections/{collection}/documents/{document}"'),
    "collection": (collection_of, '"collections/{collection}"'),
}


class LegalHolds:
    """RPCs over legal holds."""

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies

    async def SetLegalHold(
        self, request: pb.SetLegalHoldRequest, call: Call
    ) -> pb.SetLegalHoldResponse:
        checks, legal_hold_id = Checks(), request.legal_hold_id or new_id()
        checks.id("legal_hold_id", legal_hold_id)
        key = request_key(call, request, checks.request_id(request.request_id))
        _check(checks, request.legal_hold)
        checks.done()
        if answered := await self._supplies.answered(call, key):
            return await self._set(call, answered.resource)
        row = await self._covering(call, request.legal_hold, legal_hold_id)
        made = mutation(call, key, _change("legal_holds.set", row))
        async with self._supplies.database.write(call.left) as conn:
            first = await legal_holds.set_hold(conn, made, row)
        if not first and (answered := await self._supplies.answered(call, key)):
            return await self._set(call, answered.resource)
        call.receipt = made.receipt
        return pb.SetLegalHoldResponse(legal_hold=_packed(row), receipt=pack.receipt(call.receipt))

    async def ReleaseLegalHold(
        self, request: pb.ReleaseLegalHoldRequest, call: Call
    ) -> pb.ReleaseLegalHoldResponse:
        checks = Checks()
        legal_hold_id = checks.name("name", request.name, legal_hold_of, SHAPE)
        key = request_key(call, request, checks.request_id(request.request_id))
        checks.done()
        row = await self._row(call, legal_hold_id)
        if not await self._supplies.answered(call, key):
            made = mutation(call, key, _change("legal_holds.release", row))
            at = made.event.occurred_at
            async with self._supplies.database.write(call.left) as conn:
                done = await legal_holds.release(conn, made, row.legal_hold_uid, at)
            call.receipt = made.receipt if done else None
            if not done and not await self._supplies.answered(call, key):
                raise WrongState("the legal hold is released already")
            row = await self._row(call, legal_hold_id)
        return pb.ReleaseLegalHoldResponse(
            legal_hold=_packed(row), receipt=pack.receipt(call.receipt)
        )

    async def ListLegalHolds(
        self, request: pb.ListLegalHoldsRequest, call: Call
    ) -> pb.ListLegalHoldsResponse:
        checks, order_by = Checks(), request.order_by or "create_time"
        condition = filter_condition(checks, request, FIELDS, 3)
        position = by_attribute("legal_hold_uid")
        listing = self._supplies.lists.listing(checks, call, request, ORDERS, order_by, position)
        async with self._supplies.database.read(call.left) as conn:
            rows = await legal_holds.list_page(
                conn, granted(call), request.show_released, condition, listing.page
            )
        room = self._supplies.limits.max_message_bytes
        messages, token = listing.fitted(rows, _packed, room)
        call.reads((row.legal_hold_uid, _subjects(row)) for row in rows[: len(messages)])
        return pb.ListLegalHoldsResponse(legal_holds=messages, next_page_token=token)

    async def _covering(self, call: Call, message: pb.LegalHold, legal_hold_id: str) -> LegalHold:
        """The new hold, its names resolved for a caller who is granted what they mean."""
        now, kind = datetime.now(UTC), message.WhichOneof("target")
        head = uuid7(), legal_hold_id, message.reason
        if kind == "subject_id":
            if call.principal.collections is not None:
                raise Denied("a subject's hold is over all collections; the caller's grant is not")
            return LegalHold(*head, "", message.subject_id, None, None, now)
        name = message.document or message.collection
        space = await self._supplies.directory.resolve(call, name.split("/")[1])
        collection_uid = space.collection.collection_uid
        if kind == "collection":
            return LegalHold(*head, name, None, None, collection_uid, now)
        ids = space.collection.collection_id, name.rpartition("/")[2]
        async with self._supplies.database.read(call.left) as conn:
            document = await documents.get(conn, *ids, granted(call), content=False)
        return LegalHold(*head, name, None, document.document_uid, collection_uid, now)

    async def _set(self, call: Call, name: str) -> pb.SetLegalHoldResponse:
        row = await self._row(call, name.partition("/")[2])
        return pb.SetLegalHoldResponse(legal_hold=_packed(row), receipt=pack.receipt(call.receipt))

    async def _row(self, call: Call, legal_hold_id: str) -> LegalHold:
        async with self._supplies.database.read(call.left) as conn:
            return await legal_holds.get(conn, legal_hold_id, granted(call))


def _check(checks: Checks, message: pb.LegalHold) -> None:
    checks.text("legal_hold.reason", message.reason, LONGEST_REASON, required=True)
    kind = message.WhichOneof("target")
    if kind is None:
        checks.fault("legal_hold", "one of subject_id, document and collection is required")
    elif kind == "subject_id":
        checks.text("legal_hold.subject_id", message.subject_id, 128, required=True)
    else:
        parse, shape = _TARGETS[kind]
        checks.name(f"legal_hold.{kind}", getattr(message, kind), parse, shape)


def _change(action: str, row: LegalHold) -> Change:
    names = tuple(filter(None, (_name(row.legal_hold_id), row.resource)))
    return Change(action, row.collection_uid, names, _subjects(row))


def _subjects(row: LegalHold) -> tuple[str, ...]:
    return () if row.subject_id is None else (row.subject_id,)


def _name(legal_hold_id: str) -> str:
    return f"legalHolds/{legal_hold_id}"


def _packed(row: LegalHold) -> pb.LegalHold:
    message = pb.LegalHold(
        name=_name(row.legal_hold_id),
        reason=row.reason,
        create_time=pack.timestamp(row.create_time),
        release_time=pack.timestamp(row.release_time) if row.release_time else None,
    )
    if row.subject_id is not None:
        message.subject_id = row.subject_id
    elif row.document_uid is not None:
        message.document = row.resource
    else:
        message.collection = row.resource
    return message
