-- How long a deleted document is kept. Its time of purging is fixed when it is deleted, so that a
-- caller can rely on what the deletion answered.
alter table knowledge.collection
    add column retention_seconds bigint not null default 2592000,
    add constraint collection_retention_range
        check (retention_seconds between 0 and 3155760000) not valid;

alter table knowledge.document add column purge_time timestamptz;

update knowledge.document
   set purge_time = delete_time + interval '2592000 seconds'
 where delete_time is not null;

-- What the purger looks for, and the deleted documents of a collection. Both are partial and small;
-- making them reads the table once, a second or two for a million documents, and writes wait.
-- squawk-ignore require-concurrent-index-creation
create index document_to_purge on knowledge.document (purge_time, document_uid)
    where purge_time is not null;
-- squawk-ignore require-concurrent-index-creation
create index document_deleted on knowledge.document (collection_uid) where delete_time is not null;

-- Whether a document is under legal hold: nothing may purge it then. Nobody holds anything yet; who
-- brings legal holds replaces this function. Purges lock the document's row before they ask, so a
-- hold must lock it, too (`for key share` does), before it is written.
create function knowledge.is_held(held_document uuid) returns boolean
    language sql stable
    as $$ select false $$;
