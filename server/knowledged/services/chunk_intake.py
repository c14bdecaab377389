"""How chunks of a stream come in: read and checked together, embedded where they bring no vector,
then one transaction writes them, an event for each document, and how far the session is."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from knowledge.v1 import vector_service_pb2 as pb
from knowledge.v1.document_pb2 import ORIGIN_CALLER
from knowledge.v1.document_pb2 import Document as DocumentMessage
from knowledged.call import Call
from knowledged.checks import Checks
from knowledged.database import Connection
from knowledged.errors import DomainError, Invalid, NotFound, WrongState
from knowledged.names import document_name
from knowledged.services.drafts import CALLER
from knowledged.services.given_chunks import GivenChunks, not_the_callers
from knowledged.services.intake import Settle, failed
from knowledged.services.recording import Change, mutation
from knowledged.services.supplies import Supplies
from knowledged.store import chunk_copies, chunk_intake, document_batches, document_changes
from knowledged.store.chunk_changes import GivenChunk, Owner
from knowledged.store.chunk_copies import Fill
from knowledged.store.chunk_intake import Locked, Part
from knowledged.store.collections import Space
from knowledged.store.document_steps import NotWritten
from knowledged.store.intake_sessions import Outcome, State
from knowledged.store.pieces import NewPieces
from knowledged.store.requests import Mutation, RequestKey

BATCH_ITEMS = 500
_ITEMS_AT_A_TIME = 25
_CHARACTERS_AT_ONCE = 16_384

# Whom an item's chunk goes to, by document id; or why it cannot.
Owners = dict[str, Owner | DomainError]


@dataclass(frozen=True, slots=True)
class Given:
    """An item that keeps the rules: where its chunk goes, its name there, and its row."""

    sequence: int
    document_id: str
    name: str
    row: GivenChunk


@dataclass(frozen=True, slots=True)
class Run:
    """Items of different chunks, which one transaction can write, as they were read for `space`."""

    space: Space
    items: Sequence[pb.IngestItem]
    read: Sequence[Given | Outcome]


@dataclass(frozen=True, slots=True)
class Step:
    """What is written of an item: CREATED or UPDATED."""

    given: Given
    owner: Owner
    state: State

    @property
    def only_adds(self) -> bool:
        return self.state is State.CREATED and self.given.row.embedding is not None


class ChunkIntake:
    """Brings the chunks of one stream into one collection, or into `document_id` of it."""

    def __init__(
        self, supplies: Supplies, call: Call, start: pb.IngestStart, names: tuple[str, str | None]
    ) -> None:
        self._supplies = supplies
        self._call = call
        self._start = start
        self._collection_id, self._document_id = names
        self._spare = asyncio.Event()
        self._spare.set()

    async def prepare(self, items: Sequence[pb.IngestItem]) -> list[Run]:
        """All items read and checked, embedded if they must be."""
        space = await self._supplies.directory.resolve(self._call, self._collection_id)
        return [await self._ready(space, run) for run in _runs(items)]

    async def bring(self, ready: Sequence[Run], settle: Settle) -> None:
        """Settles all in order. Raises what ends the stream; what was settled stays so."""
        for run in ready:
            await self._bring_run(run, settle)

    async def _bring_run(self, run: Run, settle: Settle) -> None:
        """In one transaction; read again if the collection is another one than it was then."""
        async for space in self._supplies.directory.attempts(self._call, self._collection_id):
            if space.collection != run.space.collection:
                run = await self._ready(space, run.items)
            self._spare.clear()
            try:
                return await self._written(run, settle)
            except NotWritten:
                continue
            finally:
                self._spare.set()
        raise AssertionError("attempts end by raising")

    async def _ready(self, space: Space, items: Sequence[pb.IngestItem]) -> Run:
        read = list[Given | Outcome]()
        for first in range(0, len(items), _ITEMS_AT_A_TIME):
            read += await self._some_read(space, items[first : first + _ITEMS_AT_A_TIME])
        return Run(space, items, await self._embedded(space, read))

    async def _some_read(
        self, space: Space, items: Sequence[pb.IngestItem]
    ) -> list[Given | Outcome]:
        """Long texts in a thread, as counting their tokens takes a while; of short ones so few
        that other calls need not wait. A thread would make this one wait, for the interpreter."""
        if sum(len(item.chunk.content) for item in items) > _CHARACTERS_AT_ONCE:
            return await asyncio.to_thread(self._read, space, items)
        await asyncio.sleep(0)
        await self._spare.wait()
        return self._read(space, items)

    @asynccontextmanager
    async def _storing(
        self, conn: Connection, fills: Sequence[Fill]
    ) -> AsyncGenerator[Awaitable[None]]:
        """The new chunks' way into the database, to be awaited; it ends before this does."""
        storing = asyncio.ensure_future(self._stored(conn, fills))
        try:
            yield storing
        finally:
            storing.cancel()
            await asyncio.wait([storing])

    async def _stored(self, conn: Connection, fills: Sequence[Fill]) -> None:
        """While PostgreSQL stores chunks, and between batches, the next one is read. Else it would
        hold up the short statements around, which PostgreSQL answers at once."""
        self._spare.set()
        await chunk_copies.copy(conn, fills)
        self._spare.clear()

    def _read(self, space: Space, items: Sequence[pb.IngestItem]) -> list[Given | Outcome]:
        """Every item checked, all vectors at once; faults fail their item."""
        chunks, checks = GivenChunks(self._supplies.text, space), [Checks() for _ in items]
        each = zip(checks, items, strict=True)
        rows = [chunks.row(own, "chunk", item.chunk) for own, item in each]
        for place, fault in chunks.vector_faults(rows).items():
            checks[place].fault("chunk.embedding", fault)
        collection_id = space.collection.collection_id
        return [self._item(collection_id, *each) for each in zip(checks, items, rows, strict=True)]

    def _item(
        self, collection_id: str, checks: Checks, item: pb.IngestItem, row: GivenChunk
    ) -> Given | Outcome:
        checks.id("chunk.chunk_id", item.chunk.chunk_id)
        if self._document_id is None:
            checks.id("document_id", item.document_id)
        elif item.document_id:
            checks.fault("document_id", "must be empty: the start names the document")
        if checks.violations:
            return failed(item.sequence, Invalid(*checks.violations))
        document_id: str = self._document_id or item.document_id
        name = f"{document_name(collection_id, document_id)}/chunks/{row.chunk_id}"
        return Given(item.sequence, document_id, name, row)

    async def _embedded(
        self, space: Space, read: Sequence[Given | Outcome]
    ) -> list[Given | Outcome]:
        """With vectors for those that bring none; these fail if their text cannot be embedded."""
        given = [each for each in read if isinstance(each, Given)]
        if all(each.row.embedding is not None for each in given):
            return list(read)
        chunks = GivenChunks(self._supplies.text, space)
        try:
            rows = iter(await chunks.embedded([each.row for each in given], self._call.left))
        except WrongState as error:
            return [
                failed(each.sequence, error)
                if isinstance(each, Given) and each.row.embedding is None
                else each
                for each in read
            ]
        return [replace(each, row=next(rows)) if isinstance(each, Given) else each for each in read]

    async def _written(self, run: Run, settle: Settle) -> None:
        """The outcomes are true with the transaction. Raises NotWritten if the collection
        changed."""
        space, given = run.space, [each for each in run.read if isinstance(each, Given)]
        async with self._supplies.database.transaction_planned(self._call.left) as conn:
            owners = await self._owners(conn, space, given)
            uid = space.collection.collection_uid
            there = await chunk_intake.held(conn, uid, _wanted(owners, given))
            decided = [
                self._decided(each, owners[each.document_id], there)
                if isinstance(each, Given)
                else each
                for each in run.read
            ]
            parts = self._parts(space, [each for each in decided if isinstance(each, Step)])
            fills = await chunk_intake.write(conn, list(parts.values()))
            async with self._storing(conn, fills) as storing:
                await settle(conn, [_outcome(each, parts) for each in decided], storing)
        if any(each.row.embedding is None for each in given):
            self._supplies.wake_text_workers()

    async def _owners(self, conn: Connection, space: Space, given: Sequence[Given]) -> Owners:
        """The documents, locked; those that are missing are made if that is asked for."""
        ids = sorted({each.document_id for each in given})
        locked = await chunk_intake.lock_documents(conn, space.collection, ids)
        if locked is None:
            raise NotWritten
        owners = {each: _owner(locked.get(each)) for each in ids}
        if self._start.create_missing_documents and self._start.mode != pb.WRITE_MODE_UPDATE_ONLY:
            missing = [each for each in ids if each not in locked]
            owners |= await self._created(conn, space, missing)
        return owners

    async def _created(self, conn: Connection, space: Space, ids: Sequence[str]) -> Owners:
        """Empty documents of the caller's."""
        collection, message = space.collection, DocumentMessage(origin=ORIGIN_CALLER)
        uid, space_uid = collection.collection_uid, collection.active_space_uid
        rows = [
            self._supplies.drafts.document(
                Checks(), message, (collection.collection_id, document_id), datetime.now(UTC)
            )
            for document_id in ids
        ]
        creations = [
            document_changes.creation(
                self._mutation(Change("documents.create", uid, (row.name,))),
                collection,
                row,
                NewPieces(),
            )
            for row in rows
        ]
        await document_batches.create(conn, creations)
        return {
            row.document_id: Owner(row.document_uid, uid, space_uid, CALLER, (), {}) for row in rows
        }

    def _decided(
        self, given: Given, owner: Owner | DomainError, there: set[chunk_intake.Key]
    ) -> Step | Outcome:
        if isinstance(owner, DomainError):
            return failed(given.sequence, owner)
        is_there = (owner.document_uid, given.row.chunk_id) in there
        if is_there and self._start.mode == pb.WRITE_MODE_INSERT_ONLY:
            return Outcome(given.sequence, State.DUPLICATE, given.name)
        if not is_there and self._start.mode == pb.WRITE_MODE_UPDATE_ONLY:
            return failed(given.sequence, NotFound("chunk: not found"))
        state = State.UPDATED if is_there else State.CREATED
        return Step(given, owner, state)

    def _parts(self, space: Space, steps: Sequence[Step]) -> dict[str, Part]:
        """What each document gets, by its id."""
        of_document: dict[str, list[Step]] = {}
        for step in steps:
            of_document.setdefault(step.given.document_id, []).append(step)
        return {key: self._part(space, of_document[key]) for key in sorted(of_document)}

    def _part(self, space: Space, steps: Sequence[Step]) -> Part:
        owner, chunks = steps[0].owner, GivenChunks(self._supplies.text, space)
        names = tuple([step.given.name for step in steps])
        change = Change("chunks.ingest", owner.collection_uid, names, owner.subject_ids)
        rows = chunks.of_document([step.given.row for step in steps], owner.metadata)
        made, only_new = self._mutation(change), all(step.only_adds for step in steps)
        return Part(made, owner, rows, made.receipt, only_new)

    def _mutation(self, change: Change) -> Mutation:
        call = self._call
        return mutation(
            call, RequestKey(call.principal.subject, call.method.path, None, b""), change
        )


