"""What must hold of the database whatever happened to the server: read-only SQL, one check a name.

A check selects what breaks it. Rows of deleted collections are left out: they go in the background.
"""

from typing import LiteralString

from knowledged.connection import Connection

# Whose data is still there.
_LIVE: LiteralString = """
    with recursive live as (
        select c.collection_uid, c.active_space_uid
          from knowledge.collection c
         where c.delete_time is null
    ),
    doc as (
        select d.* from knowledge.document d join live using (collection_uid)
    ),
    -- Former contents are put together again, from the current one backwards.
    revision as (
        select document_uid, revision, event_id, chunk_count, content, content_sha256, origin,
               update_time as from_time, null::timestamptz as to_time, delete_time
          from doc
         union all
        select r.document_uid, r.revision, r.event_id, r.chunk_count,
               coalesce(left(next.content, r.kept_head) || r.content
                        || right(next.content, r.kept_tail), next.content),
               r.content_sha256, next.origin, r.from_time, r.to_time, r.delete_time
          from revision next
          join knowledge.document_revision r
            on r.document_uid = next.document_uid and r.revision = next.revision - 1
    ),
    change as (
        select e.event_id, e.action, e.collection_uid
          from knowledge.audit_event e
         where e.audit_class >= 3 and e.outcome = 1
    ),
    k as (
        select chunk.* from knowledge.chunk join live using (collection_uid)
    ),
    vector as (
        select space_uid, chunk_uid, document_uid, embedding, true as searched
          from knowledge.chunk_vector
         union all
        select space_uid, chunk_uid, document_uid, embedding, false
          from knowledge.chunk_vector_parked
    ),
    here as (
        select vector.* from vector join live on live.active_space_uid = vector.space_uid
    )
"""

