"""Counts of documents, all together and by the values of a field."""

import json
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

from knowledged.database import Connection
from knowledged.store.filter_sql import Condition

# An estimate looks at about so many documents; of fewer it counts exactly.
SAMPLE = 10_000


FIRST_FILTER_PARAMETER = 3


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which documents count; the condition's parameters begin at FIRST_FILTER_PARAMETER."""

    collection_uid: UUID
    show_deleted: bool
    condition: Condition

    def parameters(self) -> tuple[object, ...]:
        return self.collection_uid, self.show_deleted, *self.condition.parameters

    @property
    def next_parameter(self) -> int:
        return FIRST_FILTER_PARAMETER + len(self.condition.parameters)


@dataclass(frozen=True, slots=True)
class Counts:
    """Values with how many documents have each, the most frequent first."""

    values: list[tuple[object, int]]
    distinct: int
    missing: int


COUNT: LiteralString = """
    select count(*)
      from knowledge.document d
      join knowledge.collection c on c.collection_uid = d.collection_uid
     where d.collection_uid = $1::uuid
       and c.delete_time is null
       and ($2::bool or d.delete_time is null)
"""


async def count(conn: Connection, chosen: Chosen) -> int:
    return await conn.fetchval(f"{COUNT} and ({chosen.condition.sql})", *chosen.parameters())


async def estimate(conn: Connection, chosen: Chosen) -> int:
    """How many the planner expects; it is as good as the last ANALYZE."""
    rows = _ROWS.replace("{condition}", chosen.condition.sql)
    plan = json.loads(await conn.fetchval(rows, *chosen.parameters()))
    return int(plan[0]["Plan"]["Plan Rows"])


_ROWS: LiteralString = """
    explain (format json)
    select
      from knowledge.document d
     where d.collection_uid = $1::uuid
       and ($2::bool or d.delete_time is null)
       and ({condition})
"""

_FACET: LiteralString = """
    with chosen as materialized (
        select d.document_uid, {value} as value
          from knowledge.document d {sample}
          join knowledge.collection c on c.collection_uid = d.collection_uid
         where d.collection_uid = $1::uuid
           and c.delete_time is null
           and ($2::bool or d.delete_time is null)
           and ({condition})
    ),
    -- What the filter `path:value` would find in each document, once.
    element as (
        select distinct chosen.document_uid, e.value
          from chosen
         cross join lateral (
               select chosen.value
                where jsonb_typeof(chosen.value) in ('string', 'number', 'boolean')
                union all
               select a.value
                 from jsonb_array_elements(
                      case when jsonb_typeof(chosen.value) = 'array' then chosen.value end) a
                where jsonb_typeof(a.value) in ('string', 'number', 'boolean')
                union all
               select to_jsonb(o.key)
                 from jsonb_each(
                      case when jsonb_typeof(chosen.value) = 'object' then chosen.value end) o
                where jsonb_typeof(o.value) <> 'null') e
         where octet_length(e.value::text) <= 2050
    ),
    counted as (
        select value, count(*) as documents from element group by value
    ),
    most as (
        select value, documents from counted order by documents desc, value limit {limit}::int
    )
    select array(select value from most order by documents desc, value) as values,
           array(select documents from most order by documents desc, value) as documents,
           (select count(*) from counted) as distinct_count,
           (select count(*) from chosen)
           - (select count(distinct document_uid) from element) as missing_count
"""
_SAMPLE: LiteralString = "tablesample system ({per_cent}::float4) repeatable (0)"


async def facet(
    conn: Connection, chosen: Chosen, value: Condition, limit: int, per_cent: float = 100
) -> Counts:
    """The counts by `value`, whose parameters begin at `chosen.next_parameter`.

    Under 100 `per_cent` they are those of a sample of pages, scaled up to the whole.
    """
    parameters = [*chosen.parameters(), *value.parameters, limit]
    sampled = per_cent < 100
    statement = _facet(chosen, value, len(parameters), _SAMPLE if sampled else "")
    row = await conn.fetchrow(statement, *parameters, *([per_cent] if sampled else []))
    assert row is not None  # noqa: S101 - it has no from clause
    times = 100 / per_cent
    return Counts(
        [
            (value, round(documents * times))
            for value, documents in zip(row["values"], row["documents"], strict=True)
        ],
        row["distinct_count"],
        round(row["missing_count"] * times),
    )


def _facet(chosen: Chosen, value: Condition, limit: int, sample: LiteralString) -> str:
    return (
        _FACET.replace("{sample}", sample)
        .replace("{limit}", f"${limit}")
        .replace("{per_cent}", f"${limit + 1}")
        .replace("{value}", value.sql)
        .replace("{condition}", chosen.condition.sql)
    )
