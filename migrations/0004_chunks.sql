-- A chunk's text, once per document however many revisions hold it. A chunk in state 1 (PENDING)
-- has no vector yet: these rows are the work queue.
create table knowledge.chunk (
    chunk_uid       uuid        not null,
    collection_uid  uuid        not null,
    document_uid    uuid        not null,
    chunk_id        text        not null,
    content         text        not null,
    content_sha256  bytea       not null,
    metadata        jsonb       not null default '{}',
    token_count     integer     not null,
    -- 1 PENDING, 2 ACTIVE, 3 FAILED
    state           smallint    not null,
    last_error      text        not null default '',
    attempts        integer     not null default 0,
    next_attempt_at timestamptz not null default '-infinity',
    language        regconfig   not null,
    -- A generated column cannot read the collection, so the language stands on the row.
    lexemes         tsvector    generated always as (to_tsvector(language, content)) stored,
    create_time     timestamptz not null,
    update_time     timestamptz not null,
    constraint chunk_pk primary key (chunk_uid),
    constraint chunk_id_once unique (document_uid, chunk_id),
    constraint chunk_document foreign key (document_uid)
        references knowledge.document (document_uid) on delete cascade,
    constraint chunk_state_known check (state between 1 and 3)
);

create index chunk_of_collection on knowledge.chunk (collection_uid, chunk_uid);
create index chunk_pending on knowledge.chunk (next_attempt_at, chunk_uid) where state = 1;
create index chunk_lexemes on knowledge.chunk using gin (lexemes);

-- Where a chunk stands in which revisions of its document: from from_revision until, not including,
-- to_revision, which is null while it still does.
create table knowledge.chunk_span (
    document_uid  uuid    not null,
    chunk_uid     uuid    not null,
    ordinal       integer not null,
    start_offset  bigint,
    end_offset    bigint,
    from_revision bigint  not null,
    to_revision   bigint,
    constraint chunk_span_pk primary key (document_uid, from_revision, ordinal, chunk_uid),
    constraint chunk_span_document foreign key (document_uid)
        references knowledge.document (document_uid) on delete cascade
);

-- Partial as the one below: of a whole one and that, a plan without statistics would take both.
create index chunk_span_of_chunk on knowledge.chunk_span (chunk_uid) where to_revision is null;
create index chunk_span_current on knowledge.chunk_span (document_uid, ordinal)
    where to_revision is null;

grant select, insert, update, delete on knowledge.chunk, knowledge.chunk_span
    to knowledge_server;
