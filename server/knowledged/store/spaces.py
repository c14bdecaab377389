"""The care of vector spaces: their indexes, their filter fields, their end.

Index definitions cannot bind parameters: PostgreSQL's `format` quotes what goes into them, and the
text it gives is executed. All of it needs the maintenance role, which owns the tables.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import LiteralString
from uuid import UUID

from knowledged.database import Connection
from knowledged.store.collections import FilterField, fields_json, filter_fields
from knowledged.store.filter_sql import Kind, index_expression, index_method
from knowledged.store.search import METRICS

EXACT, BUILDING, INDEXED, DROPPED = 1, 2, 3, 4

_LONGEST_SECONDS = 86_400
_MOMENT = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class SpaceState:
    """A vector space as its keeper sees it; `rows` is an estimate, `hnsw_valid` None: no index.
    `loading` says that a stream brought chunks a moment ago."""

    space_uid: UUID
    collection_uid: UUID
    collection_id: str
    dimension: int
    distance: int
    state: int
    rows: int
    hnsw_valid: bool | None
    filter_fields: tuple[FilterField, ...]
    ready_fields: tuple[FilterField, ...]
    loading: bool


# Taken again and again by its holder it would count up: so it is asked first whether it holds.
HOLD_LOCK: LiteralString = """
    select case when exists (
                     select from pg_locks
                      where pid = pg_backend_pid() and locktype = 'advisory'
                        and classid = 1802401644 and objid = 1)
                then true
                else pg_try_advisory_lock(1802401644, 1) end
"""


async def hold_lock(conn: Connection) -> bool:
    """Of all replicas one cares; True for it, as long as the connection lives."""
    return bool(await conn.fetchval(HOLD_LOCK))


STATES: LiteralString = """
    select s.space_uid, s.collection_uid, c.collection_id, s.dimension, s.distance, s.state,
           greatest(pg_stat_get_live_tuples(r.oid), r.reltuples, 0)::bigint as rows,
           i.indisvalid as hnsw_valid, c.filter_fields, s.ready_fields,
           -- A session expires a day after its last batch.
           exists (select from knowledge.intake_session n
                    where n.expire_time > now() + interval '24 hours' - $1::interval
                      and n.collection_uid = s.collection_uid
                      and n.rpc = '/knowledge.v1.VectorService/IngestChunks') as loading
      from knowledge.vector_space s
      join knowledge.collection c on c.collection_uid = s.collection_uid
      left join pg_class r
        on r.oid = to_regclass('knowledge.' || knowledge.space_relation(s.space_uid))
      left join pg_index i
        on i.indexrelid
         = to_regclass('knowledge.' || knowledge.space_relation(s.space_uid, '_hnsw'))
"""


async def states(conn: Connection, moment: timedelta = _MOMENT) -> list[SpaceState]:
    """All of them; streams count as `loading` for a moment after their last batch."""
    rows = await conn.fetch(STATES, moment)
    return [
        SpaceState(
            row["space_uid"],
            row["collection_uid"],
            row["collection_id"],
            row["dimension"],
            row["distance"],
            row["state"],
            row["rows"],
            row["hnsw_valid"],
            filter_fields(row["filter_fields"]),
            filter_fields(row["ready_fields"]),
            row["loading"],
        )
        for row in rows
    ]


SET_STATE: LiteralString = """
    update knowledge.vector_space
       set state = $2::smallint
     where space_uid = $1::uuid and state <> 4
"""


async def set_state(conn: Connection, space_uid: UUID, state: int) -> None:
    await conn.execute(SET_STATE, space_uid, state)


HNSW: LiteralString = """
    select format(
        'create index concurrently if not exists %1$I on knowledge.%2$I using hnsw '
        '((embedding::halfvec(%3$s)) %4$s) with (m = 16, ef_construction = 200)',
        knowledge.space_relation($1::uuid, '_hnsw'), knowledge.space_relation($1::uuid),
        $2::int, $3::text)
"""
DROP_HNSW: LiteralString = """
    select format('drop index concurrently if exists knowledge.%I',
                  knowledge.space_relation($1::uuid, '_hnsw'))
"""
# Also of what searches join: after a bulk load their statistics are a minute behind.
ANALYZE: LiteralString = """
    select format(
        'analyze knowledge.%I, knowledge.document, knowledge.chunk, knowledge.chunk_span',
        knowledge.space_relation($1::uuid))
"""


async def build_hnsw(conn: Connection, space: SpaceState) -> None:
    """Builds the index without blocking writes; one that a crash left INVALID goes first."""
    if space.hnsw_valid is False:
        await _run(conn, DROP_HNSW, space.space_uid)
    operators = METRICS[space.distance].operator_class
    await _run(conn, HNSW, space.space_uid, space.dimension, operators)
    await _run(conn, ANALYZE, space.space_uid)


FIELD_INDEX: LiteralString = """
    select format(
        'create index concurrently %1$I on knowledge.%2$I using %3$s (%4$s)',
        knowledge.space_relation($1::uuid, '_f' || left(md5($2::text), 12)),
        knowledge.space_relation($1::uuid), $3::text,
        replace($4::text, '{key}', quote_literal($2::text)))
"""
DROP_INDEX: LiteralString = """
    select format('drop index concurrently if exists knowledge.%I', $1::text)
