"""Search by vector. One function renders its SQL, since neither a vector's dimension nor an
operator can be bound as a parameter; what it renders depends on nothing else and is kept.

Scores, higher is better, in float32: cosine similarity; 1 / (1 + Euclidean distance); inner
product.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import LiteralString
from uuid import UUID

from asyncpg import Record

from knowledged.database import Connection
from knowledged.filters.syntax import And, Expression, Filter, Not, Or
from knowledged.store.documents import DOCUMENT_FIELDS
from knowledged.store.filter_sql import Column, Condition, Fields, Kind

COSINE, L2, INNER_PRODUCT = 1, 2, 3
MAX_EF = 1_000

SEARCH_COLUMNS = DOCUMENT_FIELDS | {
    "chunk_id": Column("k.chunk_id", Kind.STRING),
    "chunk_metadata": Column("k.metadata", Kind.DYNAMIC),
}


@dataclass(frozen=True, slots=True)
class Metric:
    """How one distance is spelled: operator, operator class of the index, and the score."""

    operator: LiteralString
    operator_class: LiteralString
    score: LiteralString


METRICS = {
    COSINE: Metric("<=>", "halfvec_cosine_ops", "1 - hit.distance"),
    L2: Metric("<->", "halfvec_l2_ops", "1 / (1 + hit.distance)"),
    INNER_PRODUCT: Metric("<#>", "halfvec_ip_ops", "- hit.distance"),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """How a search is carried out. `ef` None compares with every vector; `joined` says that the
    filter asks more than the vector row's own fields."""

    dimension: int
    distance: int
    ef: int | None
    joined: bool

    @property
    def exact(self) -> bool:
        return self.ef is None


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked, of which collection: `vector` is little-endian float32."""

    collection_uid: UUID
    space_uid: UUID
    vector: bytes
    limit: int
    include_embedding: bool
    condition: Condition


FROM_VECTORS: LiteralString = "knowledge.chunk_vector v"
FROM_JOINED: LiteralString = """knowledge.chunk_vector v
          join knowledge.chunk k on k.chunk_uid = v.chunk_uid
          join knowledge.document d on d.document_uid = v.document_uid"""

# Parameters of every search: $1 vector, $2 space, $3 limit, $4 include embedding, $5 ef,
# $6 collection; the filter's begin at $7.
FIRST_FILTER_PARAMETER = 7

# Renderings are small, but spaces come and go.
SPACES_KEPT = 256


SETTING: LiteralString = """
    -- Settings for this statement alone, in the same round trip; no row if the collection is gone.
    -- A scan that a filter leaves short goes on; its order does not matter, since hits are sorted.
    setting as materialized (
        select set_config('hnsw.ef_search', $5::int::text, true),
               set_config('hnsw.iterative_scan', 'relaxed_order', true),
               true as alive
          from knowledge.collection
         where collection_uid = $6::uuid and delete_time is null
    ),
"""

PARTS: LiteralString = """
           k.chunk_uid, k.chunk_id, k.content, k.token_count,
           -- As texts, since many are alike, and whoever packs them keeps what he made of the last
           -- ones. Some have none, and null is cheaper to read than an empty object.
           nullif(k.metadata, '{}')::text as chunk_metadata,
           s.ordinal, s.start_offset, s.end_offset, hit.embedding,
           d.document_uid, d.document_id, d.title, d.mime_type,
           d.source_uri, d.revision,
           nullif(d.metadata, '{}')::text as metadata, nullif(d.labels, '{}') as labels,
           nullif(d.subject_ids, '{}') as subject_ids
      from hit
      join knowledge.chunk k on k.chunk_uid = hit.chunk_uid
      join knowledge.document d on d.document_uid = hit.document_uid
      left join lateral (
           select ordinal, start_offset, end_offset
             from knowledge.chunk_span
            where chunk_uid = k.chunk_uid and to_revision is null
            order by ordinal
            limit 1) s on true
     where d.delete_time is null
