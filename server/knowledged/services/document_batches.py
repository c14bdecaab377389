"""Batches of documents: KnowledgeService reads and writes many at once."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from knowledge.v1 import knowledge_service_pb2 as pb
from knowledge.v1.document_pb2 import View
from knowledged.call import Call
from knowledged.checks import Checks
from knowledged.errors import NotFound, TooLarge, Violation
from knowledged.names import collection_of, document_of, new_id
from knowledged.services import pack
from knowledged.services.batch_items import (
    AskedBatch,
    check_bare,
    check_once,
    check_parent,
)
from knowledged.services.batch_reading import BatchReader, Item
from knowledged.services.batch_writing import BatchWriter, Deletion
from knowledged.services.document_writing import Update
from knowledged.services.documents import COLLECTION_SHAPE, SHAPE, update_paths
from knowledged.services.recording import item_keys, request_key
from knowledged.services.supplies import Supplies
from knowledged.store.documents import Document


class DocumentBatches:
    """RPCs over many documents of one collection."""

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies
        self._reader = BatchReader(supplies)
        self._writer = BatchWriter(supplies)

    async def BatchGetDocuments(
        self, request: pb.BatchGetDocumentsRequest, call: Call
    ) -> pb.BatchGetDocumentsResponse:
        checks = Checks()
        (collection_id,) = checks.name("parent", request.parent, collection_of, COLLECTION_SHAPE)
        most = self._supplies.limits.max_batch_items
        checks.count("names", len(request.names), most, least=1)
        ids = [
            _document_id(checks, f"names[{place}]", name, collection_id)
            for place, name in enumerate(request.names)
        ]
        checks.done()
        space = await self._supplies.directory.resolve(call, collection_id)
        whole = [] if request.view == View.VIEW_BASIC else ids
        found = await self._reader.read(call, space, ids, whole)
        rows = _all_of(found, ids)
        call.reads((row.document_uid, row.subject_ids) for row in rows)
        return _fitted(rows, self._supplies.limits.max_message_bytes)

    async def BatchCreateDocuments(
        self, request: pb.BatchCreateDocumentsRequest, call: Call
    ) -> pb.BatchCreateDocumentsResponse:
        checks = Checks()
        asked = self._asked(checks, request, call)
        rows = [
            self._row(checks, place, each, asked.collection_id)
            for place, each in enumerate(request.requests)
        ]
        check_once(checks, [row.document_id for row in rows])
        checks.done()
        items = await self._writer.create(asked, rows)
        return pb.BatchCreateDocumentsResponse(
            responses=[pb.CreateDocumentResponse(**_packed(item)) for item in items]
        )

    async def BatchUpdateDocuments(
        self, request: pb.BatchUpdateDocumentsRequest, call: Call
    ) -> pb.BatchUpdateDocumentsResponse:
        checks = Checks()
        asked = self._asked(checks, request, call)
        updates = [
            self._update(checks, place, each, asked.collection_id)
            for place, each in enumerate(request.requests)
        ]
        check_once(checks, [update.names[1] for update in updates])
        checks.done()
        items = await self._writer.update(asked, updates)
        return pb.BatchUpdateDocumentsResponse(
            responses=[pb.UpdateDocumentResponse(**_packed(item)) for item in items]
        )

    async def BatchDeleteDocuments(
        self, request: pb.BatchDeleteDocumentsRequest, call: Call
    ) -> pb.BatchDeleteDocumentsResponse:
        checks = Checks()
        asked = self._asked(checks, request, call)
        deletions = [
            _deletion(checks, place, each, asked.collection_id)
            for place, each in enumerate(request.requests)
        ]
        check_once(checks, [deletion.document_id for deletion in deletions])
        checks.done()
        items = await self._writer.delete(asked, deletions)
        return pb.BatchDeleteDocumentsResponse(
            responses=[pb.DeleteDocumentResponse(**_packed(item)) for item in items]
        )

    def _asked(self, checks: Checks, request: Any, call: Call) -> AskedBatch:
        """What stands in every batch; its faults go to the checks."""
        (collection_id,) = checks.name("parent", request.parent, collection_of, COLLECTION_SHAPE)
        count, most = len(request.requests), self._supplies.limits.max_batch_items
        checks.count("requests", count, most, least=1)
        if count > most:
            checks.done()
        key = request_key(call, request, checks.request_id(request.request_id))
        wait = getattr(request, "wait", False)
        return AskedBatch(call, collection_id, item_keys(key, count), request.validate_only, wait)

    def _row(
        self, checks: Checks, place: int, request: pb.CreateDocumentRequest, collection_id: str
    ) -> Document:
        own, document_id = Checks(), request.document_id or new_id()
        check_parent(own, "parent", request.parent, collection_id)
        check_bare(own, request)
        own.id("document_id", document_id)
        names, at = (collection_id, document_id), datetime.now(UTC)
        row = self._supplies.drafts.document(own, request.document, names, at)
        checks.adopt(f"requests[{place}]", own)
        return row

    def _update(
        self, checks: Checks, place: int, request: pb.UpdateDocumentRequest, collection_id: str
    ) -> Update:
        own, message = Checks(), request.document
        names = collection_id, _document_id(own, "document.name", message.name, collection_id)
        check_bare(own, request)
        paths = update_paths(own, request)
        checks.adopt(f"requests[{place}]", own)
        return Update(names, message, paths, request.etag, request.allow_missing)


def _all_of(found: dict[str, Document], ids: Sequence[str]) -> list[Document]:
    """The documents in the order of their ids; NotFound names the items that are missing."""
    missing = [place for place, document_id in enumerate(ids) if document_id not in found]
    if missing:
        error = NotFound(f"{len(missing)} of the documents are not found")
        error.violations = tuple(Violation(f"names[{place}]", "not found") for place in missing)
        raise error
    return [found[document_id] for document_id in ids]


def _fitted(rows: Sequence[Document], most_bytes: int) -> pb.BatchGetDocumentsResponse:
    answer = pb.BatchGetDocumentsResponse(documents=[pack.document(row) for row in rows])
    if answer.ByteSize() > most_bytes:
        message = (
            f"the documents pass the message limit of {most_bytes} bytes; ask for fewer at once, "
        )
        raise TooLarge(message + "or for VIEW_BASIC")
    return answer


def _document_id(checks: Checks, at: str, name: str, collection_id: str) -> str:
    """The document's id; the name itself, and a fault, if it is none in the collection."""
    parts = document_of(name)
    if parts is None:
        checks.fault(at, f"must be {SHAPE}; has {len(name)} characters")
        return name
    if parts[0] != collection_id:
        checks.fault(at, "is not of the batch's parent")
    return parts[1]


def _deletion(
    checks: Checks, place: int, request: pb.DeleteDocumentRequest, collection_id: str
) -> Deletion:
    own = Checks()
    document_id = _document_id(own, "name", request.name, collection_id)
    check_bare(own, request)
    checks.adopt(f"requests[{place}]", own)
    return Deletion(document_id, request.etag, request.allow_missing)


def _packed(item: Item) -> dict[str, Any]:
    row, receipt = item
    return {
        "document": pack.document(replace(row, content="")) if row else None,
        "receipt": pack.receipt(receipt),
    }