"""
# Keys without a valid index, and indexes of no key or INVALID: what a crash or a change left.
UPKEEP: LiteralString = """
    with wanted as (
        select key, knowledge.space_relation($1::uuid, '_f' || left(md5(key), 12)) as name
          from unnest($2::text[]) w (key)
    ),
    there as (
        select c.relname::text as name, i.indisvalid as valid
          from pg_index i
          join pg_class c on c.oid = i.indexrelid
         where i.indrelid = to_regclass('knowledge.' || knowledge.space_relation($1::uuid))
           and c.relname ^@ knowledge.space_relation($1::uuid, '_f')
    )
    select array(select key from wanted
                  where name not in (select name from there where valid)) as unindexed,
           array(select name from there
                  where not valid or name not in (select name from wanted)) as useless
"""


async def index_fields(conn: Connection, space_uid: UUID, kinds: Mapping[str, Kind]) -> None:
    """Indexes the filter fields, by their keys, on the space's rows, and drops other indexes."""
    row = await conn.fetchrow(UPKEEP, space_uid, list(kinds))
    assert row is not None  # noqa: S101 - the statement gives one row
    for name in row["useless"]:
        await _run(conn, DROP_INDEX, name)
    for key in row["unindexed"]:
        method, expression = index_method(kinds[key]), index_expression(kinds[key])
        await _run(conn, FIELD_INDEX, space_uid, key, method, expression)


BACKFILL_PAGE: LiteralString = """
    select v.chunk_uid, k.metadata as chunk_metadata, d.metadata
      from knowledge.chunk_vector v
      join knowledge.chunk k on k.chunk_uid = v.chunk_uid
      join knowledge.document d on d.document_uid = v.document_uid
     where v.space_uid = $1::uuid
       and ($2::uuid is null or v.chunk_uid > $2::uuid)
     order by v.chunk_uid
     limit $3::int
"""
BACKFILL_WRITE: LiteralString = """
    update knowledge.chunk_vector v
       set fields = f.fields
      from unnest($2::uuid[], $3::jsonb[]) as f (chunk_uid, fields)
     where v.space_uid = $1::uuid and v.chunk_uid = f.chunk_uid and v.fields <> f.fields
"""


@dataclass(frozen=True, slots=True)
class Unfilled:
    """A vector row whose filter fields are to be computed again."""

    chunk_uid: UUID
    chunk_metadata: dict[str, object]
    metadata: dict[str, object]


async def backfill_page(
    conn: Connection, space_uid: UUID, after: UUID | None, size: int
) -> list[Unfilled]:
    rows = await conn.fetch(BACKFILL_PAGE, space_uid, after, size)
    return [Unfilled(row["chunk_uid"], row["chunk_metadata"], row["metadata"]) for row in rows]


async def backfill_write(
    conn: Connection, space_uid: UUID, fields: dict[UUID, dict[str, object]]
) -> None:
    await conn.execute(BACKFILL_WRITE, space_uid, list(fields), list(fields.values()))


SET_READY: LiteralString = """
    update knowledge.vector_space
       set ready_fields = $2::jsonb
     where space_uid = $1::uuid
"""


async def set_ready_fields(
    conn: Connection, space_uid: UUID, fields: tuple[FilterField, ...]
) -> None:
    """Says which fields searches may filter on by the vector row alone."""
    await conn.execute(SET_READY, space_uid, fields_json(fields))


# No row once it is detached; a detachment that a crash left half done can only be finished.
DETACH: LiteralString = """
    select format('alter table knowledge.chunk_vector detach partition knowledge.%I %s',
                  knowledge.space_relation($1::uuid),
                  case when inhdetachpending then 'finalize' else 'concurrently' end)
      from pg_inherits
     where inhrelid = to_regclass('knowledge.' || knowledge.space_relation($1::uuid))
"""
DROP: LiteralString = """
    select format('drop table if exists knowledge.%I', knowledge.space_relation($1::uuid))
"""
PURGE_PARKED: LiteralString = """
    delete from knowledge.chunk_vector_parked where space_uid = $1::uuid
"""
# Stays while documents do, so that those come up again once nobody holds them any more.
PURGE_SPACE: LiteralString = """
    delete from knowledge.vector_space s
     where s.space_uid = $1::uuid
       and not exists (select from knowledge.document d
                        where d.collection_uid = s.collection_uid)
"""
PURGE_DOCUMENTS: LiteralString = """
    delete from knowledge.document
     where document_uid in (select document_uid from knowledge.document
                             where collection_uid = $1::uuid
                               and not knowledge.is_held(document_uid)
                             limit $2::int)
"""


async def drop_partition(conn: Connection, space_uid: UUID) -> None:
    """Detaches and drops a deleted space's partition; neither blocks searches in others."""
    if detach := await conn.fetchval(DETACH, space_uid):
        await conn.execute(detach, timeout=_LONGEST_SECONDS)
    await _run(conn, DROP, space_uid)
    await conn.execute(PURGE_PARKED, space_uid)


async def purge_documents(conn: Connection, collection_uid: UUID, at_most: int) -> int:
    """Removes documents of a deleted collection with all that hangs on them; how many."""
    done = await conn.execute(PURGE_DOCUMENTS, collection_uid, at_most)
    return int(done.rpartition(" ")[2])


async def purge_space(conn: Connection, space_uid: UUID) -> None:
    await conn.execute(PURGE_SPACE, space_uid)


async def _run(conn: Connection, statement: LiteralString, *parameters: object) -> None:
    """Executes the text that the statement gives, without a time limit of its own."""
    await conn.execute(await conn.fetchval(statement, *parameters), timeout=_LONGEST_SECONDS)
