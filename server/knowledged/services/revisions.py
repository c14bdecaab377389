"""The former revisions of documents: KnowledgeService reads them and rolls back to them."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from knowledge.v1 import knowledge_service_pb2 as pb
from knowledged.call import Call, Shown
from knowledged.checks import Checks
from knowledged.names import document_of
from knowledged.services import pack
from knowledged.services.document_writing import DocumentWriter
from knowledged.services.documents import SHAPE
from knowledged.services.found_documents import Asked, FoundDocuments
from knowledged.services.listing import document_condition, document_filter
from knowledged.services.recording import request_key
from knowledged.services.supplies import Supplies
from knowledged.store import revisions
from knowledged.store.paging import Position
from knowledged.store.revisions import BY_REVISION, Revision

LAST_REVISION = 2**63 - 1


class Revisions:
    """RPCs over a document's revisions."""

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies
        self._found = FoundDocuments(supplies)
        self._writer = DocumentWriter(supplies)

    async def ListDocumentRevisions(
        self, request: pb.ListDocumentRevisionsRequest, call: Call
    ) -> pb.ListDocumentRevisionsResponse:
        checks, order_by = Checks(), request.order_by or "revision desc"
        names = checks.name("parent", request.parent, document_of, SHAPE)
        asked = document_filter(checks, request)
        orders = {"revision": BY_REVISION}
        listing = self._supplies.lists.listing(checks, call, request, orders, order_by, _position)
        space = await self._supplies.directory.resolve(call, names[0])
        condition = document_condition(asked, space.collection, 2)
        document = await self._found.read(call, space, names[1], content=False)
        async with self._supplies.database.read(call.left) as conn:
            rows = await revisions.list_page(conn, document.document_uid, condition, listing.page)
        room = self._supplies.limits.max_message_bytes
        messages, token = listing.fitted(rows, pack.revision, room)
        call.reads([_shown(rows[: len(messages)], document.document_uid)])
        return pb.ListDocumentRevisionsResponse(revisions=messages, next_page_token=token)

    async def RollbackDocument(
        self, request: pb.RollbackDocumentRequest, call: Call
    ) -> pb.RollbackDocumentResponse:
        checks = Checks()
        names = checks.name("name", request.name, document_of, SHAPE)
        key = request_key(call, request, checks.request_id(request.request_id))
        checks.number("revision", request.revision, 1, LAST_REVISION)
        checks.done()
        asked = Asked(call, key, request.validate_only, request.wait)
        row = await self._writer.rollback(asked, names, request.revision, request.etag)
        return pb.RollbackDocumentResponse(
            document=pack.document(replace(row, content="")), receipt=pack.receipt(call.receipt)
        )


def _shown(rows: Sequence[Revision], document_uid: UUID) -> Shown:
    """The document, and all whom it was about at these revisions."""
    subjects = (subject for row in rows for subject in row.document.subject_ids)
    return document_uid, tuple(dict.fromkeys(subjects))


def _position(row: Revision, _: str) -> Position:
    return row.document.revision, row.document.document_uid
