"""Requests that may come again, and the audit events recorded with them.

A mutation's statement takes both as one composite parameter each: `$1` the event, `$2` the request
key (request_id null: nothing to remember). It names a CTE `target` of at most one row (resource,
resource_uid, revision); from that `RECORD` derives `gate`, which has a row only if this is the
first time, and writes the event from it. What the statement changes, it changes from `gate`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

from asyncpg import Record

from knowledged.audit_leaf import Event, commit, leaf_hash
from knowledged.call import Receipt
from knowledged.database import Connection
from knowledged.errors import AlreadyExists

RECORD: LiteralString = """
    -- A concurrent copy waits here until the first has committed, then finds it and does nothing.
    request as (
        insert into knowledge.request_log as known
               (principal, rpc, request_id, body_hash, resource, resource_uid, revision,
                event_id, leaf_hash, expire_time)
        select r.principal, r.rpc, r.request_id, r.body_hash,
               target.resource, target.resource_uid, target.revision,
               e.event_id, e.leaf_hash, e.occurred_at + interval '24 hours'
          from target
         cross join (select ($1::knowledge.audit_record).*) e
         cross join (select ($2::knowledge.request_key).*) r
         where r.request_id is not null
            on conflict (principal, rpc, request_id) do update
           set body_hash = excluded.body_hash, resource = excluded.resource,
               resource_uid = excluded.resource_uid, revision = excluded.revision,
               event_id = excluded.event_id, leaf_hash = excluded.leaf_hash,
               expire_time = excluded.expire_time
         where known.expire_time < now()
        returning known.request_id
    ),
    gate as (
        select target.*
          from target
         where ($2::knowledge.request_key).request_id is null
            or exists (select from request)
    ),
    event as (
        insert into knowledge.audit_event
               (event_id, audit_class, leaf, occurred_at, rpc, action, outcome, grpc_code,
                collection_uid, result_count, payload_commit)
        select e.event_id, e.audit_class, e.leaf, e.occurred_at, e.rpc, e.action, e.outcome,
               e.grpc_code, e.collection_uid, e.result_count, e.payload_commit
          from gate
         cross join (select ($1::knowledge.audit_record).*) e
    ),
    payload as (
        insert into knowledge.audit_payload
               (event_id, audit_class, salt, payload, actor, on_behalf_of, purpose, resources,
                subject_ids, peer, call_id)
        select e.event_id, e.audit_class, e.salt, e.payload, e.actor, e.on_behalf_of, e.purpose,
               e.resources, e.subject_ids, e.peer, e.call_id
          from gate
         cross join (select ($1::knowledge.audit_record).*) e
    ),
    pending as (
        insert into knowledge.audit_pending (event_id)
        select ($1::knowledge.audit_record).event_id
          from gate
    )
"""


def recorded(target: LiteralString, *then: LiteralString) -> LiteralString:
    """A mutation's statement: up to its `target`, `RECORD`, and what it then changes."""
    return target + RECORD + "".join(then)


@dataclass(frozen=True, slots=True)
class RequestKey:
    """What makes two requests the same one: who, which RPC, the caller's UUID, the body's hash."""

    principal: str
    rpc: str
    request_id: UUID | None
    body_hash: bytes

    def row(self) -> tuple[object, ...]:
        return self.principal, self.rpc, self.request_id, self.body_hash


@dataclass(frozen=True, slots=True)
class Answered:
    """An earlier answer to the same request: which resource, at which revision, by which event."""

    resource: str
    resource_uid: UUID
    revision: int
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Mutation:
    """What a mutating statement takes first: the event it records, the request it answers."""

    event: Event
    request: RequestKey

    @property
    def receipt(self) -> Receipt:
        return Receipt(str(self.event.event_id), leaf_hash(self.event.leaf()))

    def parameters(self) -> tuple[tuple[object, ...], tuple[object, ...]]:
        return event_row(self.event), self.request.row()


def event_row(event: Event) -> tuple[object, ...]:
    """The event as a knowledge.audit_record."""
    payload, encoded = event.payload, event.payload.encode()
    bound = commit(event.salt, encoded)
    leaf = event.leaf_over(bound)
    return (
        event.event_id,
        event.audit_class,
        leaf,
        leaf_hash(leaf),
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
        payload.peer,
        payload.call_id,
    )


FIND: LiteralString = """
    select body_hash, resource, resource_uid, revision, event_id, leaf_hash
      from knowledge.request_log
     where principal = $1::text and rpc = $2::text and request_id = $3::uuid
       and expire_time >= now()
"""


async def find(conn: Connection, key: RequestKey) -> Answered | None:
    """The answer this request had before; None for the first time.

    Raises AlreadyExists when the request_id stands for another body.
    """
    if key.request_id is None:
        return None
    row = await conn.fetchrow(FIND, key.principal, key.rpc, key.request_id)
    return _answered(row, key) if row else None


def _answered(row: Record, key: RequestKey) -> Answered:
    if row["body_hash"] != key.body_hash:
        message = "request_id: was used with another body within 24 hours"
        raise AlreadyExists(message, reason="REQUEST_ID_REUSED")
    receipt = Receipt(str(row["event_id"]), row["leaf_hash"])
    return Answered(row["resource"], row["resource_uid"], row["revision"], receipt)


FIND_MANY: LiteralString = """
    select request_id, body_hash, resource, resource_uid, revision, event_id, leaf_hash
      from knowledge.request_log
     where principal = $1::text and rpc = $2::text and request_id = any ($3::uuid[])
       and expire_time >= now()
"""


async def find_many(conn: Connection, keys: Sequence[RequestKey]) -> list[Answered | None]:
    """The answers that the items of a batch had before, in order; empty for the first time.

    Raises AlreadyExists when one of the request_ids stands for another body.
    """
    if not keys or keys[0].request_id is None:
        return []
    ids = [key.request_id for key in keys]
    rows = await conn.fetch(FIND_MANY, keys[0].principal, keys[0].rpc, ids)
    found = {row["request_id"]: _answered(row, keys[0]) for row in rows}
    return [found.get(request_id) for request_id in ids] if found else []


FORGET: LiteralString = """
    delete from knowledge.request_log
     where (principal, rpc, request_id) in (
               select principal, rpc, request_id
                 from knowledge.request_log
                where expire_time < now()
                limit $1::int)
"""


async def forget(conn: Connection, at_most: int) -> int:
    """Removes expired rows, at most so many; how many."""
    done = await conn.execute(FORGET, at_most)
    return int(done.rpartition(" ")[2])