"""


@cache
def render(dimension: int, distance: int, exact: bool, joined: bool) -> tuple[str, str]:
    """The SQL of a search before and after its filter's condition.

    The index holds half-precision vectors, so it gives the candidates; they are ordered and scored
    by the float32 ones. The exact form orders by float32 from the start, ties by uid.
    """
    metric = METRICS[distance]
    half = f"(v.embedding::halfvec({dimension})) {metric.operator} $1::vector::halfvec({dimension})"
    order = "distance, v.chunk_uid" if exact else half
    head = f"""
    with {SETTING}
    hit as materialized (
        select found.*
          from setting
         cross join lateral (
               select v.chunk_uid, v.document_uid,
                      case when $4::bool then v.embedding end as embedding,
                      v.embedding {metric.operator} $1::vector as distance
                 from {FROM_JOINED if joined else FROM_VECTORS}
                where v.space_uid = $2::uuid
                  and """  # noqa: S608 - parts are constants, the dimension is an int
    tail = f"""
                order by {order}
                limit $3::int) found
    )
    select ({metric.score})::float4 as score, {PARTS}
     order by hit.distance, hit.chunk_uid
"""
    return head, tail


@lru_cache(SPACES_KEPT)
def render_many(dimension: int, distance: int, space_uid: UUID) -> str:
    """The SQL of several searches of one space by its index at once, joined together.

    It names the space's own partition, so that its plan may be kept: one for any space would hold
    every partition. Parameters as those of one search, but $1 is an array of vectors; `place` tells
    from 1 on which of them a row answers.
    """
    metric = METRICS[distance]
    half = f"(v.embedding::halfvec({dimension})) {metric.operator} q.half"
    return f"""
    with {SETTING}
    query as materialized (
        select vector, vector::halfvec({dimension}) as half, place
          from unnest($1::vector[]) with ordinality as q (vector, place)
    ),
    hit as materialized (
        select q.place, found.*
          from setting
         cross join query q
         cross join lateral (
               select v.chunk_uid, v.document_uid,
                      case when $4::bool then v.embedding end as embedding,
                      v.embedding {metric.operator} q.vector as distance
                 from knowledge.chunk_vector_{space_uid.hex} v
                where v.space_uid = $2::uuid
                order by {half}
                limit $3::int) found
    )
    select hit.place, ({metric.score})::float4 as score, {PARTS}
     order by hit.place, hit.distance, hit.chunk_uid
"""  # noqa: S608 - parts are constants, the dimension is an int, the uid hex digits


async def search(conn: Connection, plan: Plan, query: Query) -> list[Record]:
    """The nearest chunks of a space that pass the condition, best first, at most `limit`.

    With the index fewer may come back than there are; the exact form finds all.
    """
    head, tail = render(plan.dimension, plan.distance, plan.exact, plan.joined)
    return await conn.fetch(
        head + query.condition.sql + tail,
        query.vector,
        *_parameters(plan, query),
        *query.condition.parameters,
    )


async def search_many(
    conn: Connection, plan: Plan, query: Query, vectors: Sequence[bytes]
) -> list[list[Record]]:
    """Several searches that differ from `query` in their vectors only, by the index, unfiltered.

    For each vector what `search` would give, in one round trip. Raises UndefinedTableError when the
    space has been dropped. For a connection that keeps its plans.
    """
    statement = render_many(plan.dimension, plan.distance, query.space_uid)
    found: list[list[Record]] = [[] for _ in vectors]
    for row in await conn.fetch(statement, vectors, *_parameters(plan, query)):
        place: int = row["place"]
        found[place - 1].append(row)
    return found


def _parameters(plan: Plan, query: Query) -> tuple[object, ...]:
    return (
        query.space_uid,
        query.limit,
        query.include_embedding,
        plan.ef or MAX_EF,
        query.collection_uid,
    )


def asks_more_than(declared: Fields, filter: Filter | None) -> bool:
    """Whether the filter names anything beside the fields that the vector row carries."""
    return filter is not None and not all(
        declared.declared_at(path) for path in _paths(filter.expression)
    )


def _paths(node: Expression) -> list[tuple[str, ...]]:
    match node:
        case And(parts) | Or(parts):
            return [path for part in parts for path in _paths(part)]
        case Not(part):
            return _paths(part)
        case _:
            return [node.path]
