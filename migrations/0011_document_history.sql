-- A former revision keeps of its content what the next revision changed: around it stand the next
-- one's first kept_head and last kept_tail characters. Null: the next one's content is the same.
-- What was written before holds its content whole, which is what the defaults say.
alter table knowledge.document_revision
    add column kept_head   integer  not null default 0,
    add column kept_tail   integer  not null default 0,
    -- How many revisions in a row, up to this one, hold a part only: bounds what reading one takes.
    add column part_run    smallint not null default 0,
    -- Set where the document was deleted at that revision.
    add column delete_time timestamptz;

-- The version before reads no former content.
-- squawk-ignore ban-drop-not-null
alter table knowledge.document_revision alter column content drop not null;

-- All revisions of all documents, the current ones too, without content. What makes no revision
-- (origin, state) is as it is now.
create view knowledge.document_history with (security_invoker = true) as
    select d.document_uid, d.collection_uid, d.document_id, d.title, d.content_sha256, d.mime_type,
           d.source_uri, d.metadata, d.labels, d.subject_ids, d.origin, d.state, d.last_error,
           d.chunk_count, d.revision, d.chunk_version, d.event_id, d.create_time, d.update_time,
           d.delete_time, d.purge_time, 'infinity'::timestamptz as until_time
      from knowledge.document d
     union all
    select r.document_uid, d.collection_uid, d.document_id, r.title, r.content_sha256, r.mime_type,
           r.source_uri, r.metadata, r.labels, r.subject_ids, d.origin, d.state, d.last_error,
           r.chunk_count, r.revision, d.chunk_version, r.event_id, d.create_time, r.from_time,
           r.delete_time, null, r.to_time
      from knowledge.document d
      join knowledge.document_revision r on r.document_uid = d.document_uid;

grant select on knowledge.document_history to knowledge_server;
