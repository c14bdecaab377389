"""The documents of KnowledgeService."""

import asyncio
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from knowledge.v1 import knowledge_service_pb2 as pb
from knowledge.v1.document_pb2 import Document as DocumentMessage
from knowledge.v1.document_pb2 import View
from knowledged.call import Call
from knowledged.checks import Checks
from knowledged.declared_fields import DOCUMENT, own_keys, stored_fields, type_faults
from knowledged.errors import Conflict, NotFound, WrongState
from knowledged.names import collection_of, document_of, new_id
from knowledged.services import pack
from knowledged.services.drafts import DOCUMENT_PATHS, SERVER, mask_paths
from knowledged.services.listing import by_attribute, parsed_filter
from knowledged.services.recording import Change, mutation, request_key
from knowledged.services.supplies import Supplies, granted
from knowledged.store import document_changes, documents, pieces
from knowledged.store.collections import Space
from knowledged.store.document_changes import Written
from knowledged.store.documents import DOCUMENT_FIELDS, ORDERS, Document
from knowledged.store.filter_sql import Fields
from knowledged.store.filter_sql import compile as compile_filter
from knowledged.store.pieces import NewPieces
from knowledged.store.requests import Answered, Mutation, RequestKey
from knowledged.text import ACTIVE, NOTHING_KNOWN, PENDING, Text, Vectors, waiting

COLLECTION_SHAPE = '"collections/{collection}"'
SHAPE = '"collections/{collection}/documents/{document}"'
FIELDS = Fields(DOCUMENT_FIELDS)
LONGEST_WAIT_SECONDS = 600.0


