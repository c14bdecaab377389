"""Who saw or changed what of one subject, from the audit log."""

from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from knowledged.database import Connection
from knowledged.store import audit
from knowledged.store.audit import AuditEvent
from knowledged.store.filter_sql import Condition
from knowledged.store.paging import Order, Page


@dataclass(frozen=True, slots=True)
class Subject:
    """A subject by its id and by its keyed name, from a time on and until before another."""

    subject_id: str
    name: str
    start: datetime | None
    end: datetime | None


# By its keyed name the log knows it where it must not stand in the clear, as when it was erased.
LIST: LiteralString = """
    select e.event_id, e.occurred_at, e.recorded_at, e.rpc, e.action, e.audit_class, e.outcome,
           e.grpc_code, e.collection_uid, e.result_count, e.leaf, p.actor, p.on_behalf_of,
           p.purpose, p.resources, p.subject_ids, p.peer, p.call_id, p.returned_uids,
           (select log_index from knowledge.audit_leaf l where l.event_id = e.event_id) as log_index
      from knowledge.audit_payload p
      join knowledge.audit_event e
        on e.event_id = p.event_id and e.audit_class = p.audit_class
     where ($1::text[] is null
            or e.collection_uid in (select collection_uid from knowledge.collection
                                     where collection_id = any ($1::text[])))
       and (p.subject_ids @> array[$2::text] or p.resources @> array[$3::text])
       and ($4::timestamptz is null or e.occurred_at >= $4::timestamptz)
       and ($5::timestamptz is null or e.occurred_at < $5::timestamptz)
"""
BOUND = 5
BY_TIME = Order("e.occurred_at", "timestamptz", "e.event_id")


async def list_page(
    conn: Connection, granted: list[str] | None, of: Subject, condition: Condition, page: Page
) -> list[AuditEvent]:
    """One event more than the page's size, if there is one."""
    statement, parameters = page.statement(LIST, condition, BOUND)
    about = of.subject_id, of.name, of.start, of.end
    rows = await conn.fetch(statement, granted, *about, *parameters)
    return [audit.from_row(row) for row in rows]
