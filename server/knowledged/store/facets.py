"""Counts of chunks, and of the values that stand in their metadata."""

from collections.abc import Sequence
from typing import LiteralString
from uuid import UUID

from asyncpg import Record

from knowledged.database import Connection
from knowledged.store.filter_sql import Condition

# The filter's parameters begin here.
FIRST_FILTER_PARAMETER = 5

_PASSING: LiteralString = """
    with passing as materialized (
        select v.chunk_uid, v.document_uid,
               jsonb_build_object('metadata', d.metadata, 'chunk_metadata', k.metadata,
                                  'labels', d.labels) as fields
          from knowledge.chunk_vector v
          join knowledge.chunk k on k.chunk_uid = v.chunk_uid
          join knowledge.document d on d.document_uid = v.document_uid
         where v.space_uid = $1::uuid
           and d.collection_uid = $2::uuid
           and d.delete_time is null
           and """

_COUNTED: LiteralString = """
    ),
    -- A list stands for each of its elements, once; null and an empty list for no value.
    valued as (
        select distinct p.chunk_uid, f.place, nullif(e.value, 'null'::jsonb) as value
          from passing p
         cross join unnest($3::text[]) with ordinality as f (path, place)
         cross join lateral (
               select p.fields #> string_to_array(f.path, '.') as value) here
          left join lateral jsonb_array_elements(
               case when jsonb_typeof(here.value) = 'array' then here.value
                    else jsonb_build_array(here.value) end) as e (value) on true
    ),
    counted as (
        select place, value, count(*) as chunks,
               row_number() over (
                   partition by place, value is null order by count(*) desc, value) as rank,
               count(value) over (partition by place) as different
          from valued
         group by place, value
    )
    select 0 as place, null::jsonb as value, count(*) as chunks,
           count(distinct document_uid) as different
      from passing
     union all
    (select place::int, value, chunks, different
       from counted
      where rank <= $4::int
      order by place, rank)
"""


async def count(
    conn: Connection,
    uids: tuple[UUID, UUID],
    condition: Condition,
    paths: Sequence[str],
    most_values: int,
) -> list[Record]:
    """`uids` are those of the vector space and of its collection.

    First the row of place 0: chunks, and in `different` their documents. Then for each path, by its
    place from 1, its values, the most frequent first; one without value counts the chunks that have
    none.
    """
    statement = _PASSING + condition.sql + _COUNTED
    return await conn.fetch(statement, *uids, paths, most_values, *condition.parameters)
