"""Audit events of what the server does by itself, beside any call."""

from typing import LiteralString

from knowledged.audit_leaf import Event
from knowledged.database import Connection
from knowledged.store.requests import event_row

RECORD_BACKGROUND: LiteralString = """
    with given as (
        select ($1::knowledge.audit_record).*
    ),
    event as (
        insert into knowledge.audit_event
               (event_id, audit_class, leaf, occurred_at, rpc, action, outcome, grpc_code,
                collection_uid, result_count, payload_commit)
        select event_id, audit_class, leaf, occurred_at, rpc, action, outcome, grpc_code,
               collection_uid, result_count, payload_commit
          from given
    ),
    payload as (
        insert into knowledge.audit_payload
               (event_id, audit_class, salt, payload, actor, on_behalf_of, purpose, resources,
                subject_ids, peer, call_id)
        select event_id, audit_class, salt, payload, actor, on_behalf_of, purpose, resources,
               subject_ids, peer, call_id
          from given
    )
    insert into knowledge.audit_pending (event_id)
    select event_id from given
"""


async def record(conn: Connection, event: Event) -> None:
    await conn.execute(RECORD_BACKGROUND, event_row(event))
