"""The audit log's tree in the database: what waits, leaves, tiles, state and checkpoints.

Statements are for the sequencer and the publisher; both hold `try_lock` for their transaction.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from knowledged.database import Connection

Tile = tuple[int, int]

TRY_LOCK: LiteralString = """
    select pg_try_advisory_xact_lock(hashtextextended('knowledge.audit_ledger', 0))
"""

# Whoever is stopped inside the transaction loses it, and the lock with it.
LIMIT: LiteralString = """
    select set_config('idle_in_transaction_session_timeout', $1::text, true),
           set_config('statement_timeout', $1::text, true)
"""

# Since PostgreSQL 17.
LIMIT_WHOLE: LiteralString = """
    select set_config('transaction_timeout', $1::text, true)
     where current_setting('server_version_num')::int >= 170000
"""


async def try_lock(conn: Connection, limit_seconds: float) -> bool:
    """Whether this transaction may change the tree: one at a time, in all replicas.

    It is ended by the database when it stands still, or lasts, longer than `limit_seconds`.
    """
    milliseconds = str(round(limit_seconds * 1000))
    await conn.fetchrow(LIMIT, milliseconds)
    await conn.fetchrow(LIMIT_WHOLE, milliseconds)
    return bool(await conn.fetchval(TRY_LOCK))


@dataclass(frozen=True, slots=True)
class State:
    """How far the tree has grown and is signed; `compact_range` as merkle.CompactRange has it."""

    tree_size: int
    compact_range: bytes
    signed_size: int
    origin: str


STATE: LiteralString = """
    select tree_size, compact_range, signed_size, origin
      from knowledge.audit_state
     where one
"""

STATE_FOR_UPDATE: LiteralString = """
    select tree_size, compact_range, signed_size, origin
      from knowledge.audit_state
     where one
       for update
"""


async def state(conn: Connection) -> State | None:
    """The state; None when its row is gone, which nothing of ours does."""
    row = await conn.fetchrow(STATE)
    return State(*row) if row else None


async def lock_state(conn: Connection) -> State | None:
    """As `state`, and nobody else changes it until the transaction ends."""
    row = await conn.fetchrow(STATE_FOR_UPDATE)
    return State(*row) if row else None


# By presence: an id tells nothing of who commits first, so none is remembered.
TAKE: LiteralString = """
    with taken as (
        delete from knowledge.audit_pending
         where event_id in (select event_id
                              from knowledge.audit_pending
                             order by seq
                             limit $1::int)
        returning event_id, seq
    )
    select t.event_id, e.leaf
      from taken t
      -- `offset 0` keeps it a look-up by key: joined, the planner would read all events.
      left join lateral (
               select leaf
                 from knowledge.audit_event
                where event_id = t.event_id
               offset 0) e on true
     order by t.seq
"""


async def take(conn: Connection, at_most: int) -> list[tuple[UUID, bytes | None]]:
    """The events that wait longest and their leaves, in order; they wait no more.

    The leaf is None when the event itself is gone.
    """
    return [(row["event_id"], row["leaf"]) for row in await conn.fetch(TAKE, at_most)]


PUT_BACK: LiteralString = """
    insert into knowledge.audit_pending (event_id)
    select event_id from unnest($1::uuid[]) as t (event_id)
"""


async def put_back(conn: Connection, event_ids: Sequence[UUID]) -> None:
    """Lets these wait again, at the end."""
    await conn.execute(PUT_BACK, event_ids)


async def add_leaves(
    conn: Connection, first_index: int, leaves: Sequence[tuple[UUID, bytes]]
) -> None:
    """Event ids and leaf hashes, at the indices from `first_index` on."""
    await conn.copy_records_to_table(
        "audit_leaf",
        schema_name="knowledge",
        columns=("log_index", "event_id", "leaf_hash"),
        records=((index, *leaf) for index, leaf in enumerate(leaves, first_index)),
    )


TILES: LiteralString = """
    select t.level, t.n, t.hashes
      from knowledge.audit_tile t
      join unnest($1::smallint[], $2::bigint[]) as wanted (level, n)
        on wanted.level = t.level and wanted.n = t.n
