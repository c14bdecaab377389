"""Search by words, and by words and vectors at once. One statement finds the candidates of both
and judges each of them by both, so that no score is missing where only one leg found a chunk.

The formula is that of HybridQuery in the proto. The weighted sum, the coverage of the query's words
by rarity and the numbers in it were found by experiment: docs/decisions/0016-hybrid-search.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import LiteralString
from uuid import UUID

from asyncpg import Record

from knowledged.database import Connection
from knowledged.store.search import (
    FROM_JOINED,
    FROM_VECTORS,
    MAX_EF,
    METRICS,
    PARTS,
    SETTING,
    SPACES_KEPT,
    Plan,
    Query,
)

# Enough for hybrid's first ten to be those of judging every chunk, on all sets that were tried.
_NEAREST = 50
_HOLDING = 100
# By words alone nothing else brings candidates.
_HOLDING_ALONE = 1_000


@dataclass(frozen=True, slots=True)
class Words:
    """What is asked in words: the text, what of it must stand as it is, and the weights.

    `language` is the collection's. With `vector_weight` 0 no vector is compared.
    """

    text: str
    phrases: Sequence[str]
    language: str
    vector_weight: float
    text_weight: float

    @property
    def alone(self) -> bool:
        return self.vector_weight == 0


# Parameters $1 to $6 are those of every search; $7 text, $8 language, $9 phrases, $10 weight of the
# vector, $11 of the text, $12 candidates by vector, $13 by words; the filter's begin at $14.
FIRST_FILTER_PARAMETER = 14

_WORDS: LiteralString = r"""
    -- The words of the text, the 32 rarest. One that is not listed is rarer than all that are.
    word as materialized (
        select u.lexeme,
               ('''' || replace(replace(u.lexeme, '\', '\\'), '''', '''''') || '''')::tsquery
                   as query,
               -ln(known.share) as rarity,
               u.lexeme ~ '[0-9]' and length(u.lexeme) >= 3
                   and u.lexeme ~ '[[:alpha:]]|^[0-9.]+$' as exact,
               sum(known.share) over (order by known.share, u.lexeme) as reach
          from unnest(to_tsvector($8::text::regconfig, $7::text)) u
          -- Lateral: a plan that does not know the table's size yet would read all its words.
          left join lateral (
               select share
                 from knowledge.lexeme_share
                where collection_uid = $6::uuid and lexeme = u.lexeme
                limit 1) s on true
          left join knowledge.lexeme_count c on c.collection_uid = $6::uuid
         cross join lateral (
               select least(coalesce(s.share, c.unlisted_share, 0.0005), 0.95)::float8 as share
               ) known
         order by known.share, u.lexeme
         limit 32
    ),
    phrase as materialized (
        select string_agg('(' || p.query::text || ')', ' & ')::tsquery as query
          from unnest($9::text[]) t (text)
         cross join lateral phraseto_tsquery($8::text::regconfig, t.text) as p (query)
         where numnode(p.query) > 0
    ),
    -- The chunks that hold every word, and those that hold one of the rare: as many rare words as
    -- lead to about as many chunks as are looked at, but one at least.
    asked as materialized (
        select count(word.lexeme)::int as words,
               sum(word.rarity) as rarity,
               nullif(count(*) filter (where word.exact), 0) as exact_words,
               phrase.query as phrase,
               string_agg(word.query::text, ' & ')::tsquery as every,
               coalesce(phrase.query, string_agg(word.query::text, ' | ')
                   filter (where word.reach * coalesce(c.chunks, 0) <= $13::int
                              or word.reach = (select min(reach) from word))::tsquery) as rare
          from phrase
          left join word on true
          left join knowledge.lexeme_count c on c.collection_uid = $6::uuid
         group by phrase.query
    ),
"""

_HELD: LiteralString = """(select v.chunk_uid
          from knowledge.chunk_vector v
          join knowledge.chunk k on k.chunk_uid = v.chunk_uid
          join knowledge.document d on d.document_uid = v.document_uid
         where k.lexemes @@ (select {words} from asked)
           and k.collection_uid = $6::uuid
           and v.space_uid = $2::uuid
           and """

_JUDGED: LiteralString = """
    judged as materialized (
        select v.chunk_uid, v.document_uid,
               case when $4::bool then v.embedding end as embedding,
               -- The zero vector has no direction; NaN would sort before all.
               nullif(1 - (v.embedding <=> $1::vector), 'NaN') as vector_score,
               -- Unpacked once, not for each word.
               k.lexemes || ''::tsvector as lexemes
          from setting
         cross join (select chunk_uid from near union select chunk_uid from held) candidate
          join knowledge.chunk_vector v
            on v.space_uid = $2::uuid and v.chunk_uid = candidate.chunk_uid
          join knowledge.chunk k on k.chunk_uid = candidate.chunk_uid
          left join asked on true
         where asked.phrase is null or k.lexemes @@ asked.phrase
    ),
    hit as materialized (
        select j.chunk_uid, j.document_uid, j.embedding, j.vector_score::float4 as vector_score,
               t.score::float4 as text_score,
               ($10::float8 * coalesce(j.vector_score, 0) + $11::float8 * t.score)::float4 as score
          from judged j
         cross join lateral (
               select coalesce(sum(w.rarity) / min(asked.rarity), 0)
                      / (1 + 0.1 * ln(1 + length(j.lexemes)))
                      + coalesce(count(*) filter (where w.exact)::float8
                                 / min(asked.exact_words), 0) as score
                 from word w
                cross join asked
                where j.lexemes @@ w.query) t
         order by score desc, j.chunk_uid
         limit $3::int
    )
    select hit.score, hit.vector_score, hit.text_score,
           (select words from asked) as words,
           (select count(*) from near)::int as near, (select count(*) from held)::int as held,
"""


@cache
def render(dimension: int, distance: int, exact: bool, joined: bool) -> tuple[str, ...]:
    """The SQL of a search for words: its filter's condition stands between each two parts.

    Without vector (null, its weight 0) the nearest are left out when the statement is planned.
    """
    metric = METRICS[distance]
    half = f"(v.embedding::halfvec({dimension})) {metric.operator} $1::vector::halfvec({dimension})"
    order = f"v.embedding {metric.operator} $1::vector, v.chunk_uid" if exact else half
    start = f"""
    with {SETTING}{_WORDS}
    near as materialized (
        select found.chunk_uid
          from setting
         cross join lateral (
               select v.chunk_uid
                 from {FROM_JOINED if joined else FROM_VECTORS}
                where v.space_uid = $2::uuid
                  and $10::float8 > 0
                  and """  # noqa: S608 - parts are constants, the dimension is an int
    every = f"""
                order by {order}
                limit $12::int) found
    ),
    held as materialized (
        {_HELD.replace("{words}", "every")}"""
    rare = f"""
         limit $13::int)
         union
        {_HELD.replace("{words}", "rare")}"""
    end = f"""
         limit $13::int)
    ),{_JUDGED}{PARTS}
     order by hit.score desc, hit.chunk_uid
