"""The documents of KnowledgeService."""

from dataclasses import replace
from datetime import UTC, datetime

from knowledge.v1 import knowledge_service_pb2 as pb
from knowledge.v1.document_pb2 import View
from knowledged.call import Call
from knowledged.checks import Checks
from knowledged.names import collection_of, document_of, new_id
from knowledged.services import pack
from knowledged.services.document_removal import DocumentRemover
from knowledged.services.document_writing import DocumentWriter, Update
from knowledged.services.drafts import DOCUMENT_PATHS, mask_paths
from knowledged.services.found_documents import Asked
from knowledged.services.listing import by_attribute, document_condition, document_filter
from knowledged.services.recording import request_key
from knowledged.services.supplies import Supplies, granted
from knowledged.store import documents, revisions
from knowledged.store.documents import ORDERS, Document
from knowledged.store.revisions import Moment

COLLECTION_SHAPE = '"collections/{collection}"'
SHAPE = '"collections/{collection}/documents/{document}"'


class Documents:
    """RPCs over documents."""

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies
        self._writer = DocumentWriter(supplies)
        self._remover = DocumentRemover(supplies)

    async def CreateDocument(
        self, request: pb.CreateDocumentRequest, call: Call
    ) -> pb.CreateDocumentResponse:
        checks = Checks()
        (collection_id,) = checks.name("parent", request.parent, collection_of, COLLECTION_SHAPE)
        document_id = request.document_id or new_id()
        checks.id("document_id", document_id)
        key = request_key(call, request, checks.request_id(request.request_id))
        names = collection_id, document_id
        row = self._supplies.drafts.document(checks, request.document, names, datetime.now(UTC))
        checks.done()
        asked = Asked(call, key, request.validate_only, request.wait)
        stored = await self._writer.create(asked, row)
        return pb.CreateDocumentResponse(
            document=pack.document(replace(stored, content="")), receipt=pack.receipt(call.receipt)
        )

    async def GetDocument(
        self, request: pb.GetDocumentRequest, call: Call
    ) -> pb.GetDocumentResponse:
        checks = Checks()
        names = checks.name("name", request.name, document_of, SHAPE)
        moment = _moment(checks, request)
        checks.done()
        content = request.view != View.VIEW_BASIC
        space = await self._supplies.directory.resolve(call, names[0])
        if moment:
            where = space.collection.collection_uid, names[1]
            async with self._supplies.database.read(call.left) as conn:
                row = await revisions.get(conn, where, moment, content)
        else:
            row = await self._current(call, space.collection.collection_id, names[1], content)
        call.reads([(row.document_uid, row.subject_ids)])
        return pb.GetDocumentResponse(document=pack.document(row))

    async def ListDocuments(
        self, request: pb.ListDocumentsRequest, call: Call
    ) -> pb.ListDocumentsResponse:
        checks, order_by = Checks(), request.order_by or "create_time"
        (collection_id,) = checks.name("parent", request.parent, collection_of, COLLECTION_SHAPE)
        asked = document_filter(checks, request)
        position = by_attribute("document_uid")
        listing = self._supplies.lists.listing(checks, call, request, ORDERS, order_by, position)
        space = await self._supplies.directory.resolve(call, collection_id)
        condition = document_condition(asked, space.collection, 4)
        parts = request.show_deleted, request.view == View.VIEW_FULL
        async with self._supplies.database.read(call.left) as conn:
            rows = await documents.list_page(
                conn, space.collection.collection_uid, *parts, condition, listing.page
            )
        room = self._supplies.limits.max_message_bytes
        messages, token = listing.fitted(rows, pack.document, room)
        call.reads((row.document_uid, row.subject_ids) for row in rows[: len(messages)])
        return pb.ListDocumentsResponse(documents=messages, next_page_token=token)

    async def UpdateDocument(
        self, request: pb.UpdateDocumentRequest, call: Call
    ) -> pb.UpdateDocumentResponse:
        checks, message = Checks(), request.document
        names = checks.name("document.name", message.name, document_of, SHAPE)
        key = request_key(call, request, checks.request_id(request.request_id))
        paths = update_paths(checks, request)
        asked = Asked(call, key, request.validate_only, request.wait)
        update = Update(names, message, paths, request.etag, request.allow_missing)
        stored = await self._writer.update(asked, update, checks)
        return pb.UpdateDocumentResponse(
            document=pack.document(replace(stored, content="")), receipt=pack.receipt(call.receipt)
        )

    async def DeleteDocument(
        self, request: pb.DeleteDocumentRequest, call: Call
    ) -> pb.DeleteDocumentResponse:
        checks = Checks()
        names = checks.name("name", request.name, document_of, SHAPE)
        key = request_key(call, request, checks.request_id(request.request_id))
        checks.done()
        asked = Asked(call, key, request.validate_only)
        allow = request.allow_missing
        row = await self._remover.delete(asked, names, request.etag, allow_missing=allow)
        return pb.DeleteDocumentResponse(
            document=pack.document(row) if row else None, receipt=pack.receipt(call.receipt)
        )

    async def UndeleteDocument(
        self, request: pb.UndeleteDocumentRequest, call: Call
    ) -> pb.UndeleteDocumentResponse:
        checks = Checks()
        names = checks.name("name", request.name, document_of, SHAPE)
        key = request_key(call, request, checks.request_id(request.request_id))
        checks.done()
        row = await self._remover.undelete(
            Asked(call, key, request.validate_only), names, request.etag
        )
        return pb.UndeleteDocumentResponse(
            document=pack.document(row), receipt=pack.receipt(call.receipt)
        )

    async def _current(
        self, call: Call, collection_id: str, document_id: str, content: bool
    ) -> Document:
        # Its plan is the same for any document, and making it takes longer than reading one.
        async with self._supplies.database.read_planned(call.left) as conn:
            return await documents.get(conn, collection_id, document_id, granted(call), content)


def _moment(checks: Checks, request: pb.GetDocumentRequest) -> Moment | None:
    """The revision or the instant that is asked for; None for the current state."""
    if not request.revision and not request.HasField("as_of"):
        return None
    as_of = checks.past("as_of", request.as_of) if request.HasField("as_of") else None
    if request.revision and as_of:
        checks.fault("as_of", "excludes revision")
    if request.revision < 0:
        checks.fault("revision", "must be 1 or more")
    return Moment(request.revision or None, as_of)


def update_paths(checks: Checks, request: pb.UpdateDocumentRequest) -> frozenset[str]:
    """What an update changes; without a mask all fields that are set in its document."""
    populated = frozenset(field.name for field, _ in request.document.ListFields())
    mask = list(request.update_mask.paths)
    return mask_paths(checks, mask, DOCUMENT_PATHS, populated & DOCUMENT_PATHS)
