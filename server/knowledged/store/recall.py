"""How well an index finds: the same search as it is carried out, and by comparing with all."""

import time
from dataclasses import dataclass, replace
from statistics import fmean
from typing import LiteralString
from uuid import UUID

from asyncpg import Record

from knowledged.database import Connection
from knowledged.store import filtered, search
from knowledged.store.filter_sql import Condition
from knowledged.store.search import Plan, Query

EVERYTHING = Condition("true", [])


@dataclass(frozen=True, slots=True)
class Compared:
    """One query: the share of the truly nearest that was found, and seconds of both searches.

    `all_compared` says that the search needed no index.
    """

    recall: float
    seconds: float
    exact_seconds: float
    all_compared: bool


INDEXED: LiteralString = """
    select s.space_uid, s.collection_uid, s.dimension, s.distance, s.ef
      from knowledge.vector_space s
      join knowledge.collection c on c.collection_uid = s.collection_uid
     where s.state = 3 and c.delete_time is null and c.active_space_uid = s.space_uid
     order by s.space_uid
"""


async def indexed(conn: Connection) -> list[Record]:
    """The spaces that are searched by an index."""
    return await conn.fetch(INDEXED)


async def of_space(conn: Connection, space: Record, size: int, limit: int) -> float | None:
    """The mean recall of a sample of a space's own vectors; None where it has none."""
    plan = Plan(space["dimension"], space["distance"], max(space["ef"], limit), joined=False)
    uids = space["collection_uid"], space["space_uid"]
    shares = [
        (await compare(conn, plan, Query(*uids, vector, limit, False, EVERYTHING), None)).recall
        for vector in await sample(conn, space["space_uid"], size)
    ]
    return fmean(shares) if shares else None


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


async def compare(conn: Connection, plan: Plan, exact: Query, planned: Query | None) -> Compared:
    """`exact` asks all; `planned` is the same question for filtered.search, None without filter."""
    began = time.perf_counter()
    if planned is not None and not plan.exact:
        found = await filtered.search(conn, plan, planned)
        rows, all_compared = found.hits, found.all_compared
    else:
        rows, all_compared = await search.search(conn, plan, exact), plan.exact
    between = time.perf_counter()
    truth = await search.search(conn, replace(plan, ef=None), exact)
    ended = time.perf_counter()
    there, wanted = ({row["chunk_uid"] for row in each} for each in (rows, truth))
    share = len(there & wanted) / len(wanted) if wanted else 1.0
    return Compared(share, between - began, ended - between, all_compared)
