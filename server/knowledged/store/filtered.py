"""Filtered search by vector: one statement counts what passes, and plans by that.

It compares what passes, up to `most_compared`. If that is all, it has the nearest of all, which is
exact. If more passes, the HNSW index is asked, and goes on past what does not pass.
"""

from dataclasses import dataclass, replace
from functools import cache
from math import isqrt

from asyncpg import Record

from knowledged.database import Connection
from knowledged.store.filter_sql import Condition
from knowledged.store.search import (
    FROM_JOINED,
    FROM_VECTORS,
    MAX_EF,
    METRICS,
    PARTS,
    SETTING,
    Plan,
    Query,
)
from knowledged.store.search import search as by_vector

# To compare so few is as fast as any search by the index; to compare so many takes too long.
_LEAST_COMPARED, _MOST_COMPARED = 1_000, 20_000
# Measured: docs/decisions/0023.
_WORTH = 2

# Parameters $1 to $6 are those of every search, $7 is `most_compared`; the filter's begin at $8.
FIRST_FILTER_PARAMETER = 8


@dataclass(frozen=True, slots=True)
class Filtered:
    """Hits, best first, how many pass the filter, counted to one more than `most_compared`, and
    whether all of them were compared."""

    hits: list[Record]
    passes: int
    all_compared: bool


def most_compared(limit: int, rows: int) -> int:
    """How many may pass of a space of so many rows for comparing them all to be the faster way.

    That takes as long as there are such; the index must look at `limit * rows / passing` of its
    candidates until enough of them pass. The two meet at a multiple of `sqrt(limit * rows)`.
    """
    meeting = _WORTH * isqrt(limit * rows)
    return min(max(meeting, _LEAST_COMPARED), _MOST_COMPARED)


@cache
def render(dimension: int, distance: int, joined: bool) -> tuple[str, str, str]:
    """The SQL of a filtered search: its filter's condition stands between each two parts."""
    metric = METRICS[distance]
    half = f"(v.embedding::halfvec({dimension})) {metric.operator} $1::vector::halfvec({dimension})"
    rows = FROM_JOINED if joined else FROM_VECTORS
    found = f"""v.chunk_uid, v.document_uid,
                      case when $4::bool then v.embedding end as embedding,
                      v.embedding {metric.operator} $1::vector as distance"""
    start = f"""
    with {SETTING}
    -- Each is compared here: to look it up again would take longer, also where that was in vain.
    passing as materialized (
        select {found}
          from {rows}
         where v.space_uid = $2::uuid
           and """  # noqa: S608 - parts are constants, the dimension is an int
    middle = f"""
         limit $7::int + 1
    ),
    counted as materialized (
        select count(*)::int as passes, count(*) <= $7::int as few from passing
    ),
    -- Of the two below one runs: the other's condition is false before its first row is read. That
    -- many pass is known by now, better than the planner could guess: `case` keeps its guess out,
    -- which for undeclared fields is so low that it would compare all.
    hit as materialized (
        (select p.*
           from setting
          cross join counted
           join passing p on counted.few
          order by p.distance, p.chunk_uid
          limit $3::int)
        union all
        select found.*
          from setting
         cross join counted
         cross join lateral (
               select {found}
                 from {rows}
                where not counted.few
                  and v.space_uid = $2::uuid
                  and case when not counted.few then """  # noqa: S608
    end = f""" end
                order by {half}
                limit $3::int) found
    )
    select ({metric.score})::float4 as score, (select passes from counted) as passes, {PARTS}
     order by hit.distance, hit.chunk_uid
"""  # noqa: S608
    return start, middle, end


async def search(conn: Connection, plan: Plan, query: Query, most_compared: int) -> Filtered:
    """The nearest chunks that pass the condition, at most `limit`. By the index fewer may come back
    than there are."""
    statement = query.condition.sql.join(render(plan.dimension, plan.distance, plan.joined))
    rows = await conn.fetch(
        statement,
        query.vector,
        query.space_uid,
        query.limit,
        query.include_embedding,
        plan.ef or MAX_EF,
        query.collection_uid,
        most_compared,
        *query.condition.parameters,
    )
    passes = rows[0]["passes"] if rows else 0
    return Filtered(rows, passes, passes <= most_compared)


async def search_index(conn: Connection, plan: Plan, query: Query) -> list[Record]:
    """The same by the index at once, for a condition that many are known to pass: to plan both ways
    took up to a fifth of such a search."""
    # As above, a `case` that only a row decides keeps the planner's guess out; $7 is not needed.
    sql = f"case when setting.alive and $7::int = 0 then {query.condition.sql} end"
    hidden = Condition(sql, [0, *query.condition.parameters])
    return await by_vector(conn, plan, replace(query, condition=hidden))