"""
    return start, every, rare, end


@lru_cache(SPACES_KEPT)
def render_kept(dimension: int, distance: int, space_uid: UUID) -> str:
    """The SQL of a search by the index without filter, whose plan may be kept: it names the space's
    own partition."""
    statement = "true".join(render(dimension, distance, exact=False, joined=False))
    partition = f"knowledge.chunk_vector_{space_uid.hex} v"
    return statement.replace(FROM_VECTORS, partition)


async def search_kept(conn: Connection, plan: Plan, query: Query, words: Words) -> list[Record]:
    """As `search`, by the index and without filter, on a connection that keeps plans.

    Raises UndefinedTableError if the space is gone.
    """
    statement = render_kept(plan.dimension, plan.distance, query.space_uid)
    return await conn.fetch(statement, *_parameters(plan, query, words))


async def search(conn: Connection, plan: Plan, query: Query, words: Words) -> list[Record]:
    """The best chunks by the weighted sum of both scores, at most `limit`, best first.

    `query.vector` is not looked at when the words are alone. Rows tell how many candidates there
    were by vector (`near`) and by words (`held`), and how many words were asked (`words`).
    """
    statement = query.condition.sql.join(
        render(plan.dimension, plan.distance, plan.exact, plan.joined)
    )
    return await conn.fetch(statement, *_parameters(plan, query, words))


def nearest(limit: int) -> int:
    """How many candidates by vector a search for so many hits looks at."""
    return max(_NEAREST, 2 * limit)


def _parameters(plan: Plan, query: Query, words: Words) -> tuple[object, ...]:
    holding = _HOLDING_ALONE if words.alone else _HOLDING
    return (
        None if words.alone else query.vector,
        query.space_uid,
        query.limit,
        query.include_embedding,
        plan.ef or MAX_EF,
        query.collection_uid,
        words.text,
        words.language,
        list(words.phrases),
        words.vector_weight,
        words.text_weight,
        nearest(query.limit),
        max(holding, 2 * query.limit),
        *query.condition.parameters,
    )


COUNT_WORDS: LiteralString = """
    select length(to_tsvector($2::text::regconfig, $1::text))
"""


async def count_words(conn: Connection, text: str, language: str) -> int:
    """How many different words a text has that are no stop words of the language."""
    return int(await conn.fetchval(COUNT_WORDS, text, language))
