"""How documents of a stream come in: what is there decides what becomes of each, their texts are
embedded, then one transaction writes them, their events and how far the session is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from knowledge.v1 import knowledge_service_pb2 as pb
from knowledged.call import Call
from knowledged.checks import Checks
from knowledged.database import Connection
from knowledged.declared_fields import DOCUMENT, type_faults
from knowledged.errors import AlreadyExists, DomainError, Invalid, WrongState
from knowledged.names import new_id
from knowledged.services.drafts import SERVER
from knowledged.services.found_documents import following
from knowledged.services.intake import Settle, failed
from knowledged.services.recording import Change, mutation
from knowledged.services.recutting import Recut, cut_new, recut
from knowledged.services.supplies import Supplies
from knowledged.store import (
    document_batches,
    document_changes,
    document_imports,
    document_steps,
)
from knowledged.store.collections import Space
from knowledged.store.document_imports import Held
from knowledged.store.document_steps import NotWritten
from knowledged.store.documents import Document
from knowledged.store.intake_sessions import Outcome, State
from knowledged.store.requests import Mutation, RequestKey
from knowledged.text import PENDING, Vectors


@dataclass(frozen=True, slots=True)
class Draft:
    """An item in order: its row, and whether a document with the same text makes it a duplicate."""

    item: pb.ImportItem
    row: Document
    unique: bool


@dataclass(frozen=True, slots=True)
class Step:
    """What is written of an item: a new document, or the next revision of `old`."""

    sequence: int
    row: Document
    old: Document | None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A step with all that its statement takes."""

    step: Step
    made: Recut
    mutation: Mutation

    @property
    def row(self) -> Document:
        return self.made.row

    @property
    def outcome(self) -> Outcome:
        old, receipt = self.step.old, self.mutation.receipt
        state, revision = (State.UPDATED, old.revision + 1) if old else (State.CREATED, 1)
        return Outcome(self.step.sequence, state, self.row.name, revision, receipt)