class Documents:
    """RPCs over documents."""

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies

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
        stored = await self._create(
            call, checks, key, row, validate_only=request.validate_only, wait=request.wait
        )
        return pb.CreateDocumentResponse(
            document=pack.document(replace(stored, content="")), receipt=pack.receipt(call.receipt)
        )

    async def GetDocument(
        self, request: pb.GetDocumentRequest, call: Call
    ) -> pb.GetDocumentResponse:
        names = Checks().name("name", request.name, document_of, SHAPE)
        content = request.view != View.VIEW_BASIC
        async with self._supplies.database.read(call.seconds_left(30)) as conn:
            row = await documents.get(conn, *names, granted(call), content)
        return pb.GetDocumentResponse(document=pack.document(row))

    async def ListDocuments(
        self, request: pb.ListDocumentsRequest, call: Call
    ) -> pb.ListDocumentsResponse:
        checks, order_by = Checks(), request.order_by or "create_time"
        (collection_id,) = checks.name("parent", request.parent, collection_of, COLLECTION_SHAPE)
        asked = parsed_filter(checks, request)
        position = by_attribute("document_uid")
        listing = self._supplies.lists.listing(checks, call, request, ORDERS, order_by, position)
        condition = compile_filter(asked, FIELDS, 4)
        space = await self._supplies.directory.resolve(call, collection_id)
        parts = request.show_deleted, request.view == View.VIEW_FULL
        async with self._supplies.database.read(call.seconds_left(30)) as conn:
            rows = await documents.list_page(
                conn, space.collection.collection_uid, *parts, condition, listing.page
            )
        room = self._supplies.limits.max_message_bytes
        messages, token = listing.fitted(rows, pack.document, room)
        return pb.ListDocumentsResponse(documents=messages, next_page_token=token)

    async def UpdateDocument(
        self, request: pb.UpdateDocumentRequest, call: Call
    ) -> pb.UpdateDocumentResponse:
        checks, message = Checks(), request.document
        names = checks.name("document.name", message.name, document_of, SHAPE)
        key = request_key(call, request, checks.request_id(request.request_id))
        paths = mask_paths(
            checks, list(request.update_mask.paths), DOCUMENT_PATHS, _populated(message)
        )
        stored = await self._update(call, checks, key, _Update(names, paths, request))
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
        row = await self._delete(call, key, names, request)
        return pb.DeleteDocumentResponse(
            document=pack.document(row) if row else None, receipt=pack.receipt(call.receipt)
        )

    async def _create(
        self,
        call: Call,
        checks: Checks,
        key: RequestKey,
        row: Document,
        *,
        validate_only: bool,
        wait: bool,
    ) -> Document:
        checks.done()
        vectors = Vectors()
        async for space in self._supplies.directory.attempts(call, row.collection_id):
            if answered := await self._supplies.answered(call, key):
                return await self._as_answered(call, answered)
            _check_types(space, row)
            if validate_only:
                call.unaudited = True
                return row
            cut = await self._cut(space, row, vectors)
            draft = _completed(row, cut, NOTHING_KNOWN)
            made = mutation(call, key, _change("documents.create", space, draft))
            async with self._supplies.database.write(call.seconds_left(30)) as conn:
                written = await document_changes.create(conn, made, space.collection, draft, cut)
            if written is Written.DONE:
                return await self._settled(call, made, draft, wait=wait)
        raise AssertionError("attempts end by raising")

    async def _update(
        self, call: Call, checks: Checks, key: RequestKey, update: "_Update"
    ) -> Document:
        vectors, request = Vectors(), update.request
        async for space in self._supplies.directory.attempts(call, update.names[0]):
            if answered := await self._supplies.answered(call, key):
                return await self._as_answered(call, answered)
            old = await self._live(call, update.names, allow_missing=request.allow_missing)
            if old is None:
                return await self._create_missing(call, checks, key, update)
            _check_etag(request.etag, old)
            drafts, now = self._supplies.drafts, datetime.now(UTC)
            row = drafts.changed_document(checks, old, request.document, update.paths)
            checks.done()
            _check_types(space, row)
            if request.validate_only:
                call.unaudited = True
                return row
            row = replace(row, update_time=now)
            row, cut = await self._recut(call, space, old, row, vectors)
            made = mutation(call, key, _change("documents.update", space, row, old))
            async with self._supplies.database.write(call.seconds_left(30)) as conn:
                written = await document_changes.update(conn, made, space.collection, row, cut)
            if written is Written.DONE:
                row = replace(row, revision=row.revision + 1)
                return await self._settled(call, made, row, wait=request.wait)
        raise AssertionError("attempts end by raising")

    async def _create_missing(
        self, call: Call, checks: Checks, key: RequestKey, update: "_Update"
    ) -> Document:
        request, now = update.request, datetime.now(UTC)
        if request.etag:
            raise Conflict("etag: the document is missing")
        row = self._supplies.drafts.document(checks, request.document, update.names, now)
        return await self._create(
            call, checks, key, row, validate_only=request.validate_only, wait=request.wait
        )

    async def _delete(
        self,
        call: Call,
        key: RequestKey,
        names: tuple[str, str],
        request: pb.DeleteDocumentRequest,
    ) -> Document | None:
        async for space in self._supplies.directory.attempts(call, names[0]):
            if answered := await self._supplies.answered(call, key):
                return await self._as_answered(call, answered)
            old = await self._deletable(call, names, allow_missing=request.allow_missing)
            if old is None or request.validate_only:
                call.unaudited = True
                return old
            _check_etag(request.etag, old)
            made = mutation(call, key, _change("documents.delete", space, old))
            at = made.event.occurred_at
            async with self._supplies.database.write(call.seconds_left(30)) as conn:
                written = await document_changes.delete(conn, made, space.collection, old, at)
            if written is Written.DONE:
                call.receipt = made.receipt
                return replace(old, revision=old.revision + 1, update_time=at, delete_time=at)
        raise AssertionError("attempts end by raising")

    async def _cut(self, space: Space, row: Document, vectors: Vectors) -> NewPieces:
        if row.origin != SERVER:
            return NewPieces()
        fields = stored_fields(space.collection.filter_fields, DOCUMENT, row.metadata)
        text = Text(row.content, row.mime_type, NOTHING_KNOWN, fields, ())
        return await self._supplies.text.pieces(space.collection, text, vectors)

    async def _recut(
        self, call: Call, space: Space, old: Document, row: Document, vectors: Vectors
    ) -> tuple[Document, NewPieces]:
        """The next revision's pieces; those of an unchanged text stay as they are."""
        declared = space.collection.filter_fields
        fields = stored_fields(declared, DOCUMENT, row.metadata)
        keys = own_keys(declared, DOCUMENT)
        same = (old.content, old.mime_type) == (row.content, row.mime_type)
        if row.origin != SERVER or same:
            return row, NewPieces(fields=fields, cut=False, own_keys=keys)
        async with self._supplies.database.read(call.seconds_left(30)) as conn:
            known = await pieces.known(conn, old.document_uid)
        text = Text(row.content, row.mime_type, known, fields, keys)
        cut = await self._supplies.text.pieces(space.collection, text, vectors)
        return _completed(row, cut, known), cut

    async def _live(
        self, call: Call, names: tuple[str, str], *, allow_missing: bool
    ) -> Document | None:
        """The document to change; None if it is missing and that is allowed."""
        try:
            async with self._supplies.database.read(call.seconds_left(30)) as conn:
                row = await documents.get(conn, *names, granted(call))
        except NotFound:
            if allow_missing:
                return None
            raise
        if row.delete_time is not None:
            raise WrongState("the document is deleted")
        return row

    async def _deletable(
        self, call: Call, names: tuple[str, str], *, allow_missing: bool
    ) -> Document | None:
        try:
            async with self._supplies.database.read(call.seconds_left(30)) as conn:
                row = await documents.get(conn, *names, granted(call), content=False)
            if row.delete_time is not None:
                raise NotFound("document: is deleted already")
        except NotFound:
            if allow_missing:
                return None
            raise
        return row

    async def _settled(self, call: Call, made: Mutation, row: Document, *, wait: bool) -> Document:
        call.receipt = made.receipt
        if row.state != PENDING:
            return row
        self._supplies.wake_text_workers()
        if not wait:
            return row
        return await self._searchable(call, row)

    async def _searchable(self, call: Call, row: Document) -> Document:
        """The document once its text is searchable, or as it is shortly before the deadline."""
        until = time.monotonic() + call.seconds_left(LONGEST_WAIT_SECONDS) - 0.5
        while row.state == PENDING and time.monotonic() < until:
            await asyncio.sleep(0.1)
            async with self._supplies.database.read(call.seconds_left(30)) as conn:
                row = await documents.get_at_revision(conn, row.document_uid, row.revision)
        return row

    async def _as_answered(self, call: Call, answered: Answered) -> Document:
        async with self._supplies.database.read(call.seconds_left(30)) as conn:
            return await documents.get_at_revision(conn, answered.resource_uid, answered.revision)


