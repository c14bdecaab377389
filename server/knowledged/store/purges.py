"""Removing documents for good, with all that hangs on them; their audit events stay.

In a transaction: lock the documents, so that nobody changes or holds them meanwhile; ask whether
one is held; then one statement removes them and records an event for each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

from asyncpg import Record

from knowledged.database import Connection
from knowledged.store.filter_sql import Condition
from knowledged.store.paging import Order, Page
from knowledged.store.requests import Mutation, event_row


@dataclass(frozen=True, slots=True)
class Doomed:
    """A document to purge, as it was found; `held` if it is under legal hold."""

    document_uid: UUID
    collection_uid: UUID
    name: str
    subject_ids: tuple[str, ...]
    revision: int
    held: bool


@dataclass(frozen=True, slots=True)
class Count:
    """How many documents a filter matches, and how many of these are under legal hold."""

    matching: int
    held: int


FIND: LiteralString = """
    select d.document_uid, d.collection_uid, c.collection_id, d.document_id, d.subject_ids,
           d.revision, false as held
      from knowledge.document d
      join knowledge.collection c on c.collection_uid = d.collection_uid
     where d.collection_uid = $1::uuid
       and c.delete_time is null
"""
OLDEST_FIRST = Order("d.create_time", "timestamptz", "d.document_uid")


async def find(
    conn: Connection, collection_uid: UUID, condition: Condition, at_most: int
) -> list[Doomed]:
    """The oldest documents that match, one more than `at_most` if there are more."""
    statement, parameters = Page(at_most, OLDEST_FIRST).statement(FIND, condition, 1)
    return [from_row(row) for row in await conn.fetch(statement, collection_uid, *parameters)]


_COUNT: tuple[LiteralString, LiteralString] = (
    """
    select count(*) as matching, count(*) filter (where knowledge.is_held(document_uid)) as held
      from (select d.document_uid
              from knowledge.document d
              join knowledge.collection c on c.collection_uid = d.collection_uid
             where d.collection_uid = $1::uuid
               and c.delete_time is null
               and """,
    """
             limit 100001) matching
""",
)


async def count(conn: Connection, collection_uid: UUID, condition: Condition) -> Count:
    """Counted up to 100,000; 100,001 means more."""
    statement = condition.sql.join(_COUNT)
    row = await conn.fetchrow(statement, collection_uid, *condition.parameters)
    return Count(row["matching"], row["held"]) if row else Count(0, 0)


LOCK: LiteralString = """
    select document_uid
      from knowledge.document
     where document_uid = any ($1::uuid[])
     order by document_uid
       for update
"""
# A second statement: what it reads is as it was left by whoever held the locks before.
LOCKED: LiteralString = """
    select d.document_uid, d.collection_uid, c.collection_id, d.document_id, d.subject_ids,
           d.revision, knowledge.is_held(d.document_uid) as held
      from knowledge.document d
      join knowledge.collection c on c.collection_uid = d.collection_uid
     where d.document_uid = any ($1::uuid[])
     order by d.create_time, d.document_uid
"""


async def lock(conn: Connection, found: Sequence[Doomed]) -> list[Doomed]:
    """Those of the documents that are still as they were found, locked until the transaction
    ends."""
    uids = [doomed.document_uid for doomed in found]
    await conn.fetch(LOCK, uids)
    as_found = {(doomed.document_uid, doomed.revision) for doomed in found}
    locked = [from_row(row) for row in await conn.fetch(LOCKED, uids)]
    return [doomed for doomed in locked if (doomed.document_uid, doomed.revision) in as_found]


# What a version that knew no purge_time deleted, while both served.
SCHEDULE: LiteralString = """
    update knowledge.document d
       set purge_time = d.delete_time + make_interval(secs => c.retention_seconds)
      from knowledge.collection c
     where c.collection_uid = d.collection_uid
       and d.delete_time is not null
       and d.purge_time is null
"""


async def schedule(conn: Connection) -> None:
    """Gives every deleted document a time of purging."""
    await conn.execute(SCHEDULE)


# Any replica may purge: each takes what the others have not.
DUE: LiteralString = """
    select d.document_uid, d.collection_uid, c.collection_id, d.document_id, d.subject_ids,
           d.revision, false as held
      from knowledge.document d
      join knowledge.collection c on c.collection_uid = d.collection_uid
     where d.purge_time <= now()
       and not knowledge.is_held(d.document_uid)
     order by d.purge_time, d.document_uid
     limit $1::int
       for update of d skip locked
