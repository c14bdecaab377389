"""How well an index finds: the same search as it is carried out, and by comparing with all."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import LiteralString
from uuid import UUID

import numpy as np
from asyncpg import Record

from knowledged.database import Connection
from knowledged.store import filtered, search
from knowledged.store.filter_sql import Condition
from knowledged.store.search import Plan, Query

EVERYTHING = Condition("true", [])
# How far towards another vector a question lies: measured in docs/decisions/0019.
ASIDE = 0.2


@dataclass(frozen=True, slots=True)
class Compared:
    """One query: the share of the truly nearest that was found, and seconds of both searches.

    `all_compared` says that the search needed no index.
    """

    recall: float
    seconds: float
    exact_seconds: float
    all_compared: bool


_INDEXED: LiteralString = """
    select s.space_uid, s.collection_uid, s.dimension, s.distance, s.ef, s.ef_reason,
           s.low_rounds, s.ample_rounds, s.recall,
           -- As seconds: replicas' clocks may differ from the database's.
           coalesce(extract(epoch from clock_timestamp() - s.recall_time), 'infinity')::float8
               as age_seconds
      from knowledge.vector_space s
      join knowledge.collection c on c.collection_uid = s.collection_uid
     where s.state = 3 and c.delete_time is null and c.active_space_uid = s.space_uid
"""
INDEXED: LiteralString = _INDEXED + " order by s.space_uid"
INDEXED_ONE: LiteralString = _INDEXED + " and s.space_uid = $1::uuid"


async def indexed(conn: Connection) -> list[Record]:
    """The spaces that are searched by an index, with what was measured last."""
    return await conn.fetch(INDEXED)


async def indexed_one(conn: Connection, space_uid: UUID) -> Record | None:
    """As `indexed`, the one; None if it is not searched by an index any more."""
    return await conn.fetchrow(INDEXED_ONE, space_uid)


TRY_LOCK: LiteralString = """
    select pg_try_advisory_xact_lock(hashtextextended('knowledge.recall ' || $1::uuid, 0))
"""


async def try_lock(conn: Connection, space_uid: UUID) -> bool:
    """Whether this transaction may measure the space: one at a time, in all replicas."""
    return bool(await conn.fetchval(TRY_LOCK, space_uid))


RECORD: LiteralString = """
    update knowledge.vector_space
       set recall = $2::float8, recall_queries = $3::int, recall_time = clock_timestamp(),
           ef = $4::int, ef_reason = $5::smallint,
           low_rounds = $6::smallint, ample_rounds = $7::smallint
     where space_uid = $1::uuid
"""


async def record(
    conn: Connection, space_uid: UUID, recall: tuple[float, int], ef: tuple[int, int, int, int]
) -> None:
    """What was measured, of how many queries; the ef, its reason, its low and its ample rounds."""
    await conn.execute(RECORD, space_uid, *recall, *ef)


@dataclass(frozen=True, slots=True)
class Truth:
    """A vector of a space, and the chunks that are truly nearest to it."""

    vector: bytes
    nearest: frozenset[UUID]


async def truths(
    conn: Connection, space: Record, vectors: Sequence[bytes], limit: int, seconds: float
) -> list[Truth]:
    """Of the vectors, by comparing with all; of fewer if they take longer than so long, but of a
    fifth of them."""
    until, found = time.perf_counter() + seconds, list[Truth]()
    for vector in vectors:
        found.append(Truth(vector, await _nearest(conn, space, vector, limit, None)))
        if len(found) >= len(vectors) // 5 and time.perf_counter() > until:
            break
    return found


async def share(
    conn: Connection, space: Record, given: Sequence[Truth], limit: int, ef: int
) -> float:
    """The mean recall of searches by the index; there must be a truth."""
    shares: list[float] = []
    for truth in given:
        found = await _nearest(conn, space, truth.vector, limit, max(ef, limit))
        shares.append(len(found & truth.nearest) / max(1, len(truth.nearest)))
    return fmean(shares)


async def _nearest(
    conn: Connection, space: Record, vector: bytes, limit: int, ef: int | None
) -> frozenset[UUID]:
    plan = Plan(space["dimension"], space["distance"], ef, joined=False)
    uids = space["collection_uid"], space["space_uid"]
    rows = await search.search(conn, plan, Query(*uids, vector, limit, False, EVERYTHING))
    return frozenset(row["chunk_uid"] for row in rows)


SAMPLE: LiteralString = """
    select v.embedding
      from (select chunk_uid from knowledge.chunk_vector
             where space_uid = $1::uuid
             order by random()
             limit $2::int) drawn
      join knowledge.chunk_vector v on v.space_uid = $1::uuid and v.chunk_uid = drawn.chunk_uid
"""


async def sample(conn: Connection, space_uid: UUID, size: int) -> list[bytes]:
    """Vectors of a space, drawn by chance."""
    return [row["embedding"] for row in await conn.fetch(SAMPLE, space_uid, size)]


def as_asked(drawn: Sequence[bytes]) -> list[bytes]:
    """Vectors drawn by chance, each moved a fifth of the way towards the next.

    A space's own vectors are easy: each is its own nearest. What people ask lies between them,
    where a walk through the graph ends early more often.
    """
    vectors = np.frombuffer(b"".join(drawn), "<f4").reshape(len(drawn), -1)
    moved = vectors + ASIDE * (np.roll(vectors, 1, axis=0) - vectors)
    return [vector.tobytes() for vector in moved.astype("<f4")]


async def compare(
    conn: Connection, plan: Plan, exact: Query, planned: Query | None, most_compared: int
) -> Compared:
    """`exact` asks all; `planned` is the same question for filtered.search, None without filter."""
    began = time.perf_counter()
    if planned is not None and not plan.exact:
        found = await filtered.search(conn, plan, planned, most_compared)
        rows, all_compared = found.hits, found.all_compared
    else:
        rows, all_compared = await search.search(conn, plan, exact), plan.exact
    between = time.perf_counter()
    truth = await search.search(conn, replace(plan, ef=None), exact)
    ended = time.perf_counter()
    there, wanted = ({row["chunk_uid"] for row in each} for each in (rows, truth))
    share = len(there & wanted) / len(wanted) if wanted else 1.0
    return Compared(share, between - began, ended - between, all_compared)
