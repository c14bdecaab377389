"""The log's lines in their order: what is kept under each index of the tree."""

from typing import LiteralString

from asyncpg import Record

from knowledged.database import Connection

# Of a collection that is not granted only the leaf's hash is shown.
ENTRIES: LiteralString = """
    select l.log_index, l.event_id, l.leaf_hash,
           e.event_id as found, e.leaf, e.occurred_at, e.recorded_at, e.audit_class, e.outcome,
           e.grpc_code, e.collection_uid, e.result_count, e.rpc, e.action, e.payload_commit,
           p.salt, p.payload, p.actor, p.on_behalf_of, p.purpose, p.peer, p.call_id,
           p.resources, p.subject_ids, p.returned_uids
      from knowledge.audit_leaf l
      -- `offset 0` keeps both look-ups by key: joined, the planner would read all events.
      left join lateral (
               select event_id, leaf, occurred_at, recorded_at, audit_class, outcome, grpc_code,
                      collection_uid, result_count, rpc, action, payload_commit
                 from knowledge.audit_event
                where event_id = l.event_id
                  and ($1::text[] is null
                       or collection_uid in (select collection_uid from knowledge.collection
                                              where collection_id = any ($1::text[])))
               offset 0) e on true
      left join lateral (
               select salt, payload, actor, on_behalf_of, purpose, peer, call_id, resources,
                      subject_ids, returned_uids
                 from knowledge.audit_payload
                where event_id = e.event_id and audit_class = e.audit_class
               offset 0) p on true
     where l.log_index >= $2::bigint and l.log_index < $3::bigint
     order by l.log_index
"""


async def entries(
    conn: Connection, granted: list[str] | None, begin: int, end: int
) -> list[Record]:
    """The rows with indices in [begin, end), in order; gaps are left out."""
    return await conn.fetch(ENTRIES, granted, begin, end)


# How the tree, its checkpoints and its state fit each other, in one snapshot.
HEAD: LiteralString = """
    select s.tree_size, s.compact_range, s.signed_size, s.origin,
           (select coalesce(max(tree_size), 0) from knowledge.audit_checkpoint) as checkpoint_size,
           (select coalesce(max(log_index) + 1, 0) from knowledge.audit_leaf) as leaf_end
      from knowledge.audit_state s
     where s.one
"""


async def head(conn: Connection) -> Record | None:
    """The state beside what it should be; None when its row is gone."""
    return await conn.fetchrow(HEAD)