"""


async def due(conn: Connection, at_most: int) -> list[Doomed]:
    """Deleted documents whose time is over, locked until the transaction ends."""
    found = [from_row(row) for row in await conn.fetch(DUE, at_most)]
    return [doomed for doomed in await lock(conn, found) if not doomed.held]


# The spaces are bound: a plan then locks their partitions alone, not every collection's.
SPACES: LiteralString = """
    select space_uid from knowledge.vector_space where collection_uid = $1::uuid
"""
PURGE: LiteralString = """
    with made as (
        select * from unnest($1::knowledge.audit_record[], $2::knowledge.request_key[], $3::uuid[])
            as m (event_id, audit_class, leaf, leaf_hash, occurred_at, rpc, action, outcome,
                  grpc_code, collection_uid, result_count, payload_commit, salt, payload, actor,
                  on_behalf_of, purpose, resources, subject_ids, peer, call_id,
                  principal, requested_rpc, request_id, body_hash, document_uid)
    ),
    event as (
        insert into knowledge.audit_event
               (event_id, audit_class, leaf, occurred_at, rpc, action, outcome, grpc_code,
                collection_uid, result_count, payload_commit)
        select event_id, audit_class, leaf, occurred_at, rpc, action, outcome, grpc_code,
               collection_uid, result_count, payload_commit
          from made
    ),
    payload as (
        insert into knowledge.audit_payload
               (event_id, audit_class, salt, payload, actor, on_behalf_of, purpose, resources,
                subject_ids, peer, call_id)
        select event_id, audit_class, salt, payload, actor, on_behalf_of, purpose, resources,
               subject_ids, peer, call_id
          from made
    ),
    pending as (
        insert into knowledge.audit_pending (event_id)
        select event_id from made
    ),
    -- Without names: these may tell as much as a text. Whether there are more stands in place of a
    -- revision.
    request as (
        insert into knowledge.request_log as known
               (principal, rpc, request_id, body_hash, resource, resource_uid, revision,
                event_id, leaf_hash, expire_time)
        select principal, requested_rpc, request_id, body_hash, '', document_uid, $5::bigint,
               event_id, leaf_hash, occurred_at + interval '24 hours'
          from made
         where request_id is not null
            on conflict (principal, rpc, request_id) do update
           set body_hash = excluded.body_hash, resource = excluded.resource,
               resource_uid = excluded.resource_uid, revision = excluded.revision,
               event_id = excluded.event_id, leaf_hash = excluded.leaf_hash,
               expire_time = excluded.expire_time
         where known.expire_time < now()
    ),
    -- Repeats of earlier requests are still known as such, and find that the document is gone.
    forgotten as (
        update knowledge.request_log
           set resource = ''
         where resource_uid = any ($3::uuid[])
    ),
    vector as (
        delete from knowledge.chunk_vector
         where space_uid = any ($4::uuid[]) and document_uid = any ($3::uuid[])
    ),
    parked as (
        delete from knowledge.chunk_vector_parked
         where document_uid = any ($3::uuid[])
    )
    delete from knowledge.document
     where document_uid = any ($3::uuid[])
"""


async def purge(
    conn: Connection, doomed: Sequence[Doomed], mutations: Sequence[Mutation], *, more: bool
) -> None:
    """Removes locked documents of one collection, each with its event, in the same order.

    Revisions, chunks and spans go with the documents. `more` is kept for repeats of the request.
    """
    uids = [document.document_uid for document in doomed]
    spaces = await conn.fetch(SPACES, doomed[0].collection_uid)
    await conn.execute(
        PURGE,
        [event_row(mutation.event) for mutation in mutations],
        [mutation.request.row() for mutation in mutations],
        uids,
        [row["space_uid"] for row in spaces],
        int(more),
    )


def from_row(row: Record) -> Doomed:
    """Of a row with the columns of `FIND`."""
    return Doomed(
        row["document_uid"],
        row["collection_uid"],
        f"collections/{row['collection_id']}/documents/{row['document_id']}",
        tuple(row["subject_ids"]),
        row["revision"],
        row["held"],
    )
