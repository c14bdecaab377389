"""The stream protocol by which many items come in, for whichever items: docs/streams.md.

A stream holds four batches in memory, whatever its caller sends: one whose acks leave, one that is
settled, one that is prepared meanwhile, and one that is read. Then gRPC's flow control makes the
caller wait.
"""

import asyncio
import hashlib
import zlib
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing
from typing import Any, Protocol, TypeVar
from uuid import UUID, uuid4

from knowledge.v1 import intake_pb2 as pb
from knowledged.call import Call
from knowledged.checks import Checks
from knowledged.database import Connection
from knowledged.errors import Conflict, DomainError, Invalid, Violation, WrongState, status_of
from knowledged.services.incoming import Incoming, one_ahead
from knowledged.services.intake_events import IntakeEvents
from knowledged.services.supplies import Supplies
from knowledged.store import audit_events, intake_sessions
from knowledged.store.intake_sessions import Outcome, Session, SessionKey, State, Totals

BATCH_ITEMS = 100
_ACKS_AT_A_TIME = 50

# As the audit log names what is done with an item.
_ACTIONS = {"ImportDocuments": "documents.import", "IngestChunks": "chunks.ingest"}


class Numbered(Protocol):
    """An item as its message has it."""

    @property
    def sequence(self) -> int: ...


Item_contra = TypeVar("Item_contra", bound=Numbered, contravariant=True)
Ready = TypeVar("Ready")


class Settle(Protocol):
    """Keeps outcomes with their session, in the transaction that writes the items; what `storing`
    still does there, by the same connection, is waited for."""

    async def __call__(
        self,
        conn: Connection,
        outcomes: Sequence[Outcome],
        storing: Awaitable[None] | None = None,
    ) -> None: ...


class Bringer(Protocol[Item_contra, Ready]):
    """How items of one kind come in."""

    async def prepare(self, items: Sequence[Item_contra]) -> Ready:
        """What can be done to a batch before those before it are written."""
        ...

    async def bring(self, ready: Ready, settle: Settle) -> None:
        """Writes a batch in one or more transactions. Within each it calls `settle` with the
        outcomes, in order, that become true by it. Raises what ends the stream."""
        ...


async def started_by(messages: AsyncGenerator[Any]) -> Any:
    """The start, which must come first."""
    first = await anext(messages, None)
    if first is None or first.WhichOneof("message") != "start":
        raise Invalid(Violation("start", "must be the first message of the stream"))
    return first.start


def session_id_of(checks: Checks, start: Any) -> UUID:
    """The session's id, or a new one; faults go to the checks."""
    session: pb.IntakeSession = start.session
    checks.number("start.session.acknowledged", session.acknowledged, 0, 2**62)
    try:
        return UUID(session.session_id) if session.session_id else uuid4()
    except ValueError:
        rule = f"must be a UUID; has {len(session.session_id)} characters"
        checks.fault("start.session.session_id", rule)
        return uuid4()


