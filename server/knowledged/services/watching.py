"""The change feed of a collection's documents."""

import asyncio
from collections.abc import AsyncGenerator
from uuid import UUID

from knowledge.v1 import knowledge_service_pb2 as pb
from knowledged.call import Call
from knowledged.checks import Checks
from knowledged.errors import WrongState
from knowledged.names import collection_of
from knowledged.services import pack
from knowledged.services.log_streams import LONGEST_ORIGIN
from knowledged.services.proofs import LARGEST_SIZE
from knowledged.services.supplies import Supplies
from knowledged.store import document_feed, ledger
from knowledged.store.document_feed import DocumentChange
from knowledged.store.ledger import State

SHAPE = '"collections/{collection}"'
# Leaves of the log that are looked through at once, whosesoever they are.
_PAGE = 1_000
_POLL_SECONDS = 0.5


class Watching:
    """The RPC that follows documents."""

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies

    async def WatchDocuments(
        self, request: pb.WatchDocumentsRequest, call: Call
    ) -> AsyncGenerator[pb.WatchDocumentsResponse]:
        checks = Checks()
        (collection_id,) = checks.name("parent", request.parent, collection_of, SHAPE)
        checks.text("origin", request.origin, LONGEST_ORIGIN)
        checks.number("start_log_index", request.start_log_index, 0, LARGEST_SIZE)
        checks.done()
        space = await self._supplies.directory.resolve(call, collection_id)
        uid = space.collection.collection_uid
        at = await self._start(request, call)
        told = -1
        while True:
            end, origin, found = await self._page(call, request.origin, uid, at)
            if found or told < 0 or end >= told + _PAGE:
                self._tell(call, found)
                yield pb.WatchDocumentsResponse(
                    changes=map(_packed, found), next_log_index=end, origin=origin
                )
                told = end
            if end < at + _PAGE:
                await asyncio.sleep(_POLL_SECONDS)
                await self._supplies.directory.resolve(call, collection_id)
            at = end

    def _tell(self, call: Call, found: list[DocumentChange]) -> None:
        """The audit log; of an answer without changes there is nothing to tell."""
        if found:
            uids = dict.fromkeys(change.document_uid for change in found if change.document_uid)
            call.reads((uid, ()) for uid in uids)

    async def _start(self, request: pb.WatchDocumentsRequest, call: Call) -> int:
        """Where to begin. Raises Invalid for an index that is not there yet, WrongState for one
        that is not there any more."""
        checks, begin = Checks(), request.start_log_index
        async with self._supplies.database.read(call.left) as conn:
            size = _named(await ledger.state(conn), request.origin).tree_size
            forgotten = await document_feed.is_forgotten(conn, begin)
        checks.number("start_log_index", begin, 0, size)
        checks.done()
        if not request.HasField("start_log_index"):
            return size
        if forgotten:
            raise WrongState("start_log_index: the log keeps its events no more")
        return begin

    async def _page(
        self, call: Call, origin: str, collection_uid: UUID, begin: int
    ) -> tuple[int, str, list[DocumentChange]]:
        """Where the page ends, the log's name, and the changes in it."""
        async with self._supplies.database.read(call.left) as conn:
            state = _named(await ledger.state(conn), origin)
            end = min(state.tree_size, begin + _PAGE)
            if end <= begin:
                return begin, state.origin, []
            return end, state.origin, await document_feed.changes(conn, collection_uid, begin, end)


def _named(state: State | None, origin: str) -> State:
    """The log's state; WrongState if the log is not the one that the caller means."""
    if state is None:
        raise WrongState("the audit log has lost its state", reason="AUDIT_LEDGER_BROKEN")
    if origin and origin != state.origin:
        raise WrongState("origin: the log has another name now", reason="ORIGIN_CHANGED")
    return state


def _packed(change: DocumentChange) -> pb.DocumentChange:
    return pb.DocumentChange(
        log_index=change.log_index,
        event_id=str(change.event_id),
        action=change.action,
        name=change.resource,
        revision=change.revision,
        occurred_at=pack.timestamp(change.occurred_at),
    )