def _runs(items: Sequence[pb.IngestItem]) -> Iterator[list[pb.IngestItem]]:
    """Parts in which no chunk comes twice."""
    run: list[pb.IngestItem] = []
    seen = set[tuple[str, str]]()
    for item in items:
        key = item.document_id, item.chunk.chunk_id
        if key in seen:
            yield run
            run, seen = [], set[tuple[str, str]]()
        seen.add(key)
        run.append(item)
    if run:
        yield run


def _owner(locked: Locked | None) -> Owner | DomainError:
    """Whom chunks can go to, or why not."""
    if locked is None:
        return NotFound("document: not found")
    if locked.deleted:
        return WrongState("the document is deleted")
    return locked.owner if locked.owner.origin == CALLER else not_the_callers()


def _wanted(owners: Owners, given: Sequence[Given]) -> list[chunk_intake.Key]:
    return [
        (owner.document_uid, each.row.chunk_id)
        for each in given
        if isinstance(owner := owners[each.document_id], Owner)
    ]


def _outcome(decided: Step | Outcome, parts: dict[str, Part]) -> Outcome:
    if isinstance(decided, Outcome):
        return decided
    given, receipt = decided.given, parts[decided.given.document_id].receipt
    return Outcome(given.sequence, decided.state, given.name, receipt=receipt)