CHECKS: dict[str, LiteralString] = {
    # Audit: mutations and events match one to one, in both directions.
    "a revision without its event": """
        select document_uid || ' ' || revision from revision r
         where not exists (select from change e
                            where e.event_id = r.event_id
                              and e.action like 'documents.%')
    """,
    "an event of two revisions": """
        select event_id::text from revision group by event_id having count(*) > 1
    """,
    "a document's event without its revision": """
        select e.event_id::text from change e join live using (collection_uid)
         where e.action like 'documents.%'
           and not exists (select from revision r where r.event_id = e.event_id)
           -- Of a purged document the events stay, and one that says so.
           and not exists (
               select from knowledge.audit_payload p
                 join knowledge.audit_payload gone on gone.resources = p.resources
                 join change purge on purge.event_id = gone.event_id
                                  and purge.action = 'documents.purge'
                where p.event_id = e.event_id)
           and exists (select from knowledge.audit_payload p where p.event_id = e.event_id)
    """,
    "an event that says another action than its revision": """
        select e.event_id::text from change e
          join revision r using (event_id)
          left join revision before on before.document_uid = r.document_uid
                                   and before.revision = r.revision - 1
         where e.action <> all (case when r.revision = 1 then array['documents.create']
                                     when r.delete_time is not null then array['documents.delete']
                                     when before.delete_time is not null
                                     then array['documents.undelete']
                                     else array['documents.update', 'documents.rollback'] end)
    """,
    "a collection without its event": """
        select c.collection_id from knowledge.collection c
         where not exists (select from change e
                            where e.event_id = c.event_id
                              and e.collection_uid = c.collection_uid)
    """,
    "a collection with more or fewer events than revisions": """
        select c.collection_id from knowledge.collection c
         where c.revision <> (select count(*) from change e
                               where e.collection_uid = c.collection_uid
                                 and e.action like 'collections.%')
    """,
    "a change that was refused and yet has a revision": """
        select e.event_id::text from knowledge.audit_event e
          join revision using (event_id)
         where e.outcome <> 1
    """,
    "an event whose outcome is not its code's": """
        select event_id::text from knowledge.audit_event
         where (outcome = 1) <> (grpc_code = 0)
    """,
    "an event that counts less than it returned": """
        select e.event_id::text from knowledge.audit_event e
          join knowledge.audit_payload p using (event_id, audit_class)
         where cardinality(p.returned_uids) > e.result_count
    """,
    "an event twice": """
        select event_id::text from knowledge.audit_event group by event_id having count(*) > 1
    """,
    "an event without its payload": """
        select e.event_id::text from knowledge.audit_event e
         where not exists (select from knowledge.audit_payload p
                            where p.event_id = e.event_id and p.audit_class = e.audit_class)
           -- An erasure takes those of whom it names, and says only how many.
           and not exists (select from knowledge.audit_event erasure
                            where erasure.action = 'subjects.erase'
                              and erasure.recorded_at >= e.recorded_at)
    """,
    "a payload without its event": """
        select p.event_id::text from knowledge.audit_payload p
         where not exists (select from knowledge.audit_event e
                            where e.event_id = p.event_id and e.audit_class = p.audit_class)
    """,
    "a payload that its event does not commit to": """
        select e.event_id::text from knowledge.audit_event e
          join knowledge.audit_payload p using (event_id, audit_class)
         where e.payload_commit <> sha256(p.salt || p.payload)
            or right(encode(e.leaf, 'hex'), 64) <> encode(e.payload_commit, 'hex')
    """,
    "a leaf of another event": """
        select event_id::text from knowledge.audit_event
         where substr(leaf, 2, 16) <> uuid_send(event_id)
    """,
    "an event neither pending nor in the tree, or both": """
        select e.event_id::text from knowledge.audit_event e
          left join knowledge.audit_pending p using (event_id)
          left join knowledge.audit_leaf l using (event_id)
         where (p.event_id is null) = (l.event_id is null)
    """,
    "a pending row or leaf without its event": """
        select w.event_id::text
          from (select event_id from knowledge.audit_pending
                 union all select event_id from knowledge.audit_leaf) w
         where not exists (select from knowledge.audit_event e where e.event_id = w.event_id)
    """,
    "a remembered request without its event": """
        select q.request_id::text from knowledge.request_log q
         where not exists (select from change e where e.event_id = q.event_id)
    """,
    "two remembered requests of one event": """
        select event_id::text from knowledge.request_log group by event_id having count(*) > 1
    """,
    # Documents: revisions follow each other, and text is what its hash says.
    "revisions with a gap": """
        select document_uid::text from revision
         group by document_uid
        having count(*) <> max(revision) or min(revision) <> 1
    """,
    "revisions whose times do not meet": """
        select r.document_uid || ' ' || r.revision from revision r
          join revision next on next.document_uid = r.document_uid
                            and next.revision = r.revision + 1
         where r.to_time is distinct from next.from_time
    """,
    "a text that is not what its hash says": """
        select document_uid || ' ' || revision from revision
         where content_sha256 <> sha256(convert_to(content, 'UTF8'))
         union all
        select chunk_uid::text from k where content_sha256 <> sha256(convert_to(content, 'UTF8'))
    """,
    # Spans: each revision has all its chunks, in order, where they stand in its text.
    "a revision with more or fewer chunks than it says": """
        select r.document_uid || ' ' || r.revision from revision r
         where r.origin = 1
           and r.chunk_count <> (
               select count(distinct s.chunk_uid) from knowledge.chunk_span s
                where s.document_uid = r.document_uid and s.from_revision <= r.revision
                  and (s.to_revision is null or s.to_revision > r.revision))
    """,
    "a caller's document with more or fewer chunks than it says": """
        select d.document_uid::text from doc d
         where d.origin = 2
           and d.chunk_count <> (select count(*) from knowledge.chunk_span s
                                  where s.document_uid = d.document_uid and s.to_revision is null)
    """,
    "a text without chunks": """
        select document_uid || ' ' || revision from revision
         where origin = 1 and chunk_count = 0 and content ~ '\\S'
    """,
    "spans that are not contiguous": """
        select r.document_uid || ' ' || r.revision from revision r
          join knowledge.chunk_span s
            on s.document_uid = r.document_uid and s.from_revision <= r.revision
           and (s.to_revision is null or s.to_revision > r.revision)
         where r.origin = 1
         group by r.document_uid, r.revision
        having min(s.ordinal) <> 0
            or max(s.ordinal) <> count(*) - 1
            or count(distinct s.ordinal) <> count(*)
    """,
    "a span that is not where its chunk's text stands": """
        select s.document_uid || ' ' || s.ordinal from knowledge.chunk_span s
          join revision r on r.document_uid = s.document_uid and s.from_revision <= r.revision
                         and (s.to_revision is null or s.to_revision > r.revision)
          join k on k.chunk_uid = s.chunk_uid
         where r.origin = 1
           and substr(r.content, s.start_offset::int + 1, (s.end_offset - s.start_offset)::int)
               <> k.content
    """,
    "a span of another document's chunk": """
        select s.document_uid || ' ' || s.ordinal from knowledge.chunk_span s
          join k on k.chunk_uid = s.chunk_uid
         where k.document_uid <> s.document_uid
    """,
    "a chunk without a span": """
        select k.chunk_uid::text from k
         where not exists (select from knowledge.chunk_span s where s.chunk_uid = k.chunk_uid)
    """,
    # Vectors: one for each embedded chunk, searched only where it is current.
    "a vector without its chunk": """
        select v.chunk_uid::text from vector v
         where not exists (select from knowledge.chunk c
                            where c.chunk_uid = v.chunk_uid and c.document_uid = v.document_uid)
    """,
    "an embedded chunk without exactly one vector": """
        select k.chunk_uid::text from k
          left join here on here.chunk_uid = k.chunk_uid
         where k.state = 2
         group by k.chunk_uid
        having count(here.chunk_uid) <> 1
    """,
    "a chunk with a vector that waits for one": """
        select k.chunk_uid::text from k join here using (chunk_uid) where k.state <> 2
    """,
    "a searched vector of a deleted document or a former revision": """
        select v.chunk_uid::text from here v
          join doc d on d.document_uid = v.document_uid
         where v.searched
           and (d.delete_time is not null
                or not exists (select from knowledge.chunk_span s
                                where s.chunk_uid = v.chunk_uid and s.to_revision is null))
    """,
    "a parked vector of a live document's current revision": """
        select v.chunk_uid::text from here v
          join doc d on d.document_uid = v.document_uid
          join knowledge.chunk_span s on s.chunk_uid = v.chunk_uid and s.to_revision is null
         where not v.searched and d.delete_time is null
    """,
    "a document whose state is not that of its chunks": """
        select d.document_uid::text from doc d
         where d.delete_time is null
           -- While one chunk waits and another has failed, either may be said.
           and d.state <> all (coalesce(
               (select case when bool_or(k.state = 3) and bool_or(k.state = 1) then array[1, 3]
                            when bool_or(k.state = 3) then array[3]
                            when bool_or(k.state = 1) then array[1]
                            else array[2] end
                  from knowledge.chunk_span s join k on k.chunk_uid = s.chunk_uid
                 where s.document_uid = d.document_uid and s.to_revision is null), array[2]))
    """,
}


async def broken(conn: Connection) -> dict[str, list[str]]:
    """What breaks an invariant, by the names of the checks; empty if all is well."""
    found = {name: await conn.fetch(_LIVE + check) for name, check in CHECKS.items()}
    return {name: [row[0] for row in rows] for name, rows in found.items() if rows}


WAITING: LiteralString = "select count(*) from knowledge.chunk where state = 1"


async def waiting(conn: Connection) -> int:
    """How many chunks still wait for their vectors."""
    return int(await conn.fetchval(WAITING))
