"""Writing the events of reads, refusals and failures; those of changes are in their statements."""

from collections.abc import Sequence
from typing import LiteralString

from knowledged.audit_leaf import Event, commit, leaf_hash
from knowledged.call import Receipt
from knowledged.database import Connection

# An event that is there already is left alone, with its pending row: a batch whose commit was
# answered by nobody is written again.
APPEND: LiteralString = """
    with given as materialized (
        select * from unnest($1::knowledge.audit_entry[])
    ),
    event as (
        insert into knowledge.audit_event
               (event_id, audit_class, leaf, occurred_at, rpc, action, outcome, grpc_code,
                collection_uid, result_count, payload_commit)
        select event_id, audit_class, leaf, occurred_at, rpc, action, outcome, grpc_code,
               collection_uid, result_count, payload_commit
          from given
            on conflict (event_id, audit_class) do nothing
        returning event_id
    ),
    payload as (
        insert into knowledge.audit_payload
               (event_id, audit_class, salt, payload, actor, on_behalf_of, purpose, resources,
                subject_ids, returned_uids, peer, call_id)
        select event_id, audit_class, salt, payload, actor, on_behalf_of, purpose, resources,
               subject_ids, returned_uids, peer, call_id
          from given
          join event using (event_id)
    )
    insert into knowledge.audit_pending (event_id)
    select event_id from event
"""

Entry = tuple[object, ...]


async def append(conn: Connection, entries: Sequence[Entry]) -> None:
    """Writes events with their payloads and pending rows, all or none."""
    await conn.execute(APPEND, entries)


def entry(event: Event) -> tuple[Entry, Receipt]:
    """The event as a knowledge.audit_entry, and its receipt; its bytes are made here, once."""
    payload, encoded = event.payload, event.payload.encode()
    bound = commit(event.salt, encoded)
    leaf = event.leaf_over(bound)
    row = (
        event.event_id,
        event.audit_class,
        leaf,
        event.occurred_at,
        event.rpc,
        event.action,
        event.outcome,
        event.grpc_code,
        event.collection_uid,
        event.result_count,
        bound,
        event.salt,
        encoded,
        payload.actor,
        payload.on_behalf_of,
        payload.purpose,
        payload.resources,
        payload.subject_ids,
        payload.returned_uids,
        payload.peer,
        payload.call_id,
    )
    return row, Receipt(str(event.event_id), leaf_hash(leaf))
