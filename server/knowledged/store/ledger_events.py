"""Events that no RPC makes: they are given their leaf in the same transaction."""

from typing import LiteralString

from knowledged.audit_leaf import Event
from knowledged.database import Connection
from knowledged.store.requests import event_row

RECORD_EVENT: LiteralString = """
    with given as (
        select ($1::knowledge.audit_record).*
    ),
    payload as (
        insert into knowledge.audit_payload
               (event_id, audit_class, salt, payload, actor, on_behalf_of, purpose, resources,
                subject_ids, peer, call_id)
        select event_id, audit_class, salt, payload, actor, on_behalf_of, purpose, resources,
               subject_ids, peer, call_id
          from given
    )
    insert into knowledge.audit_event
           (event_id, audit_class, leaf, occurred_at, rpc, action, outcome, grpc_code,
            collection_uid, result_count, payload_commit)
    select event_id, audit_class, leaf, occurred_at, rpc, action, outcome, grpc_code,
           collection_uid, result_count, payload_commit
      from given
"""


async def record(conn: Connection, event: Event) -> None:
    """Stores an event with its payload; it does not wait for the sequencer."""
    await conn.execute(RECORD_EVENT, event_row(event))
