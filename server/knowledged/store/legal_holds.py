"""Legal holds: setting, releasing and listing them. `knowledge.is_held` says what they cover."""

from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

import asyncpg
from asyncpg import Record

from knowledged.database import Connection
from knowledged.errors import AlreadyExists, NotFound
from knowledged.store.filter_sql import Column, Condition, Fields, Kind
from knowledged.store.paging import Order, Page
from knowledged.store.requests import Mutation, recorded


@dataclass(frozen=True, slots=True)
class LegalHold:
    """A hold's row: of a subject, or of a collection and perhaps one document in it."""

    legal_hold_uid: UUID
    legal_hold_id: str
    reason: str
    resource: str
    subject_id: str | None
    document_uid: UUID | None
    collection_uid: UUID | None
    create_time: datetime
    release_time: datetime | None = None


FIELDS = Fields(
    {
        "legal_hold_id": Column("h.legal_hold_id", Kind.STRING),
        "subject_id": Column("coalesce(h.subject_id, '')", Kind.STRING),
        "resource": Column("h.resource", Kind.STRING),
        "create_time": Column("h.create_time", Kind.TIMESTAMP),
    }
)

SET: LiteralString = recorded(
    """
    -- Waits for removals under way; those that come later wait for us, and then see the hold.
    with alone as materialized (
        select pg_advisory_xact_lock(hashtextextended('knowledge.legal_hold', 0))
    ),
    target as (
        select 'legalHolds/' || $4::text as resource, $3::uuid as resource_uid,
               1::bigint as revision
          from alone
    ),
""",
    """
    insert into knowledge.legal_hold
           (legal_hold_uid, legal_hold_id, reason, resource, subject_id, document_uid,
            collection_uid, event_id, create_time)
    select $3::uuid, $4::text, $5::text, $6::text, $7::text, $8::uuid, $9::uuid,
           ($1::knowledge.audit_record).event_id, $10::timestamptz
      from gate
    returning legal_hold_uid
""",
)


async def set_hold(conn: Connection, mutation: Mutation, row: LegalHold) -> bool:
    """Sets a hold, once no removal is under way; False if this is a repeat.

    Raises AlreadyExists when the id is taken.
    """
    try:
        made = await conn.fetchval(
            SET,
            *mutation.parameters(),
            row.legal_hold_uid,
            row.legal_hold_id,
            row.reason,
            row.resource,
            row.subject_id,
            row.document_uid,
            row.collection_uid,
            row.create_time,
        )
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name != "legal_hold_id_once":
            raise
        raise AlreadyExists("legal_hold_id: is taken") from error
    return made is not None


RELEASE: LiteralString = recorded(
    """
    with old as (
        select legal_hold_uid, legal_hold_id
          from knowledge.legal_hold
         where legal_hold_uid = $3::uuid and release_time is null
           for update
    ),
    target as (
        select 'legalHolds/' || legal_hold_id as resource, legal_hold_uid as resource_uid,
               2::bigint as revision
          from old
    ),
""",
    """
    update knowledge.legal_hold h
       set release_time = $4::timestamptz
      from gate
     where h.legal_hold_uid = gate.resource_uid
    returning h.legal_hold_uid
""",
)


async def release(conn: Connection, mutation: Mutation, uid: UUID, at: datetime) -> bool:
    """Releases a hold; False if it was released, or this is a repeat."""
    return await conn.fetchval(RELEASE, *mutation.parameters(), uid, at) is not None


# A subject's hold is over all collections, so only those who are granted all may know of it.
GET: LiteralString = """
    select h.legal_hold_uid, h.legal_hold_id, h.reason, h.resource, h.subject_id, h.document_uid,
           h.collection_uid, h.create_time, h.release_time
      from knowledge.legal_hold h
     where h.legal_hold_id = $1::text
       and ($2::text[] is null
            or h.collection_uid in (select collection_uid from knowledge.collection
                                     where collection_id = any ($2::text[])))
"""


async def get(conn: Connection, legal_hold_id: str, granted: list[str] | None) -> LegalHold:
    """A hold, released ones too. NotFound also when its collection is not granted."""
    row = await conn.fetchrow(GET, legal_hold_id, granted)
    if row is None:
        raise NotFound("legal hold: not found")
    return _hold(row)


LIST: LiteralString = """
    select h.legal_hold_uid, h.legal_hold_id, h.reason, h.resource, h.subject_id, h.document_uid,
           h.collection_uid, h.create_time, h.release_time
      from knowledge.legal_hold h
     where ($1::text[] is null
            or h.collection_uid in (select collection_uid from knowledge.collection
                                     where collection_id = any ($1::text[])))
       and ($2::bool or h.release_time is null)
"""

ORDERS = {"create_time": Order("h.create_time", "timestamptz", "h.legal_hold_uid")}


async def list_page(
    conn: Connection, granted: list[str] | None, released: bool, condition: Condition, page: Page
) -> list[LegalHold]:
    """One hold more than the page's size, if there is one."""
    statement, parameters = page.statement(LIST, condition, 2)
    rows = await conn.fetch(statement, granted, released, *parameters)
    return [_hold(row) for row in rows]


def _hold(row: Record) -> LegalHold:
    return LegalHold(*row.values())
