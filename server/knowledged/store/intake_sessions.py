"""Sessions of the stream protocol: how far each has come, and its last outcomes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import LiteralString
from uuid import UUID

from asyncpg import Record
from uuid_utils.compat import uuid7

from knowledged.call import Receipt
from knowledged.database import Connection


class State(IntEnum):
    """How an item ended; numbers are those of the proto and the column."""

    CREATED = 1
    UPDATED = 2
    UNCHANGED = 3
    DUPLICATE = 4
    FAILED = 5


# How many items ended how.
Totals = dict[State, int]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an item; of a FAILED one why, as the status of a call."""

    sequence: int
    state: State
    resource: str = ""
    revision: int = 0
    receipt: Receipt | None = None
    code: int = 0
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class SessionKey:
    """What a session is known by: who streams to which method, and the caller's UUID."""

    principal: str
    rpc: str
    session_id: UUID


@dataclass(frozen=True, slots=True)
class Session:
    """A session as this stream found it; items up to `resume_after` are settled."""

    session_uid: UUID
    stream_number: int
    resume_after: int

    @property
    def is_new(self) -> bool:
        """No stream came before this one."""
        return self.stream_number == 1


OPEN: LiteralString = """
    -- A stream of the same session that still writes is waited for, and then writes no more.
    insert into knowledge.intake_session as known
           (session_uid, principal, rpc, session_id, collection_uid, arguments_hash, expire_time)
    values ($1::uuid, $2::text, $3::text, $4::uuid, $5::uuid, $6::bytea,
            now() + interval '24 hours')
        on conflict (principal, rpc, session_id) do update
       set stream_number = known.stream_number + 1, expire_time = excluded.expire_time
     where known.collection_uid = excluded.collection_uid
       and known.arguments_hash = excluded.arguments_hash
    returning session_uid, stream_number, resume_after
"""


async def open_session(
    conn: Connection, key: SessionKey, collection_uid: UUID, arguments_hash: bytes
) -> Session | None:
    """The session, new or gone on with; None if its id stands for other arguments."""
    row = await conn.fetchrow(
        OPEN, uuid7(), key.principal, key.rpc, key.session_id, collection_uid, arguments_hash
    )
    return Session(**row) if row else None


OUTCOMES: LiteralString = """
    select sequence, state, resource, revision, event_id, leaf_hash, code, reason, message
      from knowledge.intake_outcome
     where session_uid = $1::uuid and sequence > $2::bigint
     order by sequence
"""


async def outcomes(conn: Connection, session_uid: UUID, after: int) -> list[Outcome]:
    """Those of the items after a sequence, in order, that an earlier release has kept."""
    return [_outcome(row) for row in await conn.fetch(OUTCOMES, session_uid, after)]


def _outcome(row: Record) -> Outcome:
    event_id, leaf_hash = row["event_id"], row["leaf_hash"]
    return Outcome(
        sequence=row["sequence"],
        state=State(row["state"]),
        resource=row["resource"],
        revision=row["revision"],
        receipt=Receipt(str(event_id), leaf_hash) if event_id else None,
        code=row["code"],
        reason=row["reason"],
        message=row["message"],
    )


ACKS: LiteralString = """
    select acks
      from knowledge.intake_acks
     where session_uid = $1::uuid and last_sequence > $2::bigint
     order by last_sequence
"""


async def acks(conn: Connection, session_uid: UUID, after: int) -> list[bytes]:
    """Those that are kept, as they were sent, of batches that end after a sequence, in order."""
    return [row["acks"] for row in await conn.fetch(ACKS, session_uid, after)]


ADVANCE: LiteralString = """
    with session as (
        update knowledge.intake_session
           set resume_after = $3::bigint,
               created_count = created_count + ($5::int[])[1],
               updated_count = updated_count + ($5::int[])[2],
               unchanged_count = unchanged_count + ($5::int[])[3],
               duplicate_count = duplicate_count + ($5::int[])[4],
               failed_count = failed_count + ($5::int[])[5],
               expire_time = now() + interval '24 hours'
         where session_uid = $1::uuid and stream_number = $2::int
        returning session_uid,
                  array[created_count, updated_count, unchanged_count, duplicate_count,
                        failed_count] as counts
    ),
    acks as (
        insert into knowledge.intake_acks (session_uid, last_sequence, acks)
        select session.session_uid, $3::bigint, $6::bytea
          from session
    ),
    -- Its caller has read these: it was told to have no more than so many under way.
    known as (
        delete from knowledge.intake_acks a
         using session
         where a.session_uid = session.session_uid and a.last_sequence <= $3::bigint - $4::bigint
    )
    select counts from session
"""


async def advance(
    conn: Connection, session: Session, settled: Sequence[Outcome], acks: bytes, kept: int
) -> Totals | None:
    """Adds outcomes, at least one, with their acks, and keeps those of the last `kept`; how many
    items of the session ended how by then, None if another stream has taken over. Runs in the
    transaction that writes the items."""
    counts = Counter([outcome.state for outcome in settled])
    found = await conn.fetchval(
        ADVANCE,
        session.session_uid,
        session.stream_number,
        settled[-1].sequence,
        kept,
        [counts[state] for state in State],
        acks,
    )
    return _totals(found) if found else None


COUNTS: LiteralString = """
    select array[created_count, updated_count, unchanged_count, duplicate_count, failed_count]
      from knowledge.intake_session
     where session_uid = $1::uuid
"""


async def counts(conn: Connection, session_uid: UUID) -> Totals:
    """How many items of the session ended how."""
    return _totals(await conn.fetchval(COUNTS, session_uid) or [0] * len(State))


def _totals(found: Sequence[int]) -> Totals:
    return dict(zip(State, found, strict=True))


FORGET: LiteralString = """
    delete from knowledge.intake_session
     where session_uid in (
               select session_uid
                 from knowledge.intake_session
                where expire_time < now()
                limit $1::int)
"""


async def forget(conn: Connection, at_most: int) -> int:
    """Removes expired sessions, at most so many; how many."""
    done = await conn.execute(FORGET, at_most)
    return int(done.rpartition(" ")[2])
