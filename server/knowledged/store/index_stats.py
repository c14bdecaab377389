"""What the database knows of a vector space's table and indexes."""

from typing import LiteralString
from uuid import UUID

from asyncpg import Record

from knowledged.database import Connection

SPACE: LiteralString = """
    select s.state, s.ef, s.ef_reason, s.recall, s.recall_queries, s.recall_time, s.ready_fields,
           greatest(pg_stat_get_live_tuples(r.oid), r.reltuples, 0)::bigint as estimated_chunks,
           pg_stat_get_dead_tuples(r.oid)::bigint as dead_rows,
           pg_table_size(r.oid)::bigint as vector_bytes,
           pg_relation_size(i.oid)::bigint as index_bytes, i.reloptions as index_options,
           b.phase, b.rows_done, b.rows_total,
           w.chunks as counted_chunks, w.count_time,
           (select count(*) from knowledge.lexeme_share l
             where l.collection_uid = s.collection_uid)::bigint as counted_words
      from knowledge.vector_space s
      join pg_class r on r.oid = to_regclass('knowledge.' || knowledge.space_relation(s.space_uid))
      left join pg_class i
        on i.oid = to_regclass('knowledge.' || knowledge.space_relation(s.space_uid, '_hnsw'))
      left join knowledge.index_build(s.space_uid) b on true
      left join knowledge.lexeme_count w on w.collection_uid = s.collection_uid
     where s.space_uid = $1::uuid
       and s.collection_uid = $2::uuid
"""


async def of_space(conn: Connection, space_uid: UUID, collection_uid: UUID) -> Record | None:
    """One row; None if the space is gone."""
    return await conn.fetchrow(SPACE, space_uid, collection_uid)


FIELDS: LiteralString = """
    select key,
           coalesce(pg_relation_size(to_regclass('knowledge.' || knowledge.space_relation(
               $1::uuid, '_f' || left(md5(key), 12)))), 0)::bigint as bytes
      from unnest($2::text[]) key
"""


async def field_bytes(conn: Connection, space_uid: UUID, keys: list[str]) -> dict[str, int]:
    """The size of each filter field's index, by the field's key; 0 where there is none."""
    return {row["key"]: row["bytes"] for row in await conn.fetch(FIELDS, space_uid, keys)}