"""


async def tiles(conn: Connection, wanted: Iterable[Tile]) -> dict[Tile, bytes]:
    """Those of the tiles that are there."""
    keys = sorted(wanted)
    levels, numbers = [level for level, _ in keys], [n for _, n in keys]
    rows = await conn.fetch(TILES, levels, numbers)
    return {(row["level"], row["n"]): row["hashes"] for row in rows}


PUT_TILES: LiteralString = """
    insert into knowledge.audit_tile (level, n, hashes)
    select level, n, hashes
      from unnest($1::smallint[], $2::bigint[], $3::bytea[]) as t (level, n, hashes)
        on conflict (level, n) do update
       set hashes = excluded.hashes
"""


async def put_tiles(conn: Connection, changed: Mapping[Tile, bytes]) -> None:
    """New tiles, and those that grew."""
    levels, numbers = [level for level, _ in changed], [n for _, n in changed]
    await conn.execute(PUT_TILES, levels, numbers, list(changed.values()))


GROW: LiteralString = """
    update knowledge.audit_state
       set tree_size = $1::bigint, compact_range = $2::bytea
     where one
"""


async def grow(conn: Connection, tree_size: int, compact_range: bytes) -> None:
    await conn.execute(GROW, tree_size, compact_range)


NAME: LiteralString = """
    update knowledge.audit_state
       set origin = $1::text
     where one
"""


async def name(conn: Connection, origin: str) -> None:
    """The log is called so from its next checkpoint on."""
    await conn.execute(NAME, origin)


@dataclass(frozen=True, slots=True)
class KeptCheckpoint:
    """A signed note, and the columns beside it."""

    tree_size: int
    root: bytes
    note: str
    create_time: datetime


KEEP: LiteralString = """
    with signed as (
        update knowledge.audit_state
           set signed_size = $1::bigint
         where one
    )
    insert into knowledge.audit_checkpoint (tree_size, root, note, create_time)
    values ($1::bigint, $2::bytea, $3::text, $4::timestamptz)
"""


async def keep(conn: Connection, made: KeptCheckpoint) -> None:
    """Stores a checkpoint; the tree is signed up to its size."""
    await conn.execute(KEEP, made.tree_size, made.root, made.note, made.create_time)


LATEST: LiteralString = """
    select tree_size, root, note, create_time
      from knowledge.audit_checkpoint
     order by tree_size desc
     limit 1
"""


async def latest_checkpoint(conn: Connection) -> KeptCheckpoint | None:
    row = await conn.fetchrow(LATEST)
    return KeptCheckpoint(*row) if row else None


CHECKPOINT: LiteralString = """
    select tree_size, root, note, create_time
      from knowledge.audit_checkpoint
     where tree_size = $1::bigint
"""


async def checkpoint(conn: Connection, tree_size: int) -> KeptCheckpoint | None:
    row = await conn.fetchrow(CHECKPOINT, tree_size)
    return KeptCheckpoint(*row) if row else None


CHECKPOINTS: LiteralString = """
    select tree_size, root, note, create_time
      from knowledge.audit_checkpoint
     where tree_size > $1::bigint
     order by tree_size
     limit $2::int
"""


async def checkpoints(conn: Connection, after: int, at_most: int) -> list[KeptCheckpoint]:
    """Those of more than `after` leaves, the smallest first."""
    return [KeptCheckpoint(*row) for row in await conn.fetch(CHECKPOINTS, after, at_most)]


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many events wait (counted up to a limit), and the one that waits longest."""

    waiting: int
    oldest: UUID | None


BACKLOG: LiteralString = """
    select (select count(*) from (select from knowledge.audit_pending limit $1::int) counted),
           (select event_id from knowledge.audit_pending order by seq limit 1)
"""


async def backlog(conn: Connection, count_to: int) -> Backlog:
    row = await conn.fetchrow(BACKLOG, count_to)
    return Backlog(*row) if row else Backlog(0, None)


LEAF_AT: LiteralString = """
    select leaf_hash
      from knowledge.audit_leaf
     where log_index = $1::bigint
"""


async def leaf_at(conn: Connection, log_index: int) -> bytes:
    """The leaf hash there; empty when it is gone, which nothing of ours does."""
    found: bytes | None = await conn.fetchval(LEAF_AT, log_index)
    return found or b""
