-- Legal holds: what they cover is not purged, erased or pruned until they are released. A hold is
-- never deleted; releasing it stays on record.
create table knowledge.legal_hold (
    legal_hold_uid uuid        not null,
    legal_hold_id  text        not null,
    reason         text        not null,
    -- The resource's name, or empty for a subject; it stays when the resource is gone.
    resource       text        not null,
    subject_id     text,
    document_uid   uuid,
    collection_uid uuid,
    event_id       uuid        not null,
    create_time    timestamptz not null,
    release_time   timestamptz,
    constraint legal_hold_pk primary key (legal_hold_uid),
    constraint legal_hold_id_once unique (legal_hold_id),
    constraint legal_hold_covers_something check (num_nonnulls(subject_id, collection_uid) = 1)
);

create index legal_hold_by_subject on knowledge.legal_hold (subject_id)
    where release_time is null and subject_id is not null;
create index legal_hold_by_collection on knowledge.legal_hold (collection_uid)
    where release_time is null and collection_uid is not null;
create index legal_hold_by_time on knowledge.legal_hold (create_time, legal_hold_uid);

grant select, insert, update on knowledge.legal_hold to knowledge_server;

-- Whether a document is under hold: it, its collection, or a subject that any revision of it names.
-- Who sets a hold takes this lock alone, so it waits for removals under way, and removals that come
-- later see it: each query of a volatile function has a snapshot of its own.
create or replace function knowledge.is_held(held_document uuid) returns boolean
    language plpgsql volatile set search_path = pg_catalog, pg_temp
    as $$
begin
    perform pg_advisory_xact_lock_shared(hashtextextended('knowledge.legal_hold', 0));
    return exists (
        select
          from knowledge.document d
          join knowledge.legal_hold h on h.collection_uid = d.collection_uid
         where d.document_uid = held_document
           and h.release_time is null
           and (h.document_uid is null or h.document_uid = d.document_uid)
    ) or exists (
        select
          from (select subject_ids from knowledge.document where document_uid = held_document
                 union all
                select subject_ids from knowledge.document_revision
                 where document_uid = held_document) named
         cross join unnest(named.subject_ids) subject (id)
          join knowledge.legal_hold h on h.subject_id = subject.id
         where h.release_time is null
    );
end
$$;