class Intake:
    """One stream of a session. Made by `open`, before anything is answered.

    At most `batch_items` are settled together; four times as many may be under way.
    """

    def __init__(
        self,
        supplies: Supplies,
        call: Call,
        key: SessionKey,
        session: Session,
        batch_items: int,
        events: IntakeEvents,
    ) -> None:
        self._supplies = supplies
        self._call = call
        self._key = key
        self._session = session
        self._events = events
        self._batch_items = batch_items
        self._credit = 4 * batch_items
        self._settled = self._read = session.resume_after
        self._totals: Totals | None = None
        # Of what is settled and not told yet, by the batches' last sequences.
        self._told: dict[int, pb.IntakeAcks] = {}

    @classmethod
    async def open(
        cls,
        supplies: Supplies,
        call: Call,
        session_id: UUID,
        start: Any,
        collection_uid: UUID,
        batch_items: int = BATCH_ITEMS,
    ) -> "Intake":
        """Goes on with the session, or begins it. Raises Invalid when it had another start,
        WrongState when its caller has read more than the server knows."""
        key = SessionKey(call.principal.subject, call.method.path, session_id)
        digest = _arguments_hash(start)
        async with supplies.database.write(call.left) as conn:
            session = await intake_sessions.open_session(conn, key, collection_uid, digest)
        if session is None:
            raise Invalid(Violation("start", "the session was begun with another one"))
        if start.session.acknowledged > session.resume_after:
            raise WrongState("the session is not known any more; begin a new one")
        events = IntakeEvents(call, _ACTIONS[call.method.name], start.parent, collection_uid)
        return cls(supplies, call, key, session, batch_items, events)

    def started(self) -> pb.IntakeStarted:
        return pb.IntakeStarted(
            session_id=str(self._key.session_id),
            resume_after=self._session.resume_after,
            credit=self._credit,
        )

    async def acks(
        self, messages: AsyncGenerator[Any], acknowledged: int, items: Bringer[Any, Any]
    ) -> AsyncGenerator[pb.IntakeAcks]:
        """First those that the caller of an earlier stream has not read, then the items'."""
        for missed in await self._missed(acknowledged):
            yield missed
        # While the acks of one batch are on their way out, the next is settled already.
        async with aclosing(one_ahead(self._brought(messages, items))) as brought:
            async for told in brought:
                for acks in told:
                    yield acks

    async def _missed(self, acknowledged: int) -> list[pb.IntakeAcks]:
        if self._session.is_new:
            return []
        async with self._supplies.database.read(self._call.left) as conn:
            uid = self._session.session_uid
            former = await intake_sessions.outcomes(conn, uid, acknowledged)
            kept = await intake_sessions.acks(conn, uid, acknowledged)
        found = [_ack(outcome) for outcome in former]
        found += [ack for each in kept for ack in _read_acks(each)]
        wanted = [ack for ack in found if ack.sequence > acknowledged]
        most = self._batch_items
        return [pb.IntakeAcks(acks=wanted[n : n + most]) for n in range(0, len(wanted), most)]

    async def _brought(
        self, messages: AsyncGenerator[Any], items: Bringer[Any, Any]
    ) -> AsyncGenerator[Sequence[pb.IntakeAcks]]:
        """The acks of each batch, once it is settled."""
        async with aclosing(one_ahead(self._prepared(messages, items))) as batches:
            async for ready in batches:
                await items.bring(ready, self._settle)
                told, self._told = self._told, {}
                yield list(told.values())

    async def _prepared(
        self, messages: AsyncGenerator[Any], items: Bringer[Any, Any]
    ) -> AsyncGenerator[Any]:
        incoming = Incoming(messages, self._items, self._batch_items)
        async with aclosing(incoming.batches()) as batches:
            async for batch in batches:
                yield await items.prepare(batch)

    async def finished(self) -> pb.IntakeFinished:
        counts = self._totals or await self._former_totals()
        return pb.IntakeFinished(
            last_sequence=self._settled,
            created_count=counts[State.CREATED],
            updated_count=counts[State.UPDATED],
            unchanged_count=counts[State.UNCHANGED],
            duplicate_count=counts[State.DUPLICATE],
            failed_count=counts[State.FAILED],
        )

    async def _former_totals(self) -> Totals:
        """Of a stream that brought nothing."""
        async with self._supplies.database.read(self._call.left) as conn:
            return await intake_sessions.counts(conn, self._session.session_uid)

    def _items(self, message: Any) -> Sequence[Any]:
        """The items of a message, each with the sequence that follows; Invalid for any other."""
        kind = message.WhichOneof("message")
        if kind not in ("item", "items"):
            raise Invalid(Violation("item", "only items may follow the start"))
        items = [message.item] if kind == "item" else message.items.items
        if not 1 <= len(items) <= self._batch_items:
            rule = f"{len(items)} items; 1 to {self._batch_items} are allowed"
            raise Invalid(Violation("items.items", rule))
        for expected, item in enumerate(items, self._read + 1):
            if item.sequence != expected:
                raise Invalid(Violation(f"{kind}.sequence", f"must be {expected}"))
        self._read += len(items)
        return items

    async def _settle(
        self,
        conn: Connection,
        outcomes: Sequence[Outcome],
        storing: Awaitable[None] | None = None,
    ) -> None:
        acks, last = await _acks(outcomes), outcomes[-1].sequence
        # Names and receipts repeat: a tenth of the bytes to store, and to delete again.
        kept = zlib.compress(acks.SerializeToString(), 1)
        if storing:
            await storing
        totals = await intake_sessions.advance(conn, self._session, outcomes, kept, self._credit)
        if totals is None:
            message = "another stream goes on with this session"
            raise Conflict(message, reason="CONCURRENT_CHANGE")
        if entries := self._events.entries(outcomes):
            await audit_events.append(conn, entries)
        self._settled, self._totals, self._told[last] = last, totals, acks


def _arguments_hash(start: Any) -> bytes:
    """Over all that the start says, but for which session it is."""
    arguments = type(start)()
    arguments.CopyFrom(start)
    arguments.ClearField("session")
    return hashlib.sha256(arguments.SerializeToString(deterministic=True)).digest()


def failed(sequence: int, error: DomainError) -> Outcome:
    """An item that failed as a call with it alone would have."""
    status = status_of(error)
    return Outcome(
        sequence,
        State.FAILED,
        code=status.code,
        reason=status.reason,
        message=status.message,
    )


def _read_acks(kept: bytes) -> Sequence[pb.IntakeAck]:
    return pb.IntakeAcks.FromString(zlib.decompress(kept)).acks


async def _acks(outcomes: Sequence[Outcome]) -> pb.IntakeAcks:
    acks = pb.IntakeAcks()
    for first in range(0, len(outcomes), _ACKS_AT_A_TIME):
        for outcome in outcomes[first : first + _ACKS_AT_A_TIME]:
            _fill_ack(acks.acks.add(), outcome)
        await asyncio.sleep(0)
    return acks


def _ack(outcome: Outcome) -> pb.IntakeAck:
    ack = pb.IntakeAck()
    _fill_ack(ack, outcome)
    return ack


def _fill_ack(ack: pb.IntakeAck, outcome: Outcome) -> None:
    """Filled in where it stands, as there are many: putting messages together copies each."""
    ack.sequence = outcome.sequence
    ack.state = pb.IntakeState.ValueType(outcome.state)
    ack.name = outcome.resource
    ack.revision = outcome.revision
    if outcome.receipt is not None:
        ack.receipt.event_id = outcome.receipt.event_id
        ack.receipt.leaf_hash = outcome.receipt.leaf_hash
    if outcome.state is State.FAILED:
        ack.error.code = outcome.code
        ack.error.reason, ack.error.message = outcome.reason, outcome.message
