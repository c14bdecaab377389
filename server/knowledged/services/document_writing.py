"""How documents are created, updated and deleted.

Each is: resolve the collection, read what there is, compute the new state, and one statement that
demands that nothing changed meanwhile. If something did, it is tried again with what is there now.
"""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from knowledge.v1.document_pb2 import Document as DocumentMessage
from knowledged.call import Call
from knowledged.checks import Checks
from knowledged.declared_fields import DOCUMENT, own_keys, stored_fields, type_faults
from knowledged.errors import AlreadyExists, Conflict, Invalid, NotFound, WrongState
from knowledged.services import pack
from knowledged.services.drafts import SERVER
from knowledged.services.recording import Change, mutation
from knowledged.services.supplies import Supplies, granted
from knowledged.store import document_changes, documents, pieces
from knowledged.store.collections import Space
from knowledged.store.document_changes import Written
from knowledged.store.documents import Document
from knowledged.store.pieces import KnownChunk, NewPieces
from knowledged.store.requests import Answered, Mutation, RequestKey
from knowledged.text import ACTIVE, NOTHING_KNOWN, PENDING, Text, Vectors, waiting

LONGEST_WAIT_SECONDS = 600.0
_POLL_SECONDS = 0.1
# Kept of the caller's time for the answer itself.
_ANSWER_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Asked:
    """A mutation as it was asked for: by which call, under which key, and what to do beside it."""

    call: Call
    key: RequestKey
    validate_only: bool = False
    wait: bool = False


@dataclass(frozen=True, slots=True)
class Update:
    """New values of a document: ids of collection and document, the message, the mask's paths."""

    names: tuple[str, str]
    message: DocumentMessage
    paths: frozenset[str]
    etag: str
    allow_missing: bool


