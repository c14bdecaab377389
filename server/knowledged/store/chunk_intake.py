"""Chunks of many documents at once, as a stream brings them: several statements a transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from knowledged.call import Receipt
from knowledged.connection import Connection, fetch_each
from knowledged.store.chunk_changes import UPSERT, GivenChunk, Owner, upsertion
from knowledged.store.chunk_copies import Fill
from knowledged.store.collections import Collection
from knowledged.store.requests import Mutation, recorded

# A document's uid and a chunk's id.
Key = tuple[UUID, str]

# In one order everywhere: streams that write to the same documents do not deadlock. One row at
# least, so that a changed collection and missing documents differ.
LOCK_DOCUMENTS: LiteralString = """
    with collection as (
        select collection_uid, active_space_uid
          from knowledge.collection
         where collection_uid = $1::uuid and revision = $3::bigint and delete_time is null
           for key share
    ),
    document as (
        select d.document_id, d.document_uid, d.collection_uid, c.active_space_uid, d.origin,
               d.subject_ids, d.metadata, d.delete_time is not null as deleted
          from collection c
          join knowledge.document d on d.collection_uid = c.collection_uid
         where d.document_id = any ($2::text[])
         order by d.document_id
           for no key update of d
    )
    select exists (select from collection) as lives, document.*
      from (values (1)) one (row)
      left join document on true
"""


@dataclass(frozen=True, slots=True)
class Locked:
    """A document that chunks come to, locked until the transaction ends; deleted ones, too."""

    owner: Owner
    deleted: bool


async def lock_documents(
    conn: Connection, collection: Collection, document_ids: Sequence[str]
) -> dict[str, Locked] | None:
    """Those that are there, by id; None if the collection changed since it was read."""
    rows = await conn.fetch(
        LOCK_DOCUMENTS, collection.collection_uid, document_ids, collection.revision
    )
    if not rows[0]["lives"]:
        return None
    return {
        row["document_id"]: Locked(
            Owner(
                row["document_uid"],
                row["collection_uid"],
                row["active_space_uid"],
                row["origin"],
                tuple(row["subject_ids"]),
                row["metadata"],
            ),
            row["deleted"],
        )
        for row in rows
        if row["document_id"] is not None
    }


HELD: LiteralString = """
    select k.document_uid, k.chunk_id
      from unnest($2::uuid[], $3::text[]) as w (document_uid, chunk_id)
      join knowledge.chunk k on k.document_uid = w.document_uid and k.chunk_id = w.chunk_id
     where k.collection_uid = $1::uuid
"""


async def held(conn: Connection, collection_uid: UUID, chunks: Sequence[Key]) -> set[Key]:
    """Which of these are there already."""
    uids, ids = [uid for uid, _ in chunks], [chunk_id for _, chunk_id in chunks]
    rows = await conn.fetch(HELD, collection_uid, uids, ids)
    return {(row["document_uid"], row["chunk_id"]) for row in rows}


@dataclass(frozen=True, slots=True)
class Part:
    """The chunks that one document gets, and their audit event with its receipt. Of `only_new`
    ones none is there yet, and each has its vector."""

    mutation: Mutation
    owner: Owner
    chunks: list[GivenChunk]
    receipt: Receipt
    only_new: bool

    @property
    def at(self) -> datetime:
        return self.mutation.event.occurred_at


# Before the chunks themselves, in the transaction that holds the document's lock.
ADD: LiteralString = recorded(
    """
    with owner as (
        select d.document_uid, d.revision, c.language::regconfig::oid as language,
               'collections/' || c.collection_id || '/documents/' || d.document_id as resource
          from knowledge.document d
          join knowledge.collection c on c.collection_uid = d.collection_uid
         where d.document_uid = $3::uuid
    ),
    target as (
        select resource, document_uid as resource_uid, revision from owner
    ),
""",
    """
    -- Looked at only if one of them may not be ACTIVE: otherwise each batch of a large document
    -- would read all that came before.
    , other as (
        select k.state
          from knowledge.chunk_span s
          join knowledge.chunk k on k.chunk_uid = s.chunk_uid
         where s.document_uid = $3::uuid and s.to_revision is null
    ),
    document as (
        update knowledge.document d
           set chunk_version = d.chunk_version + 1,
               chunk_count = d.chunk_count + $4::int,
               state = case when d.state = 2 then 2
                            when exists (select from other where state = 1) then 1
                            when exists (select from other where state = 3) then 3
                            else 2 end,
               last_error = case when d.state <> 2 and exists (select from other where state = 3)
                                 then d.last_error else '' end
          from gate
         where d.document_uid = gate.resource_uid
    )
    select revision, language from owner
""",
)


# For the rest of a transaction on a connection that keeps its plans: what is joined to as many rows
# as a batch has must not be looked through for each of them.
_PLAN_EACH: LiteralString = """
    set local plan_cache_mode = auto;
    set local enable_seqscan = on;
    set local enable_hashjoin = on;
    set local enable_mergejoin = on
"""


async def write(conn: Connection, parts: Sequence[Part]) -> list[Fill]:
    """Writes all parts, in the transaction that locked their documents, but for the chunks that
    are still to be copied: `chunk_copies.copy`."""
    if mixed := [part for part in parts if not part.only_new]:
        await conn.execute(_PLAN_EACH)
        rows = [upsertion(part.mutation, part.owner, part.at, part.chunks) for part in mixed]
        await fetch_each(conn, UPSERT, rows)
    return await _add(conn, [part for part in parts if part.only_new])


async def _add(conn: Connection, parts: Sequence[Part]) -> list[Fill]:
    if not parts:
        return []
    to_record = [
        (*part.mutation.parameters(), part.owner.document_uid, len(part.chunks)) for part in parts
    ]
    return [
        Fill(part.owner, part.chunks, part.at, row["revision"], row["language"])
        for part, row in zip(parts, await fetch_each(conn, ADD, to_record), strict=True)
    ]