@dataclass(frozen=True, slots=True)
class _Update:
    """An UpdateDocument: ids of collection and document, the mask's paths, and the request."""

    names: tuple[str, str]
    paths: frozenset[str]
    request: pb.UpdateDocumentRequest


def _completed(row: Document, cut: NewPieces, known: dict[str, pieces.KnownChunk]) -> Document:
    state = PENDING if waiting(cut, known) else ACTIVE
    chunks = {span.chunk_uid for span in cut.spans}
    return replace(row, state=state, chunk_count=len(chunks))


def _change(action: str, space: Space, row: Document, old: Document | None = None) -> Change:
    """Whom it is about: also those the document named before."""
    subjects = dict.fromkeys([*row.subject_ids, *(old.subject_ids if old else ())])
    return Change(action, space.collection.collection_uid, (row.name,), tuple(subjects))


def _check_types(space: Space, row: Document) -> None:
    checks = Checks()
    declared = space.collection.filter_fields
    checks.violations.extend(type_faults(declared, DOCUMENT, row.metadata, "document"))
    checks.done()


def _check_etag(etag: str, row: Document) -> None:
    if etag and etag != pack.etag(row.document_uid, row.revision):
        raise Conflict("etag: is stale; read the document again")


def _populated(message: DocumentMessage) -> frozenset[str]:
    """Without a mask: all fields that are set in the message."""
    return frozenset(field.name for field, _ in message.ListFields()) & DOCUMENT_PATHS
