"""The stream protocol by which many items come in, for whichever items: docs/streams.md.

A stream holds two batches in memory, whatever its caller sends: one that is settled, and one that
is read meanwhile. Then gRPC's flow control makes the caller wait.
"""

import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID, uuid4

from knowledge.v1 import intake_pb2 as pb
from knowledged.call import Call
from knowledged.checks import Checks
from knowledged.database import Connection
from knowledged.errors import Conflict, DomainError, Invalid, Violation, WrongState, status_of
from knowledged.services import pack
from knowledged.services.incoming import Incoming
from knowledged.services.intake_events import IntakeEvents
from knowledged.services.supplies import Supplies
from knowledged.store import audit_events, intake_sessions
from knowledged.store.intake_sessions import Outcome, Session, SessionKey, State

BATCH_ITEMS = 100

# As the audit log names what is done with an item.
_ACTIONS = {"ImportDocuments": "documents.import", "IngestChunks": "chunks.ingest"}


class Numbered(Protocol):
    """An item as its message has it."""

    @property
    def sequence(self) -> int: ...


Item = TypeVar("Item", bound=Numbered)
Settle = Callable[[Connection, Sequence[Outcome]], Awaitable[None]]
# Brings a batch of items in one or more transactions, and gives each its outcome, in order. Within
# each transaction it calls `settle` with the outcomes that become true by it.
Bring = Callable[[Sequence[Item], Settle], Awaitable[list[Outcome]]]


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


class Intake(Generic[Item]):
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
        self._settled = session.resume_after

    @classmethod
    async def open(
        cls,
        supplies: Supplies,
        call: Call,
        session_id: UUID,
        start: Any,
        collection_uid: UUID,
        batch_items: int = BATCH_ITEMS,
    ) -> "Intake[Item]":
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
        self, messages: AsyncGenerator[Any], acknowledged: int, bring: Bring[Item]
    ) -> AsyncGenerator[pb.IntakeAcks]:
        """First those that the caller of an earlier stream has not read, then the items'."""
        async with self._supplies.database.read(self._call.left) as conn:
            missed = await intake_sessions.outcomes(conn, self._session.session_uid, acknowledged)
        for n in range(0, len(missed), self._batch_items):
            yield _acks(missed[n : n + self._batch_items])
        async with aclosing(Incoming(messages, self._batch_items).batches()) as batches:
            async for batch in batches:
                yield _acks(await bring(self._items(batch), self._settle))

    async def finished(self) -> pb.IntakeFinished:
        async with self._supplies.database.read(self._call.left) as conn:
            counts = await intake_sessions.counts(conn, self._session.session_uid)
        return pb.IntakeFinished(
            last_sequence=self._settled,
            created_count=counts[State.CREATED],
            updated_count=counts[State.UPDATED],
            unchanged_count=counts[State.UNCHANGED],
            duplicate_count=counts[State.DUPLICATE],
            failed_count=counts[State.FAILED],
        )

    def _items(self, batch: Sequence[Any]) -> list[Any]:
        """The items, each with the sequence that follows; Invalid for any other message."""
        for expected, message in enumerate(batch, self._settled + 1):
            if message.WhichOneof("message") != "item":
                raise Invalid(Violation("item", "only items may follow the start"))
            if message.item.sequence != expected:
                raise Invalid(Violation("item.sequence", f"must be {expected}"))
        return [message.item for message in batch]

    async def _settle(self, conn: Connection, outcomes: Sequence[Outcome]) -> None:
        if not await intake_sessions.advance(conn, self._session, outcomes, self._credit):
            message = "another stream goes on with this session"
            raise Conflict(message, reason="CONCURRENT_CHANGE")
        if entries := self._events.entries(outcomes):
            await audit_events.append(conn, entries)
        self._settled = outcomes[-1].sequence


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


def _acks(outcomes: Sequence[Outcome]) -> pb.IntakeAcks:
    return pb.IntakeAcks(acks=[_ack(outcome) for outcome in outcomes])


def _ack(outcome: Outcome) -> pb.IntakeAck:
    failed = outcome.state is State.FAILED
    error = pb.IntakeError(code=outcome.code, reason=outcome.reason, message=outcome.message)
    return pb.IntakeAck(
        sequence=outcome.sequence,
        state=pb.IntakeState.ValueType(outcome.state),
        name=outcome.resource,
        revision=outcome.revision,
        receipt=pack.receipt(outcome.receipt),
        error=error if failed else None,
    )
