"""What every statement begins with that takes a document from one revision to the next.

It continues with `PART`, or `SAME_CONTENT` where the content stays, then `FORMER`, then its own.
"""

from collections.abc import Sequence
from enum import Enum, auto
from typing import LiteralString
from uuid import UUID

from asyncpg import Record

from knowledged.database import Connection


class Written(Enum):
    """How a writing statement ended."""

    DONE = auto()
    REPEATED = auto()
    STALE = auto()
    """Collection or document changed since the caller read it, or is gone: read again."""


class NotWritten(Exception):
    """Nothing is written: something changed since it was read, or a copy of the request was first.

    Ends a transaction. Never leaves the server: whoever meets it reads again, and tries again.
    """


# What a mutation finds: the row locked at its latest. It must still be at the version that the
# caller read: then nothing happened between that reading, this statement's snapshot, from which
# spans and vectors are read, and the lock. A deletion makes a revision, so that, too, is as read.
OLD: LiteralString = """
    collection as (
        select collection_uid, collection_id, language::regconfig as language
          from knowledge.collection
         where collection_uid = $4::uuid and revision = $5::bigint and delete_time is null
           and active_space_uid = $8::uuid
           for key share
    ),
    old as (
        select *
          from knowledge.document
         where document_uid = $3::uuid and collection_uid = $4::uuid
           for no key update
    ),
    target as (
        select 'collections/' || c.collection_id || '/documents/' || old.document_id as resource,
               old.document_uid as resource_uid, old.revision + 1 as revision
          from old cross join collection c
         where array[old.revision, old.chunk_version] = $6::bigint[]
    ),
"""

# Continues with a CTE `part` of one row: what the old revision keeps of its content.
FORMER: LiteralString = """
    , former as (
        insert into knowledge.document_revision
               (document_uid, revision, collection_uid, title, content, kept_head, kept_tail,
                part_run, content_sha256, mime_type, source_uri, metadata, labels, subject_ids,
                chunk_count, event_id, from_time, to_time, delete_time)
        select old.document_uid, old.revision, old.collection_uid, old.title, part.content,
               part.kept_head, part.kept_tail, part.part_run, old.content_sha256, old.mime_type,
               old.source_uri, old.metadata, old.labels, old.subject_ids, old.chunk_count,
               old.event_id, old.update_time, $7::timestamptz, old.delete_time
          from gate cross join old cross join part
    )
"""

PART: LiteralString = """
    -- Every sixteenth changed content is kept whole, so that reading one takes at most so many.
    , run as (
        select case when $34::int is null or $34::int + $35::int = 0 then 0
                    else (1 + coalesce(
                         (select r.part_run
                            from knowledge.document_revision r
                           where r.document_uid = $3::uuid and r.content is not null
                           order by r.revision desc
                           limit 1), 0)) % 16 end as part_run
    ),
    part as (
        select case when $34::int is null then null
                    when run.part_run = 0 then old.content
                    else substr(old.content, $34::int + 1,
                                char_length(old.content) - $34::int - $35::int) end as content,
               case when run.part_run = 0 then 0 else $34::int end as kept_head,
               case when run.part_run = 0 then 0 else $35::int end as kept_tail, run.part_run
          from old cross join run
    )
"""

SAME_CONTENT: LiteralString = """
    , part as (select null::text as content, 0 as kept_head, 0 as kept_tail, 0 as part_run)
"""


def changed(row: Record | None) -> Written:
    """How a statement ended that selects `lives`, `fresh` and `done`."""
    if row is None or not row["lives"]:
        return Written.STALE
    if row["done"]:
        return Written.DONE
    return Written.REPEATED if row["fresh"] else Written.STALE


LOCK: LiteralString = """
    select document_uid
      from knowledge.document
     where document_uid = any ($1::uuid[])
     order by document_uid
       for no key update
"""


async def lock(conn: Connection, document_uids: Sequence[UUID]) -> None:
    """Locks documents until the transaction ends, in the order of their uids, as everybody does who
    locks several: so nobody deadlocks."""
    if document_uids:
        await conn.fetch(LOCK, document_uids)