class DocumentIntake:
    """Brings the documents of one stream into one collection."""

    def __init__(
        self, supplies: Supplies, call: Call, start: pb.ImportStart, collection_id: str
    ) -> None:
        self._supplies = supplies
        self._call = call
        self._start = start
        self._collection_id = collection_id

    async def prepare(self, items: Sequence[pb.ImportItem]) -> list[list[Draft | Outcome]]:
        """Rows, in parts that a transaction can write."""
        return list(_runs([self._draft(item) for item in items]))

    async def bring(self, ready: list[list[Draft | Outcome]], settle: Settle) -> None:
        """Settles all in order. Raises what ends the stream; what was settled stays so."""
        for run in ready:
            await self._bring_run(run, settle)

    def _draft(self, item: pb.ImportItem) -> Draft | Outcome:
        checks, document_id = Checks(), item.document_id or new_id()
        checks.id("document_id", document_id)
        names = self._collection_id, document_id
        row = self._supplies.drafts.document(checks, item.document, names, datetime.now(UTC))
        if checks.violations:
            return failed(item.sequence, Invalid(*checks.violations))
        unique = self._start.unique_content or not item.document_id
        return Draft(item, row, unique and bool(row.content))

    async def _bring_run(self, run: Sequence[Draft | Outcome], settle: Settle) -> None:
        """Items of different ids and texts, in one transaction."""
        vectors = Vectors()
        async for space in self._supplies.directory.attempts(self._call, self._collection_id):
            decided = await self._decided(space, run)
            steps = [each for each in decided if isinstance(each, Step)]
            prepared = await self._prepared(space, steps, vectors)
            outcomes = [each for each in decided if isinstance(each, Outcome)]
            outcomes += [each.outcome for each in prepared]
            outcomes.sort(key=lambda outcome: outcome.sequence)
            if await self._written(space, prepared, outcomes, settle):
                return
        raise AssertionError("attempts end by raising")

    async def _decided(self, space: Space, run: Sequence[Draft | Outcome]) -> list[Step | Outcome]:
        drafts = [each for each in run if isinstance(each, Draft)]
        asked = document_imports.Asked(
            ids=[draft.row.document_id for draft in drafts],
            id_hashes=[draft.row.content_sha256 for draft in drafts],
            unique_hashes=[draft.row.content_sha256 for draft in drafts if draft.unique],
        )
        uid, changes = space.collection.collection_uid, self._start.if_exists == pb.IF_EXISTS_UPDATE
        async with self._supplies.database.read(self._call.left) as conn:
            held = await document_imports.held(conn, uid, asked, contents=changes)
        return [self._step(space, each, held) if isinstance(each, Draft) else each for each in run]

    def _step(self, space: Space, draft: Draft, held: Held) -> Step | Outcome:
        try:
            old = held.by_id.get(draft.row.document_id)
            if old is None:
                return self._creation(space, draft, held)
            return self._change(space, draft, old)
        except DomainError as error:
            return failed(draft.item.sequence, error)

    def _creation(self, space: Space, draft: Draft, held: Held) -> Step | Outcome:
        row, sequence = draft.row, draft.item.sequence
        if draft.unique and (same := held.by_content.get(row.content_sha256)):
            name = replace(row, document_id=same[0]).name
            return Outcome(sequence, State.DUPLICATE, name, same[1])
        self._check(space, row)
        return Step(sequence, row, None)

    def _change(self, space: Space, draft: Draft, old: Document) -> Step | Outcome:
        sequence, origin = draft.item.sequence, draft.item.document.origin
        if old.delete_time is not None:
            raise AlreadyExists("document_id: is taken by a deleted document")
        if self._start.if_exists != pb.IF_EXISTS_UPDATE:
            return Outcome(sequence, State.DUPLICATE, old.name, old.revision)
        if origin not in (0, old.origin):
            raise WrongState("origin: is fixed at creation")
        row = _with_values_of(draft.row, old)
        if _values(row) == _values(old):
            return Outcome(sequence, State.UNCHANGED, old.name, old.revision)
        self._check(space, row)
        return Step(sequence, row, old)

    def _check(self, space: Space, row: Document) -> None:
        """Raises for a document that the collection cannot take."""
        declared = space.collection.filter_fields
        if faults := type_faults(declared, DOCUMENT, row.metadata, "document"):
            raise Invalid(*faults)
        if row.origin == SERVER:
            self._supplies.text.model_of(space)

    async def _prepared(
        self, space: Space, steps: Sequence[Step], vectors: Vectors
    ) -> list[Prepared]:
        """All texts cut, and what is new of them embedded."""
        new = [step for step in steps if step.old is None]
        changed = [(step, step.old) for step in steps if step.old is not None]
        call, rows = self._call, [step.row for step in new]
        made = await cut_new(self._supplies, call, space, rows, vectors)
        recuts = [(old, step.row) for step, old in changed]
        again = await recut(self._supplies, call, space, recuts, vectors)
        return [
            *(
                self._recorded(space, step, Recut(row, cut, None))
                for step, (row, cut) in zip(new, made, strict=True)
            ),
            *(
                self._recorded(space, step, each)
                for (step, _), each in zip(changed, again, strict=True)
            ),
        ]

    def _recorded(self, space: Space, step: Step, made: Recut) -> Prepared:
        """With its audit event; about whom: also those the document named before."""
        call, old, row = self._call, step.old, made.row
        subjects = dict.fromkeys([*row.subject_ids, *(old.subject_ids if old else ())])
        action = "documents.update" if old else "documents.create"
        uid = space.collection.collection_uid
        key = RequestKey(call.principal.subject, call.method.path, None, b"")
        change = Change(action, uid, (row.name,), tuple(subjects))
        return Prepared(step, made, mutation(call, key, change))

    async def _written(
        self,
        space: Space,
        prepared: Sequence[Prepared],
        outcomes: Sequence[Outcome],
        settle: Settle,
    ) -> bool:
        """False, and nothing written, if what was decided is not true any more."""
        try:
            async with self._supplies.database.transaction(self._call.left) as conn:
                # In one order everywhere: streams that bring the same ids do not deadlock.
                by_id = sorted(prepared, key=lambda each: each.row.document_id)
                known = [each for each in by_id if each.step.old]
                await document_steps.lock(conn, [each.row.document_uid for each in known])
                await _create(conn, space, [each for each in by_id if not each.step.old])
                await _update(conn, space, known)
                await settle(conn, outcomes)
        except NotWritten:
            return False
        if any(each.row.state == PENDING for each in prepared):
            self._supplies.wake_text_workers()
        return True


def _runs(drafts: Sequence[Draft | Outcome]) -> Iterator[list[Draft | Outcome]]:
    """Parts in which no id comes twice, and no text that must be there once."""
    run: list[Draft | Outcome] = []
    ids, hashes = set[str](), set[bytes]()
    for draft in drafts:
        if isinstance(draft, Draft):
            row = draft.row
            if row.document_id in ids or (draft.unique and row.content_sha256 in hashes):
                yield run
                run, ids, hashes = [], set[str](), set[bytes]()
            ids.add(row.document_id)
            hashes.add(row.content_sha256)
        run.append(draft)
    if run:
        yield run


def _values(row: Document) -> tuple[object, ...]:
    """What a caller sets."""
    return (
        row.title,
        row.content_sha256,
        row.mime_type,
        row.source_uri,
        row.metadata,
        row.labels,
        row.subject_ids,
    )


def _with_values_of(given: Document, old: Document) -> Document:
    return replace(
        old,
        title=given.title,
        content=given.content,
        content_sha256=given.content_sha256,
        mime_type=given.mime_type,
        source_uri=given.source_uri,
        metadata=given.metadata,
        labels=given.labels,
        subject_ids=given.subject_ids,
        update_time=following(old),
    )


async def _create(conn: Connection, space: Space, new: Sequence[Prepared]) -> None:
    creations = [
        document_changes.creation(each.mutation, space.collection, each.row, each.made.pieces)
        for each in new
    ]
    await document_batches.create(conn, creations)


async def _update(conn: Connection, space: Space, known: Sequence[Prepared]) -> None:
    revisions = [
        document_changes.next_revision(
            each.mutation, space.collection, each.row, each.made.pieces, each.made.kept
        )
        for each in known
    ]
    await document_batches.update(conn, revisions)
