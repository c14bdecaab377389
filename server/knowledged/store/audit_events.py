"""Writing the events of reads, refusals and failures; those of changes are in their statements."""

from collections.abc import Sequence
from typing import LiteralString, cast

from knowledged.audit_leaf import Event
from knowledged.call import Receipt
from knowledged.database import Connection
from knowledged.store.requests import event_row

# An event that is there already is left alone, with its pending row: a batch whose commit was
# answered by nobody is written again.
APPEND: LiteralString = """
    with given as materialized (
        select (e.record).*, e.returned_uids
          from unnest($1::knowledge.audit_entry[]) e (record, returned_uids)
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
    record = event_row(event)
    event_id, _, _, hashed, *_ = record
    return (record, event.payload.returned_uids), Receipt(str(event_id), cast("bytes", hashed))
