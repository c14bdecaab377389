"""Purging documents: KnowledgeService removes them for good, if the caller insists."""

from collections.abc import Sequence
from uuid import UUID

from knowledge.v1 import knowledge_service_pb2 as pb
from knowledged.call import Call, Receipt
from knowledged.checks import Checks
from knowledged.errors import WrongState
from knowledged.names import collection_of
from knowledged.services import pack
from knowledged.services.documents import COLLECTION_SHAPE
from knowledged.services.listing import document_condition, document_filter
from knowledged.services.recording import Change, item_keys, mutation, request_key
from knowledged.services.supplies import Supplies
from knowledged.store import purges, requests
from knowledged.store.filter_sql import Condition
from knowledged.store.purges import Doomed
from knowledged.store.requests import Answered, Mutation, RequestKey

SAMPLE = 100
LONGEST_FILTER = 8_192


class Purges:
    """RPCs that remove for good."""

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies

    async def PurgeDocuments(
        self, request: pb.PurgeDocumentsRequest, call: Call
    ) -> pb.PurgeDocumentsResponse:
        checks = Checks()
        (collection_id,) = checks.name("parent", request.parent, collection_of, COLLECTION_SHAPE)
        checks.text("filter", request.filter, LONGEST_FILTER, required=True)
        asked = document_filter(checks, request)
        key = request_key(call, request, checks.request_id(request.request_id))
        checks.done()
        space = await self._supplies.directory.resolve(call, collection_id)
        collection_uid = space.collection.collection_uid
        condition = document_condition(asked, space.collection, 2)
        if not request.force:
            return await self._counted(call, collection_uid, condition)
        return await self._purged(call, key, collection_uid, condition)

    async def _counted(
        self, call: Call, collection_uid: UUID, condition: Condition
    ) -> pb.PurgeDocumentsResponse:
        call.unaudited = True
        async with self._supplies.database.read(call.left) as conn:
            count = await purges.count(conn, collection_uid, condition)
            sample = (await purges.find(conn, collection_uid, condition, SAMPLE))[:SAMPLE]
        call.reads((document.document_uid, document.subject_ids) for document in sample)
        return pb.PurgeDocumentsResponse(
            purge_count=count.matching,
            purge_sample=[document.name for document in sample],
            held_count=count.held,
        )

    async def _purged(
        self, call: Call, key: RequestKey, collection_uid: UUID, condition: Condition
    ) -> pb.PurgeDocumentsResponse:
        most = self._supplies.limits.max_batch_items
        keys = item_keys(key, most)
        async with self._supplies.database.transaction(call.left) as conn:
            found = await purges.find(conn, collection_uid, condition, most)
            doomed = await purges.lock(conn, found[:most])
            if answered := await requests.find_many(conn, keys):
                return _repeated(call, answered)
            _refuse_held(doomed)
            more = len(found) > len(doomed)
            made = [_made(call, *each) for each in zip(keys, doomed, strict=False)]
            if doomed:
                await purges.purge(conn, doomed, made, more=more)
        return _done(call, [mutation.receipt for mutation in made], more=more)


def _done(call: Call, receipts: Sequence[Receipt], *, more: bool) -> pb.PurgeDocumentsResponse:
    call.receipt = receipts[0] if receipts else None
    call.unaudited = not receipts
    return pb.PurgeDocumentsResponse(
        purge_count=len(receipts),
        more=more,
        receipts=[pack.sent_receipt(receipt) for receipt in receipts],
    )


def _repeated(call: Call, answered: Sequence[Answered | None]) -> pb.PurgeDocumentsResponse:
    known = [each for each in answered if each]
    return _done(call, [each.receipt for each in known], more=bool(known[0].revision))


def _made(call: Call, key: RequestKey, doomed: Doomed) -> Mutation:
    about = (doomed.name,), doomed.subject_ids
    return mutation(call, key, Change("documents.purge", doomed.collection_uid, *about))


def _refuse_held(doomed: Sequence[Doomed]) -> None:
    if held := sum(document.held for document in doomed):
        message = f"{held} of these documents are under legal hold; none was purged"
        raise WrongState(message, reason="LEGAL_HOLD")
