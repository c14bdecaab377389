"""Filtered search by vector: one statement counts what passes, and plans by that.

It collects what passes, up to `MOST_COMPARED`. If that is all, every one of it is compared, which
is exact. If more passes, the HNSW index is asked, and goes on past what does not pass.
"""

from dataclasses import dataclass
from functools import cache

from asyncpg import Record

from knowledged.database import Connection
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

# To compare so many takes less than a millisecond (docs/performance.md), and counting them bounds
# what a filter that many pass costs before the index is asked.
MOST_COMPARED = 1_000

# Parameters $1 to $6 are those of every search, $7 is MOST_COMPARED; the filter's begin at $8.
FIRST_FILTER_PARAMETER = 8


@dataclass(frozen=True, slots=True)
class Filtered:
    """Hits, best first, how many pass the filter, counted to one more than `most_compared`, and
    whether all of them were compared."""

    hits: list[Record]
    passes: int
    all_compared: bool


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
    passing as materialized (
        select v.chunk_uid
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
        (select {found}
           from setting
          cross join counted
           join passing p on counted.few
           join knowledge.chunk_vector v on v.space_uid = $2::uuid and v.chunk_uid = p.chunk_uid
          order by distance, v.chunk_uid
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


async def search(
    conn: Connection, plan: Plan, query: Query, most_compared: int = MOST_COMPARED
) -> Filtered:
    """The nearest chunks that pass the condition, at most `limit`. By the index fewer may come back
    than there are. With `most_compared` 0 it is asked at once, if only one passes."""
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
