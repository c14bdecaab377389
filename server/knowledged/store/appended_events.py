"""Events of other services: written once for each caller's insert_id."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

from knowledged.audit_leaf import Event
from knowledged.call import Receipt
from knowledged.database import Connection
from knowledged.store import audit_events
from knowledged.store.audit_events import Entry
from knowledged.store.requests import RequestKey


@dataclass(frozen=True, slots=True)
class Appendix:
    """An event to append, and the key by which a repeat of it is known."""

    event: Event
    key: RequestKey


@dataclass(frozen=True, slots=True)
class Known:
    """What an insert_id stands for: the first event's receipt, and the hash of its body."""

    receipt: Receipt
    body_hash: bytes


APPEND_ONCE: LiteralString = """
    with given as materialized (
        select (e.record).*, e.returned_uids, e.principal, e.append_rpc, e.request_id, e.body_hash
          from unnest($1::knowledge.audit_entry[], $2::knowledge.request_key[])
               e (record, returned_uids, principal, append_rpc, request_id, body_hash)
    ),
    -- A concurrent copy waits here until the first has committed, then finds it and does nothing.
    -- All take their ids in one order, so that no two wait for each other.
    request as (
        insert into knowledge.request_log as known
               (principal, rpc, request_id, body_hash, resource, resource_uid, revision,
                event_id, leaf_hash, expire_time)
        select principal, append_rpc, request_id, body_hash, 'auditEvents/' || event_id, event_id,
               0, event_id, leaf_hash, now() + interval '24 hours'
          from given
         order by request_id
            on conflict (principal, rpc, request_id) do update
           set body_hash = excluded.body_hash, resource = excluded.resource,
               resource_uid = excluded.resource_uid, event_id = excluded.event_id,
               leaf_hash = excluded.leaf_hash, expire_time = excluded.expire_time
         where known.expire_time < now()
        returning known.event_id
    ),
    event as (
        insert into knowledge.audit_event
               (event_id, audit_class, leaf, occurred_at, rpc, action, outcome, grpc_code,
                collection_uid, result_count, payload_commit)
        select event_id, audit_class, leaf, occurred_at, rpc, action, outcome, grpc_code,
               collection_uid, result_count, payload_commit
          from given
          join request using (event_id)
    ),
    payload as (
        insert into knowledge.audit_payload
               (event_id, audit_class, salt, payload, actor, on_behalf_of, purpose, resources,
                subject_ids, returned_uids, peer, call_id)
        select event_id, audit_class, salt, payload, actor, on_behalf_of, purpose, resources,
               subject_ids, returned_uids, peer, call_id
          from given
          join request using (event_id)
    )
    insert into knowledge.audit_pending (event_id)
    select event_id from request
"""

KNOWN: LiteralString = """
    select request_id, body_hash, event_id, leaf_hash
      from knowledge.request_log
     where principal = $1::text and rpc = $2::text and request_id = any ($3::uuid[])
"""


async def append(conn: Connection, given: Sequence[Appendix]) -> dict[UUID, Known]:
    """Writes those events whose key nobody used within 24 hours, all or none of them; what each key
    stands for now."""
    if not given:
        return {}
    entries: list[Entry] = [audit_events.entry(each.event)[0] for each in given]
    await conn.execute(APPEND_ONCE, entries, [each.key.row() for each in given])
    key, ids = given[0].key, [each.key.request_id for each in given]
    rows = await conn.fetch(KNOWN, key.principal, key.rpc, ids)
    return {
        row["request_id"]: Known(Receipt(str(row["event_id"]), row["leaf_hash"]), row["body_hash"])
        for row in rows
    }
