"""How batches of documents are written: as single ones are, but all or none.

Texts are cut and embedded before the transaction begins. It locks the documents, and each
statement demands to find what was read; else nothing is written, and the batch begins again.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from knowledged.checks import Checks
from knowledged.errors import AlreadyExists, Conflict, NotFound, WrongState
from knowledged.services.batch_items import AskedBatch, each
from knowledged.services.batch_reading import BatchReader, Item
from knowledged.services.document_removal import deleted
from knowledged.services.document_writing import Update, check_new, check_types
from knowledged.services.found_documents import (
    FoundDocuments,
    change,
    check_etag,
    following,
    named,
)
from knowledged.services.recording import mutation
from knowledged.services.recutting import cut_new, recut
from knowledged.services.repeating import repeated
from knowledged.services.supplies import Supplies
from knowledged.store import document_batches, document_changes, document_removals, document_steps
from knowledged.store.collections import Space
from knowledged.store.document_batches import Parameters
from knowledged.store.documents import Document
from knowledged.store.requests import Mutation
from knowledged.text import PENDING, Vectors


@dataclass(frozen=True, slots=True)
class Step:
    """An item on its way: the document as it is, None for a new one, and as it will be."""

    old: Document | None
    row: Document


@dataclass(frozen=True, slots=True)
class Write:
    """An item's statement: its event, its parameters, and the document once it has run."""

    made: Mutation
    parameters: Parameters
    stored: Document


@dataclass(frozen=True, slots=True)
class Deletion:
    """Which document to delete, by its id, and under what conditions."""

    document_id: str
    etag: str
    allow_missing: bool


