"""Erasing a subject: what there is of it, and the statements beside those of `purges`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

from knowledged.database import Connection
from knowledged.store import purges
from knowledged.store.purges import Doomed
from knowledged.store.requests import Mutation, recorded


@dataclass(frozen=True, slots=True)
class Found:
    """What there is of a subject; `held` if it is itself under legal hold."""

    documents: int
    revisions: int
    payloads: int
    held_documents: int
    held_payloads: int
    held: bool


# Two erasures of one subject go one after the other.
ALONE: LiteralString = """
    select pg_advisory_xact_lock(hashtextextended('knowledge.erasure ' || $1::text, 0))
"""


async def alone(conn: Connection, subject_name: str) -> None:
    """Until the transaction ends nobody else erases this subject."""
    await conn.execute(ALONE, subject_name)


COUNT: LiteralString = """
    with named as materialized (
        select document_uid from knowledge.document where subject_ids @> array[$1::text]
         union
        select document_uid from knowledge.document_revision where subject_ids @> array[$1::text]
    )
    select (select count(*) from named) as documents,
           (select count(*)
              from named
              join knowledge.document_revision r on r.document_uid = named.document_uid)
           + (select count(*) from named) as revisions,
           (select count(*)
              from knowledge.audit_payload
             where subject_ids @> array[$1::text]) as payloads,
           (select count(*)
              from named
             where knowledge.is_held(document_uid)) as held_documents,
           knowledge.held_payload_count($1::text) as held_payloads,
           exists (select
                     from knowledge.legal_hold
                    where subject_id = $1::text and release_time is null) as held
"""


async def count(conn: Connection, subject_id: str) -> Found:
    """What there is of a subject. In a transaction, no hold is set until it ends."""
    row = await conn.fetchrow(COUNT, subject_id)
    return Found(*row.values()) if row else Found(0, 0, 0, 0, 0, False)


# Also in deleted collections: what is left of them is removed later.
FIND: LiteralString = """
    select d.document_uid, d.collection_uid, c.collection_id, d.document_id, d.subject_ids,
           d.revision, false as held
      from (select document_uid from knowledge.document where subject_ids @> array[$1::text]
             union
            select document_uid
              from knowledge.document_revision
             where subject_ids @> array[$1::text]) named
      join knowledge.document d on d.document_uid = named.document_uid
      join knowledge.collection c on c.collection_uid = d.collection_uid
     order by d.create_time, d.document_uid
     limit $2::int
"""


async def find(conn: Connection, subject_id: str, at_most: int) -> list[Doomed]:
    """The oldest documents of which any revision names the subject, at most so many."""
    return [purges.from_row(row) for row in await conn.fetch(FIND, subject_id, at_most)]


REVISIONS: LiteralString = """
    select count(*) from knowledge.document_revision where document_uid = any ($1::uuid[])
"""


async def revisions(conn: Connection, doomed: Sequence[Doomed]) -> int:
    """How many revisions the documents have, the current ones too."""
    former = await conn.fetchval(REVISIONS, [document.document_uid for document in doomed])
    return int(former) + len(doomed)


ERASE_PAYLOADS: LiteralString = """
    select knowledge.erase_payloads($1::text)
"""


async def erase_payloads(conn: Connection, subject_id: str) -> int:
    """Deletes the audit payloads that name the subject; how many. Fails where one is held."""
    return await conn.fetchval(ERASE_PAYLOADS, subject_id)


FORGET_HOLDS: LiteralString = """
    update knowledge.legal_hold
       set subject_id = $2::text, reason = ''
     where subject_id = $1::text and release_time is not null
"""


async def forget_holds(conn: Connection, subject_id: str, subject_name: str) -> None:
    """Released holds stay on record, under the keyed name."""
    await conn.execute(FORGET_HOLDS, subject_id, subject_name)


RECORD_ERASURE: LiteralString = recorded(
    """
    with target as (
        select $3::text as resource, $4::uuid as resource_uid, 0::bigint as revision
    ),
""",
    """
    -- The deletion of payloads is let through for the sake of this event.
    select set_config('knowledge.erasure_event', resource_uid::text, true) from gate
""",
)


async def record(conn: Connection, mutation: Mutation, answer: str) -> bool:
    """Records the erasure, and what it answers for repeats; False if the request_id is taken."""
    uid: UUID = mutation.event.event_id
    done = await conn.fetchval(RECORD_ERASURE, *mutation.parameters(), answer, uid)
    return done is not None
