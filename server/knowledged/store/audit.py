"""Reading the audit log. Nothing here changes it: events are written with what they record."""

from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from asyncpg import Record

from knowledged.database import Connection
from knowledged.errors import NotFound
from knowledged.store.filter_sql import Column, Condition, Fields, Kind
from knowledged.store.paging import Order, Page


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """An event with its payload; the payload's parts are empty once it is erased."""

    event_id: UUID
    occurred_at: datetime
    recorded_at: datetime
    rpc: str
    action: str
    audit_class: int
    outcome: int
    grpc_code: int
    collection_uid: UUID | None
    result_count: int
    actor: str
    on_behalf_of: str
    purpose: str
    resources: tuple[str, ...]
    subject_ids: tuple[str, ...]
    peer: str
    call_id: str
    leaf: bytes
    returned_uids: tuple[UUID, ...]
    log_index: int | None = None


FIELDS = Fields(
    {
        "occurred_at": Column("e.occurred_at", Kind.TIMESTAMP),
        "rpc": Column("e.rpc", Kind.STRING),
        "action": Column("e.action", Kind.STRING),
        "audit_class": Column("e.audit_class", Kind.ENUM, {"READ": 2, "WRITE": 3, "ADMIN": 4}),
        "outcome": Column("e.outcome", Kind.ENUM, {"DONE": 1, "REFUSED": 2, "FAILED": 3}),
        "grpc_code": Column("e.grpc_code", Kind.NUMBER),
        "collection_uid": Column("e.collection_uid", Kind.UUID),
        "actor": Column("p.actor", Kind.STRING),
        "on_behalf_of": Column("p.on_behalf_of", Kind.STRING),
        "purpose": Column("p.purpose", Kind.STRING),
        "resources": Column("p.resources", Kind.STRING_LIST),
        "subject_ids": Column("p.subject_ids", Kind.STRING_LIST),
        "call_id": Column("p.call_id", Kind.STRING),
    }
)

# Also events of deleted collections are shown to those who were granted them by name.
GET: LiteralString = """
    select e.event_id, e.occurred_at, e.recorded_at, e.rpc, e.action, e.audit_class, e.outcome,
           e.grpc_code, e.collection_uid, e.result_count, e.leaf,
           coalesce(p.actor, '') as actor, coalesce(p.on_behalf_of, '') as on_behalf_of,
           coalesce(p.purpose, '') as purpose, coalesce(p.resources, '{}') as resources,
           coalesce(p.subject_ids, '{}') as subject_ids, coalesce(p.peer, '') as peer,
           coalesce(p.call_id, '') as call_id, coalesce(p.returned_uids, '{}') as returned_uids,
           (select log_index from knowledge.audit_leaf l where l.event_id = e.event_id) as log_index
      from knowledge.audit_event e
      left join knowledge.audit_payload p
        on p.event_id = e.event_id and p.audit_class = e.audit_class
     where e.event_id = $1::uuid
       and ($2::text[] is null
            or e.collection_uid in (select collection_uid from knowledge.collection
                                     where collection_id = any ($2::text[])))
"""


async def get(conn: Connection, event_id: UUID, granted: list[str] | None) -> AuditEvent:
    """An event. NotFound also when its collection is not granted."""
    row = await conn.fetchrow(GET, event_id, granted)
    if row is None:
        raise NotFound("audit event: not found")
    return from_row(row)


LIST: LiteralString = """
    select e.event_id, e.occurred_at, e.recorded_at, e.rpc, e.action, e.audit_class, e.outcome,
           e.grpc_code, e.collection_uid, e.result_count, e.leaf,
           coalesce(p.actor, '') as actor, coalesce(p.on_behalf_of, '') as on_behalf_of,
           coalesce(p.purpose, '') as purpose, coalesce(p.resources, '{}') as resources,
           coalesce(p.subject_ids, '{}') as subject_ids, coalesce(p.peer, '') as peer,
           coalesce(p.call_id, '') as call_id, coalesce(p.returned_uids, '{}') as returned_uids,
           (select log_index from knowledge.audit_leaf l where l.event_id = e.event_id) as log_index
      from knowledge.audit_event e
      left join knowledge.audit_payload p
        on p.event_id = e.event_id and p.audit_class = e.audit_class
     where ($1::text[] is null
            or e.collection_uid in (select collection_uid from knowledge.collection
                                     where collection_id = any ($1::text[])))
"""

BY_TIME = Order("e.occurred_at", "timestamptz", "e.event_id")


async def list_page(
    conn: Connection, granted: list[str] | None, condition: Condition, page: Page
) -> list[AuditEvent]:
    """One event more than the page's size, if there is one."""
    statement, parameters = page.statement(LIST, condition, 1)
    rows = await conn.fetch(statement, granted, *parameters)
    return [from_row(row) for row in rows]


def from_row(row: Record) -> AuditEvent:
    """Of a row with the columns of `GET`."""
    return AuditEvent(
        row["event_id"],
        row["occurred_at"],
        row["recorded_at"],
        row["rpc"],
        row["action"],
        row["audit_class"],
        row["outcome"],
        row["grpc_code"],
        row["collection_uid"],
        row["result_count"],
        row["actor"],
        row["on_behalf_of"],
        row["purpose"],
        tuple(row["resources"]),
        tuple(row["subject_ids"]),
        row["peer"],
        row["call_id"],
        row["leaf"],
        tuple(row["returned_uids"]),
        row["log_index"],
    )


def event_of_entry(row: Record) -> AuditEvent:
    """A row of `ledger_entries` whose event is there; empty parts where the payload is erased."""
    return AuditEvent(
        row["event_id"],
        row["occurred_at"],
        row["recorded_at"],
        row["rpc"],
        row["action"],
        row["audit_class"],
        row["outcome"],
        row["grpc_code"],
        row["collection_uid"],
        row["result_count"],
        row["actor"] or "",
        row["on_behalf_of"] or "",
        row["purpose"] or "",
        tuple(row["resources"] or ()),
        tuple(row["subject_ids"] or ()),
        row["peer"] or "",
        row["call_id"] or "",
        row["leaf"],
        tuple(row["returned_uids"] or ()),
        row["log_index"],
    )
