"""How common words are in a collection: counted by the space keeper, read by searches for words.

It needs the maintenance role, which owns the tables.
"""

from typing import LiteralString
from uuid import UUID

from knowledged.database import Connection

# Of larger collections a sample is counted: 20,000 chunks take about a second.
_SAMPLE = 20_000
_LONGEST_SECONDS = 600

# Counted anew when the collection has grown or shrunk by half, and once a day.
DUE: LiteralString = """
    select coalesce(
               (select $2::bigint not between chunks / 1.5 and chunks * 1.5
                       or count_time < now() - interval '1 day'
                  from knowledge.lexeme_count
                 where collection_uid = $1::uuid),
               true)
"""

COUNT: LiteralString = """
    -- ts_stat takes the text of a query; the uid and the number cannot break it.
    with counted as materialized (
        select word, ndoc
          from ts_stat(format(
               'select lexemes from knowledge.chunk where collection_uid = %L and random() < %s',
               $1::uuid, least(1, $3::float8 / $2::bigint)))
    ),
    sample as materialized (
        select least($2::float8, $3::float8) as chunks
    ),
    -- What is rarer weighs as much as a word of half that share.
    bound as materialized (
        select greatest(5 / chunks, 0.0005) as share from sample
    ),
    common as materialized (
        select word, least(1, ndoc / chunks) as share
          from counted
         cross join sample
         where ndoc / chunks >= (select share from bound)
         order by ndoc desc, word
         limit 20000
    ),
    gone as (
        delete from knowledge.lexeme_share
         where collection_uid = $1::uuid and lexeme not in (select word from common)
    ),
    listed as (
        insert into knowledge.lexeme_share (collection_uid, lexeme, share)
        select $1::uuid, word, share from common
        on conflict on constraint lexeme_share_pk do update set share = excluded.share
    )
    insert into knowledge.lexeme_count (collection_uid, chunks, unlisted_share, count_time)
    select $1::uuid, $2::bigint, least(0.5, share / 2), now() from bound
    on conflict on constraint lexeme_count_pk
        do update set chunks = excluded.chunks, unlisted_share = excluded.unlisted_share,
                      count_time = excluded.count_time
"""

FORGET: LiteralString = """
    with forgotten as (
        delete from knowledge.lexeme_share where collection_uid = $1::uuid
    )
    delete from knowledge.lexeme_count where collection_uid = $1::uuid
"""


async def count_if_due(conn: Connection, collection_uid: UUID, chunks: int) -> bool:
    """Counts how common words are among the collection's about `chunks` chunks; whether it did."""
    due = chunks > 0 and await conn.fetchval(DUE, collection_uid, chunks)
    if due:
        counting = collection_uid, chunks, _SAMPLE
        await conn.execute(COUNT, *counting, timeout=_LONGEST_SECONDS)
    return bool(due)


async def forget(conn: Connection, collection_uid: UUID) -> None:
    """Of a deleted collection."""
    await conn.execute(FORGET, collection_uid)