class BatchWriter:
    """Writes batches. A repeat of a batch gets the answers that the first had."""

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies
        self._found = FoundDocuments(supplies)
        self._reader = BatchReader(supplies)

    async def create(self, asked: AskedBatch, rows: Sequence[Document]) -> list[Item]:
        """Stores new documents; AlreadyExists when one of the ids is taken."""
        vectors = Vectors()

        async def attempt(space: Space) -> list[Item]:
            new = [named(space, row) for row in rows]
            taken = await self._reader.read(asked.call, space, [row.document_id for row in new])
            steps = each(partial(self._new, space, taken), new)
            return await self._stored(asked, space, steps, vectors)

        return await self._repeated(asked, attempt)

    async def update(self, asked: AskedBatch, updates: Sequence[Update]) -> list[Item]:
        """Stores next revisions, and new documents where they are missing and that is allowed."""
        vectors, ids = Vectors(), [update.names[1] for update in updates]
        whole = [u.names[1] for u in updates if u.paths & {"content", "mime_type"}]

        async def attempt(space: Space) -> list[Item]:
            olds = await self._reader.read(asked.call, space, ids, whole)
            steps = each(partial(self._revised, space, olds), updates)
            return await self._stored(asked, space, steps, vectors)

        return await self._repeated(asked, attempt)

    async def delete(self, asked: AskedBatch, deletions: Sequence[Deletion]) -> list[Item]:
        """Deletes softly; an item that is missing, where that is allowed, has no answer."""
        call, ids = asked.call, [deletion.document_id for deletion in deletions]

        async def attempt(space: Space) -> list[Item]:
            olds = await self._reader.read(call, space, ids)
            found = each(partial(_deletable, olds), deletions)
            self._reader.refuse_large([row for row in found if row])
            if asked.validate_only or not any(found):
                call.unaudited = True
                return [(row, None) for row in found]
            return await self._deleted(asked, space, found)

        return await self._repeated(asked, attempt)

    async def _repeated(
        self, asked: AskedBatch, attempt: Callable[[Space], Awaitable[list[Item]]]
    ) -> list[Item]:
        answered = partial(self._reader.answered, asked)
        call, collection_id = asked.call, asked.collection_id
        return await repeated(self._supplies, call, collection_id, answered, attempt)

    def _new(self, space: Space, taken: dict[str, Document], row: Document) -> Step:
        check_new(self._supplies, space, row)
        if row.document_id in taken:
            raise AlreadyExists("document_id: is taken")
        return Step(None, row)

    def _revised(self, space: Space, olds: dict[str, Document], update: Update) -> Step:
        checks, drafts, old = Checks(), self._supplies.drafts, olds.get(update.names[1])
        if old is None:
            if not update.allow_missing:
                raise NotFound("document: not found")
            if update.etag:
                raise Conflict("etag: the document is missing")
            row = drafts.document(checks, update.message, update.names, datetime.now(UTC))
            checks.done()
            return self._new(space, olds, named(space, row))
        if old.delete_time is not None:
            raise WrongState("the document is deleted")
        check_etag(update.etag, old)
        row = drafts.changed_document(checks, old, update.message, update.paths)
        checks.done()
        check_types(space, row)
        return Step(old, replace(row, update_time=following(old)))

    async def _stored(
        self, asked: AskedBatch, space: Space, steps: Sequence[Step], vectors: Vectors
    ) -> list[Item]:
        """The answers, once all is written; NotWritten if something changed meanwhile."""
        self._reader.refuse_large([step.row for step in steps])
        if asked.validate_only:
            asked.call.unaudited = True
            return [(step.row, None) for step in steps]
        new, changed = await self._writes(asked, space, steps, vectors)

        # Created in the order of ids, so that batches of the same ones do not deadlock.
        by_id = sorted(new.values(), key=lambda w: w.stored.document_id)
        async with self._supplies.database.transaction(asked.call.left) as conn:
            await document_steps.lock(conn, [w.stored.document_uid for w in changed.values()])
            await document_batches.create(conn, [w.parameters for w in by_id])
            await document_batches.update(conn, [w.parameters for w in changed.values()])
        every = new | changed
        return await self._settled(asked, [every[place] for place in range(len(steps))])

    async def _writes(
        self, asked: AskedBatch, space: Space, steps: Sequence[Step], vectors: Vectors
    ) -> tuple[dict[int, Write], dict[int, Write]]:
        """The new documents' statements and the changed ones', by the items' places."""
        fresh = [(i, step.row) for i, step in enumerate(steps) if step.old is None]
        known = [(i, step.old, step.row) for i, step in enumerate(steps) if step.old]
        supplies, call, collection = self._supplies, asked.call, space.collection
        cut = await cut_new(supplies, call, space, [row for _, row in fresh], vectors)
        again = await recut(supplies, call, space, [pair[1:] for pair in known], vectors)
        new: dict[int, Write] = {}
        for (place, _), (row, pieces) in zip(fresh, cut, strict=True):
            made = mutation(call, asked.keys[place], change("documents.create", space, row))
            parameters = document_changes.creation(made, collection, row, pieces)
            new[place] = Write(made, parameters, row)
        changed: dict[int, Write] = {}
        for (place, old, _), next_one in zip(known, again, strict=True):
            about = change("documents.update", space, next_one.row, old)
            made = mutation(call, asked.keys[place], about)
            values = next_one.row, next_one.pieces, next_one.kept
            parameters = document_changes.next_revision(made, collection, *values)
            changed[place] = Write(made, parameters, _next(next_one.row))
        return new, changed

    async def _deleted(
        self, asked: AskedBatch, space: Space, found: Sequence[Document | None]
    ) -> list[Item]:
        writes: dict[int, Write] = {}
        for place, old in enumerate(found):
            if old is not None:
                row, about = deleted(space, old), change("documents.delete", space, old)
                made = mutation(asked.call, asked.keys[place], about)
                parameters = document_removals.deletion(made, space.collection, row)
                writes[place] = Write(made, parameters, _next(row))

        async with self._supplies.database.transaction(asked.call.left) as conn:
            await document_steps.lock(conn, [w.stored.document_uid for w in writes.values()])
            await document_batches.delete(conn, [w.parameters for w in writes.values()])
        items = iter(await self._settled(asked, list(writes.values())))
        return [next(items) if row else (None, None) for row in found]

    async def _settled(self, asked: AskedBatch, writes: Sequence[Write]) -> list[Item]:
        rows: list[Document] = [write.stored for write in writes]
        asked.call.receipt = writes[0].made.receipt
        if any(row.state == PENDING for row in rows):
            self._supplies.wake_text_workers()
            if asked.wait:
                rows = await self._found.searchable(asked.call, rows)
        return [(row, w.made.receipt) for row, w in zip(rows, writes, strict=True)]


def _next(row: Document) -> Document:
    return replace(row, revision=row.revision + 1)


def _deletable(olds: dict[str, Document], deletion: Deletion) -> Document | None:
    """The document to delete; None if there is none, and that is allowed."""
    old = olds.get(deletion.document_id)
    if old is None or old.delete_time is not None:
        if deletion.allow_missing:
            return None
        raise NotFound("document: not found" if old is None else "document: is deleted already")
    check_etag(deletion.etag, old)
    return old
