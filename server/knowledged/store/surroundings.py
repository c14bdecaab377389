"""What a search shows beside its hits: their neighbours, and where the words asked for stand."""

from collections.abc import Sequence
from typing import LiteralString
from uuid import UUID

from asyncpg import Record

from knowledged.database import Connection

NEIGHBOURS: LiteralString = """
    select h.chunk_uid as hit_uid, side.before, k.chunk_uid, k.chunk_id, k.content,
           side.ordinal, side.start_offset, side.end_offset
      from unnest($1::uuid[]) as h (chunk_uid)
     -- A text that stands in a document twice is one chunk: found at its first place.
     cross join lateral (
           select document_uid, ordinal, chunk_uid
             from knowledge.chunk_span
            where chunk_uid = h.chunk_uid and to_revision is null
            order by ordinal
            limit 1) here
     cross join lateral (
           (select true as before, s.chunk_uid, s.ordinal, s.start_offset, s.end_offset
              from knowledge.chunk_span s
             where s.document_uid = here.document_uid and s.to_revision is null
               and (s.ordinal, s.chunk_uid) < (here.ordinal, here.chunk_uid)
             order by s.ordinal desc, s.chunk_uid desc
             limit $3::int)
           union all
           (select false as before, s.chunk_uid, s.ordinal, s.start_offset, s.end_offset
              from knowledge.chunk_span s
             where s.document_uid = here.document_uid and s.to_revision is null
               and (s.ordinal, s.chunk_uid) > (here.ordinal, here.chunk_uid)
             order by s.ordinal, s.chunk_uid
             limit $4::int)) side
      join knowledge.chunk k on k.chunk_uid = side.chunk_uid
     where k.collection_uid = any ($2::uuid[])
     order by side.ordinal, k.chunk_uid
"""


async def neighbours(
    conn: Connection, collections: Sequence[UUID], chunks: Sequence[UUID], before: int, after: int
) -> list[Record]:
    """Chunks before and after each of the given ones, in their documents' order."""
    return await conn.fetch(NEIGHBOURS, chunks, collections, before, after)


# Where a word begins and ends: two characters of the private use area. A text that has them itself
# gets no highlights.
BEGIN, END = "\ue000", "\ue001"

MARKED: LiteralString = """
    with asked as (
        select string_agg(part.query::text, ' | ')::tsquery as query
          from (select plainto_tsquery($4::text::regconfig, u.lexeme) as query
                  from unnest(to_tsvector('simple', $3::text)) u
                 union all
                select phraseto_tsquery($4::text::regconfig, p) from unnest($5::text[]) p) part
         where numnode(part.query) > 0
    )
    select k.chunk_uid,
           ts_headline($4::text::regconfig, k.content, asked.query,
                       'HighlightAll=true, StartSel=' || chr(57344) || ', StopSel=' || chr(57345))
               as content
      from knowledge.chunk k
     cross join asked
     where k.chunk_uid = any ($1::uuid[])
       and k.collection_uid = any ($2::uuid[])
       -- Null where the text has no words.
       and asked.query is not null
"""


async def marked(
    conn: Connection, chunks: tuple[Sequence[UUID], Sequence[UUID]], text: str, words: Sequence[str]
) -> dict[UUID, str]:
    """The content of chunks with BEGIN and END around the words of a text.

    `chunks` are their uids and those of their collections; `words` the language, then the phrases.
    """
    language, *phrases = words
    rows = await conn.fetch(MARKED, *chunks, text, language, phrases)
    return {row["chunk_uid"]: row["content"] for row in rows}
