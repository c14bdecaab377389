"""How documents are created, updated and rolled back.

Each is: resolve the collection, read what there is, compute the new state, and one statement that
demands that nothing changed meanwhile. If something did, it is tried again with what is there now.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from knowledge.v1.document_pb2 import Document as DocumentMessage
from knowledged.checks import Checks
from knowledged.declared_fields import DOCUMENT, type_faults
from knowledged.errors import AlreadyExists, Conflict, Invalid, NotFound
from knowledged.services.drafts import SERVER
from knowledged.services.found_documents import (
    Asked,
    FoundDocuments,
    change,
    check_etag,
    following,
    named,
    unchanged,
)
from knowledged.services.recording import mutation
from knowledged.services.recutting import cut_new, recut
from knowledged.services.supplies import Supplies
from knowledged.store import document_changes, revisions
from knowledged.store.collections import Space
from knowledged.store.documents import Document
from knowledged.store.revisions import Moment
from knowledged.text import Vectors

Names = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Update:
    """New values of a document: ids of collection and document, the message, the mask's paths."""

    names: Names
    message: DocumentMessage
    paths: frozenset[str]
    etag: str
    allow_missing: bool


@dataclass(frozen=True, slots=True)
class Step:
    """From a document's current revision to its next: `revise` gives the new values."""

    action: str
    names: Names
    etag: str
    revise: Callable[[Space, Document], Awaitable[Document]]
    allow_missing: bool = False


class DocumentWriter:
    """Writes documents. A repeat of a request gets the answer that the first had."""

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies
        self._found = FoundDocuments(supplies)

    async def create(self, asked: Asked, row: Document) -> Document:
        """Stores a new document; AlreadyExists when its id is taken."""
        create = partial(self._create, asked, row, Vectors())
        return await self._found.repeated(asked, row.collection_id, create)

    async def _create(
        self, asked: Asked, row: Document, vectors: Vectors, space: Space
    ) -> Document:
        row = named(space, row)
        check_new(self._supplies, space, row)
        if asked.validate_only:
            await self._refuse_taken(asked, space, row)
            return unchanged(asked.call, row)
        ((draft, cut),) = await cut_new(self._supplies, asked.call, space, [row], vectors)
        made = mutation(asked.call, asked.key, change("documents.create", space, draft))
        async with self._supplies.database.write_planned(asked.call.left) as conn:
            written = await document_changes.create(conn, made, space.collection, draft, cut)
        return await self._found.settled(asked, made, draft, written)

    async def update(self, asked: Asked, update: Update, checks: Checks) -> Document:
        """Stores the next revision; only text that is new to the document is embedded."""

        async def revise(space: Space, old: Document) -> Document:
            row = self._supplies.drafts.changed_document(checks, old, update.message, update.paths)
            checks.done()
            check_types(space, row)
            return row

        step = Step("documents.update", update.names, update.etag, revise, update.allow_missing)
        row = await self._advance(asked, step)
        return row or await self._create_missing(asked, update, checks)

    async def rollback(self, asked: Asked, names: Names, revision: int, etag: str) -> Document:
        """Stores a former revision's values as the next one; text it held has its vectors still."""

        async def revise(space: Space, old: Document) -> Document:
            where = space.collection.collection_uid, old.document_id
            async with self._supplies.database.read(asked.call.left) as conn:
                return _again(old, await revisions.get(conn, where, Moment(revision)))

        row = await self._advance(asked, Step("documents.rollback", names, etag, revise))
        if row is None:
            raise AssertionError("a missing document is not found")
        return row

    async def _advance(self, asked: Asked, step: Step) -> Document | None:
        """The next revision, stored; None if the document is missing, and that is allowed."""
        write = partial(self._next, asked, step, Vectors())
        return await self._found.repeated(asked, step.names[0], write)

    async def _next(
        self, asked: Asked, step: Step, vectors: Vectors, space: Space
    ) -> Document | None:
        call, allow = asked.call, step.allow_missing
        old = await self._found.live(call, space, step.names[1], allow_missing=allow)
        if old is None:
            return None
        check_etag(step.etag, old)
        row = replace(await step.revise(space, old), update_time=following(old))
        if asked.validate_only:
            return unchanged(call, row)
        (new,) = await recut(self._supplies, call, space, [(old, row)], vectors)
        made = mutation(call, asked.key, change(step.action, space, new.row, old))
        async with self._supplies.database.write(call.left) as conn:
            written = await document_changes.update(
                conn, made, space.collection, new.row, new.pieces, new.kept
            )
        stored = replace(new.row, revision=old.revision + 1)
        return await self._found.settled(asked, made, stored, written)

    async def _create_missing(self, asked: Asked, update: Update, checks: Checks) -> Document:
        if update.etag:
            raise Conflict("etag: the document is missing")
        now, drafts = datetime.now(UTC), self._supplies.drafts
        row = drafts.document(checks, update.message, update.names, now)
        checks.done()
        return await self.create(asked, row)

    async def _refuse_taken(self, asked: Asked, space: Space, row: Document) -> None:
        """As the statement would, which does not run for validate_only."""
        with suppress(NotFound):
            await self._found.read(asked.call, space, row.document_id, content=False)
            raise AlreadyExists("document_id: is taken")


def check_new(supplies: Supplies, space: Space, row: Document) -> None:
    """Raises for a new document that the collection cannot take."""
    check_types(space, row)
    if row.origin == SERVER:
        supplies.text.model_of(space)


def check_types(space: Space, row: Document) -> None:
    declared = space.collection.filter_fields
    if faults := type_faults(declared, DOCUMENT, row.metadata, "document"):
        raise Invalid(*faults)


def _again(old: Document, former: Document) -> Document:
    """The document with the values it had. Those of metadata that do not fit what the collection
    declares since count as missing, as in any document that was there before."""
    return replace(
        old,
        title=former.title,
        content=former.content,
        content_sha256=former.content_sha256,
        mime_type=former.mime_type,
        source_uri=former.source_uri,
        metadata=former.metadata,
        labels=former.labels,
        subject_ids=former.subject_ids,
    )
