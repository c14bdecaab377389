"""Months of audit events that are old enough to go: what keeps them, and dropping them.

Run on the maintenance connection: the serving role drops nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from knowledged.database import Connection

# One replica at a time, until the transaction ends; and nobody sets a hold meanwhile.
LOCK: LiteralString = """
    select pg_try_advisory_xact_lock(hashtextextended('knowledge.audit_retention', 0)),
           pg_advisory_xact_lock_shared(hashtextextended('knowledge.legal_hold', 0))
"""


async def lock(conn: Connection) -> bool:
    """Whether we are the one that may prune."""
    return await conn.fetchval(LOCK)


@dataclass(frozen=True, slots=True)
class Month:
    """A month's partition of an audit class: [begin, end)."""

    audit_class: int
    class_name: str
    begin: datetime
    end: datetime

    def __str__(self) -> str:
        return f"{self.begin:%Y-%m}"


MONTHS: LiteralString = """
    with kept as (
        select audit_class, days
          from unnest($1::smallint[], $2::int[]) k (audit_class, days)
    ),
    part as (
        select split_part(c.relname, '_', 3) as class_name,
               make_timestamptz(substr(right(c.relname, 6), 1, 4)::int, right(c.relname, 2)::int,
                                1, 0, 0, 0, 'UTC') as begin
          from pg_class c
          join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = 'knowledge'
           and c.relispartition
           and c.relname ~ '^audit_event_(read|write|admin)_[0-9]{6}$'
    ),
    month as (
        select case class_name when 'read' then 2 when 'write' then 3 else 4 end as audit_class,
               class_name, begin,
               (begin at time zone 'UTC' + interval '1 month') at time zone 'UTC' as "end"
          from part
    )
    select m.audit_class, m.class_name, m.begin, m."end"
      from month m
      join kept k on k.audit_class = m.audit_class
     where m."end" <= now() - make_interval(days => k.days)
     order by m.begin, m.audit_class
"""


async def months(conn: Connection, days: Mapping[int, int]) -> list[Month]:
    """Those that ended so many days ago, by their class, the oldest first."""
    rows = await conn.fetch(MONTHS, list(days), list(days.values()))
    return [Month(*row.values()) for row in rows]


@dataclass(frozen=True, slots=True)
class State:
    """What keeps a month (`waits`: some event has no leaf yet; `held`: under legal hold; `founds`:
    explains other gaps), and the digests of what is gone of it, before and after its pruning."""

    waits: bool
    held: bool
    founds: bool
    before: str
    after: str


STATE: LiteralString = """
    with range as materialized (
        select knowledge.uuid_v7_floor($2::timestamptz) as low,
               knowledge.uuid_v7_floor($3::timestamptz) as high
    ),
    event as materialized (
        select e.event_id, e.collection_uid, e.action
          from range
          join knowledge.audit_event e on e.event_id >= range.low and e.event_id < range.high
         where e.audit_class = $1::smallint
    ),
    gone as (
        select l.log_index, exists (select from event where event.event_id = l.event_id) as ours
          from range
          join knowledge.audit_leaf l on l.event_id >= range.low and l.event_id < range.high
         where not exists (select
                             from knowledge.audit_event e
                            where e.event_id = l.event_id and e.audit_class <> $1::smallint)
    )
    select exists (select
                     from event
                    where not exists (select from knowledge.audit_leaf l
                                       where l.event_id = event.event_id)) as waits,
           exists (select
                     from event
                     left join knowledge.audit_payload p
                       on p.event_id = event.event_id and p.audit_class = $1::smallint
                     join knowledge.legal_hold h on h.release_time is null
                    where h.subject_id = any (p.subject_ids)
                       or (h.document_uid is null and h.collection_uid = event.collection_uid)
                       or (h.document_uid is not null
                           and (h.document_uid = any (p.returned_uids)
                                or h.resource = any (p.resources)))) as held,
           exists (select
                     from event
                    where $1::smallint = 4
                      and (action like 'audit\\_events.prune:%'
                           or action like 'audit.new\\_origin:%')) as founds,
           encode(sha256(coalesce((select string_agg(int8send(log_index), '' order by log_index)
                                     from gone
                                    where not ours), '')), 'hex') as before,
           encode(sha256(coalesce((select string_agg(int8send(log_index), '' order by log_index)
                                     from gone), '')), 'hex') as after
"""


async def state(conn: Connection, month: Month) -> State:
    row = await conn.fetchrow(STATE, month.audit_class, month.begin, month.end)
    if row is None:
        raise AssertionError("it selects one row")
    return State(*row.values())


ANNOUNCED: LiteralString = """
    select e.action, coalesce(l.log_index < s.signed_size, false) as signed
      from knowledge.audit_event e
      left join knowledge.audit_leaf l on l.event_id = e.event_id
      left join knowledge.audit_state s on s.one
     where e.audit_class = 4
       and e.action like 'audit\\_events.prune:%'
       and split_part(e.action, ':', 3) = $1::text
"""


async def announced(conn: Connection, month: Month) -> dict[str, bool]:
    """The actions of the events that announce prunings in this month: whether each is signed."""
    rows = await conn.fetch(ANNOUNCED, str(month))
    return {row["action"]: row["signed"] for row in rows}


DROP: LiteralString = """
    select knowledge.drop_audit_month($1::text, $2::timestamptz)
"""


async def drop(conn: Connection, month: Month) -> None:
    """Drops the month's events and payloads; gives up after 2 s if others keep them locked."""
    await conn.execute(DROP, month.class_name, month.begin)
