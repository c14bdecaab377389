"""What must hold between the audit log's tables. Each statement finds one that breaks its rule."""

from typing import Any, LiteralString
from uuid import UUID

from knowledged.database import Connection

EVENT_WITHOUT_PLACE: LiteralString = """
    select e.event_id
      from knowledge.audit_event e
     where not exists (select from knowledge.audit_leaf l where l.event_id = e.event_id)
       and not exists (select from knowledge.audit_pending p where p.event_id = e.event_id)
     order by e.event_id
     limit 1
"""

WAITING_WITHOUT_EVENT: LiteralString = """
    select p.event_id
      from knowledge.audit_pending p
     where not exists (select from knowledge.audit_event e where e.event_id = p.event_id)
     order by p.event_id
     limit 1
"""

WAITING_WITH_LEAF: LiteralString = """
    select p.event_id
      from knowledge.audit_pending p
      join knowledge.audit_leaf l on l.event_id = p.event_id
     order by p.event_id
     limit 1
"""

PAYLOAD_WITHOUT_EVENT: LiteralString = """
    select p.event_id
      from knowledge.audit_payload p
     where not exists (select from knowledge.audit_event e
                        where e.event_id = p.event_id and e.audit_class = p.audit_class)
     order by p.event_id
     limit 1
"""

# Once an event has its leaf, the leaf tells that it is gone.
REVISION_WITHOUT_EVENT: LiteralString = """
    select r.event_id
      from (select event_id from knowledge.document
             union all
            select event_id from knowledge.document_revision
             union all
            select event_id from knowledge.collection) r
     where not exists (select from knowledge.audit_event e where e.event_id = r.event_id)
       and not exists (select from knowledge.audit_leaf l where l.event_id = r.event_id)
     order by r.event_id
     limit 1
"""

RECEIPT_WITHOUT_EVENT: LiteralString = """
    select q.event_id
      from knowledge.request_log q
     where not exists (select from knowledge.audit_event e where e.event_id = q.event_id)
       and not exists (select from knowledge.audit_leaf l where l.event_id = q.event_id)
     order by q.event_id
     limit 1
"""

# Each month's partition of events has its twin of payloads, and none was detached.
BROKEN_PARTITION: LiteralString = """
    with part as (
        select c.relname::text as name, c.relispartition as attached
          from pg_class c
          join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = 'knowledge'
           and c.relkind in ('r', 'p')
           and c.relname ~ '^audit_(event|payload)_(read|write|admin)(_|$)'
    )
    select p.name
      from part p
     where not p.attached
        or not exists (
               select
                 from part twin
                where twin.name = case when p.name like 'audit\\_event\\_%'
                                       then replace(p.name, 'audit_event', 'audit_payload')
                                       else replace(p.name, 'audit_payload', 'audit_event') end)
     order by p.name
     limit 1
"""

_RULES: dict[str, tuple[LiteralString, LiteralString]] = {
    "places": (EVENT_WITHOUT_PLACE, "neither has a leaf nor waits for one"),
    "waiting events": (WAITING_WITHOUT_EVENT, "waits for its leaf and is gone"),
    "waiting once": (WAITING_WITH_LEAF, "has a leaf and still waits for one"),
    "payloads": (PAYLOAD_WITHOUT_EVENT, "has a payload and is gone"),
    "revisions": (REVISION_WITHOUT_EVENT, "made a revision that is there, and is gone"),
    "receipts": (RECEIPT_WITHOUT_EVENT, "has a receipt that is out, and is gone"),
}

RULES = (*_RULES, "partitions")

# The rules read whole tables; the role's own limit is for calls.
LONG_STATEMENTS: LiteralString = """
    select set_config('statement_timeout', $1::text, true)
"""

_LONGEST_SECONDS = 3_600.0


async def broken(conn: Connection, rule: str) -> str | None:
    """What breaks the rule of this name, in words; None if nothing does. May take an hour."""
    if rule == "partitions":
        name: str | None = await _found(conn, BROKEN_PARTITION)
        return f"the table {name} is detached, or its twin is gone" if name else None
    statement, what = _RULES[rule]
    event_id: UUID | None = await _found(conn, statement)
    return f"the event {event_id} {what}" if event_id else None


async def _found(conn: Connection, statement: LiteralString) -> Any:
    async with conn.transaction():
        await conn.fetchval(LONG_STATEMENTS, f"{_LONGEST_SECONDS:.0f}s")
        return await conn.fetchval(statement, timeout=_LONGEST_SECONDS)