class DocumentWriter:
    """Writes documents. A repeat of a request gets the answer that the first had."""

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies

    async def create(self, asked: Asked, row: Document) -> Document:
        """Stores a new document; AlreadyExists when its id is taken."""
        vectors = Vectors()
        async for space in self._supplies.directory.attempts(asked.call, row.collection_id):
            if answered := await self._supplies.answered(asked.call, asked.key):
                return await self._as_answered(asked.call, answered)
            _check_types(space, row)
            if row.origin == SERVER:
                self._supplies.text.model_of(space)
            if asked.validate_only:
                await self._refuse_taken(asked.call, row)
                return _unchanged(asked.call, row)
            cut = await self._cut(asked.call, space, row, vectors)
            draft = _completed(row, cut, NOTHING_KNOWN)
            made = mutation(asked.call, asked.key, _change("documents.create", space, draft))
            async with self._supplies.database.write(asked.call.left) as conn:
                written = await document_changes.create(conn, made, space.collection, draft, cut)
            if written is Written.DONE:
                return await self._settled(asked, made, draft)
        raise AssertionError("attempts end by raising")

    async def update(self, asked: Asked, update: Update, checks: Checks) -> Document:
        """Stores the next revision; only text that is new to the document is embedded."""
        vectors = Vectors()
        async for space in self._supplies.directory.attempts(asked.call, update.names[0]):
            if answered := await self._supplies.answered(asked.call, asked.key):
                return await self._as_answered(asked.call, answered)
            old = await self._live(asked.call, update)
            if old is None:
                return await self._create_missing(asked, update, checks)
            row = self._revised(space, old, update, checks)
            if asked.validate_only:
                return _unchanged(asked.call, row)
            row, cut = await self._recut(asked.call, space, old, row, vectors)
            made = mutation(asked.call, asked.key, _change("documents.update", space, row, old))
            async with self._supplies.database.write(asked.call.left) as conn:
                written = await document_changes.update(conn, made, space.collection, row, cut)
            if written is Written.DONE:
                return await self._settled(asked, made, replace(row, revision=row.revision + 1))
        raise AssertionError("attempts end by raising")

    async def delete(
        self, asked: Asked, names: tuple[str, str], etag: str, *, allow_missing: bool
    ) -> Document | None:
        """Deletes softly; None if there is nothing to delete and that is allowed."""
        call = asked.call
        async for space in self._supplies.directory.attempts(call, names[0]):
            if answered := await self._supplies.answered(call, asked.key):
                return await self._as_answered(call, answered)
            old = await self._deletable(call, names, allow_missing=allow_missing)
            if old is None:
                call.unaudited = True
                return None
            _check_etag(etag, old)
            if asked.validate_only:
                return _unchanged(call, old)
            made = mutation(call, asked.key, _change("documents.delete", space, old))
            at = made.event.occurred_at
            async with self._supplies.database.write(call.left) as conn:
                written = await document_changes.delete(conn, made, space.collection, old, at)
            if written is Written.DONE:
                call.receipt = made.receipt
                return replace(old, revision=old.revision + 1, update_time=at, delete_time=at)
        raise AssertionError("attempts end by raising")

    def _revised(self, space: Space, old: Document, update: Update, checks: Checks) -> Document:
        """The document with its new values, all of them checked."""
        _check_etag(update.etag, old)
        drafts = self._supplies.drafts
        row = drafts.changed_document(checks, old, update.message, update.paths)
        checks.done()
        _check_types(space, row)
        return replace(row, update_time=datetime.now(UTC))

    async def _create_missing(self, asked: Asked, update: Update, checks: Checks) -> Document:
        if update.etag:
            raise Conflict("etag: the document is missing")
        now, drafts = datetime.now(UTC), self._supplies.drafts
        row = drafts.document(checks, update.message, update.names, now)
        checks.done()
        return await self.create(asked, row)

    async def _refuse_taken(self, call: Call, row: Document) -> None:
        """As the statement would, which does not run for validate_only."""
        with suppress(NotFound):
            await self._read(call, (row.collection_id, row.document_id), content=False)
            raise AlreadyExists("document_id: is taken")

    async def _cut(self, call: Call, space: Space, row: Document, vectors: Vectors) -> NewPieces:
        if row.origin != SERVER:
            return NewPieces()
        fields = stored_fields(space.collection.filter_fields, DOCUMENT, row.metadata)
        text = Text(row.content, row.mime_type, NOTHING_KNOWN, fields, ())
        return await self._supplies.text.pieces(space, text, vectors, call.left)

    async def _recut(
        self, call: Call, space: Space, old: Document, row: Document, vectors: Vectors
    ) -> tuple[Document, NewPieces]:
        """The next revision and its pieces; those of an unchanged text stay as they are."""
        declared = space.collection.filter_fields
        fields = stored_fields(declared, DOCUMENT, row.metadata)
        keys = own_keys(declared, DOCUMENT)
        same = (old.content, old.mime_type) == (row.content, row.mime_type)
        if row.origin != SERVER or same:
            return row, NewPieces(fields=fields, cut=False, own_keys=keys)
        async with self._supplies.database.read(call.left) as conn:
            known = await pieces.known(conn, old.document_uid)
        text = Text(row.content, row.mime_type, known, fields, keys)
        cut = await self._supplies.text.pieces(space, text, vectors, call.left)
        return _completed(row, cut, known), cut

    async def _live(self, call: Call, update: Update) -> Document | None:
        """The document to change; None if it is missing and that is allowed."""
        try:
            row = await self._read(call, update.names, content=True)
        except NotFound:
            if update.allow_missing:
                return None
            raise
        if row.delete_time is not None:
            raise WrongState("the document is deleted")
        return row

    async def _deletable(
        self, call: Call, names: tuple[str, str], *, allow_missing: bool
    ) -> Document | None:
        try:
            row = await self._read(call, names, content=False)
            if row.delete_time is not None:
                raise NotFound("document: is deleted already")
        except NotFound:
            if allow_missing:
                return None
            raise
        return row

    async def _read(self, call: Call, names: tuple[str, str], *, content: bool) -> Document:
        async with self._supplies.database.read(call.left) as conn:
            return await documents.get(conn, *names, granted(call), content)

    async def _settled(self, asked: Asked, made: Mutation, row: Document) -> Document:
        asked.call.receipt = made.receipt
        if row.state != PENDING:
            return row
        self._supplies.wake_text_workers()
        return await self._searchable(asked.call, row) if asked.wait else row

    async def _searchable(self, call: Call, row: Document) -> Document:
        """The document once its text is searchable, or as it is shortly before the deadline."""
        until = time.monotonic() + call.seconds_left(LONGEST_WAIT_SECONDS) - _ANSWER_SECONDS
        while row.state == PENDING and time.monotonic() < until:
            await asyncio.sleep(_POLL_SECONDS)
            async with self._supplies.database.read(call.left) as conn:
                row = await documents.get_at_revision(conn, row.document_uid, row.revision)
        return row

    async def _as_answered(self, call: Call, answered: Answered) -> Document:
        async with self._supplies.database.read(call.left) as conn:
            return await documents.get_at_revision(conn, answered.resource_uid, answered.revision)


def _unchanged(call: Call, row: Document) -> Document:
    """The answer to validate_only: nothing was changed, so nothing is recorded."""
    call.unaudited = True
    return row


def _completed(row: Document, cut: NewPieces, known: dict[str, KnownChunk]) -> Document:
    state = PENDING if waiting(cut, known) else ACTIVE
    return replace(row, state=state, chunk_count=len({span.chunk_uid for span in cut.spans}))


def _change(action: str, space: Space, row: Document, old: Document | None = None) -> Change:
    """Whom it is about: also those the document named before."""
    subjects = dict.fromkeys([*row.subject_ids, *(old.subject_ids if old else ())])
    return Change(action, space.collection.collection_uid, (row.name,), tuple(subjects))


def _check_types(space: Space, row: Document) -> None:
    declared = space.collection.filter_fields
    if faults := type_faults(declared, DOCUMENT, row.metadata, "document"):
        raise Invalid(*faults)


def _check_etag(etag: str, row: Document) -> None:
    if etag and etag != pack.etag(row.document_uid, row.revision):
        raise Conflict("etag: is stale; read the document again")
