"""The changes of a collection's documents, in the order of the audit log."""

from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from knowledged.database import Connection


@dataclass(frozen=True, slots=True)
class DocumentChange:
    """A change of the document `resource`; `document_uid` None where none has that name any more,
    `revision` 0 where it is purged, or none was made."""

    log_index: int
    event_id: UUID
    action: str
    occurred_at: datetime
    resource: str
    document_uid: UUID | None
    revision: int


CHANGES: LiteralString = """
    select l.log_index, e.event_id, e.action, e.occurred_at, r.resource,
           of_name.document_uid,
           coalesce(former.revision, d.revision, 0) as revision
      from knowledge.audit_leaf l
     -- By key into the partition of its month; offset 0 keeps planners from joining all.
     cross join lateral (
           select event_id, action, occurred_at
             from knowledge.audit_event
            where event_id = l.event_id and audit_class = 3 and outcome = 1
              and collection_uid = $1::uuid and action like 'documents.%'
           offset 0) e
     cross join lateral (
           select unnest(resources) as resource
             from knowledge.audit_payload
            where event_id = e.event_id and audit_class = 3
           offset 0) r
      left join knowledge.document of_name
        on of_name.collection_uid = $1::uuid
       and of_name.document_id = split_part(r.resource, '/', 4)
      left join knowledge.document d
        on d.document_uid = of_name.document_uid and d.event_id = e.event_id
      left join knowledge.document_revision former
        on former.document_uid = of_name.document_uid and former.event_id = e.event_id
     where l.log_index >= $2::bigint and l.log_index < $3::bigint
       and r.resource like '%/documents/%'
     order by l.log_index, r.resource
"""


async def changes(
    conn: Connection, collection_uid: UUID, begin: int, end: int
) -> list[DocumentChange]:
    """Those with indices in [begin, end), in order. One whose names are erased is left out."""
    rows = await conn.fetch(CHANGES, collection_uid, begin, end)
    return [DocumentChange(**row) for row in rows]


# Reads are kept less long than changes: a read's event that is gone says nothing. uuid v7 are in
# order of time.
FORGOTTEN: LiteralString = """
    select coalesce(
               (select l.event_id from knowledge.audit_leaf l where l.log_index = $1::bigint)
               < (select event_id
                    from knowledge.audit_event
                   where audit_class = 3
                   order by event_id
                   limit 1)
               and not exists (
                   select
                     from knowledge.audit_leaf l
                     join knowledge.audit_event e on e.event_id = l.event_id
                    where l.log_index = $1::bigint), false)
"""


async def is_forgotten(conn: Connection, log_index: int) -> bool:
    """Whether changes from this index on may be gone from the log."""
    return await conn.fetchval(FORGOTTEN, log_index)
