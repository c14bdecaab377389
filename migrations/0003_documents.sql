-- A document's current state, and each former revision with the time it was valid.
create table knowledge.document (
    document_uid   uuid        not null,
    collection_uid uuid        not null,
    document_id    text        not null,
    title          text        not null,
    content        text        not null,
    content_sha256 bytea       not null,
    mime_type      text        not null,
    source_uri     text        not null,
    metadata       jsonb       not null,
    labels         jsonb       not null,
    subject_ids    text[]      not null,
    -- 1 SERVER, 2 CALLER
    origin         smallint    not null,
    -- 1 PENDING, 2 ACTIVE, 3 FAILED
    state          smallint    not null,
    last_error     text        not null default '',
    chunk_count    integer     not null default 0,
    revision       bigint      not null default 1,
    -- Grows with every write of chunks or vectors that makes no revision. A statement that moves
    -- vectors compares it, with revision, between its snapshot and the locked row.
    chunk_version  bigint      not null default 1,
    event_id       uuid        not null,
    create_time    timestamptz not null,
    update_time    timestamptz not null,
    delete_time    timestamptz,
    constraint document_pk primary key (document_uid),
    constraint document_id_once unique (collection_uid, document_id),
    constraint document_collection foreign key (collection_uid)
        references knowledge.collection (collection_uid),
    constraint document_origin_known check (origin between 1 and 2),
    constraint document_state_known check (state between 1 and 3)
);

create index document_by_create_time
    on knowledge.document (collection_uid, create_time, document_uid);
create index document_by_update_time
    on knowledge.document (collection_uid, update_time, document_uid);
create index document_metadata on knowledge.document using gin (metadata jsonb_path_ops);
create index document_subjects on knowledge.document using gin (subject_ids);

create table knowledge.document_revision (
    document_uid   uuid        not null,
    revision       bigint      not null,
    collection_uid uuid        not null,
    title          text        not null,
    content        text        not null,
    content_sha256 bytea       not null,
    mime_type      text        not null,
    source_uri     text        not null,
    metadata       jsonb       not null,
    labels         jsonb       not null,
    subject_ids    text[]      not null,
    chunk_count    integer     not null,
    event_id       uuid        not null,
    from_time      timestamptz not null,
    to_time        timestamptz not null,
    constraint document_revision_pk primary key (document_uid, revision),
    constraint document_revision_document foreign key (document_uid)
        references knowledge.document (document_uid) on delete cascade
);

create index document_revision_subjects
    on knowledge.document_revision using gin (subject_ids);

grant select, insert, update, delete on knowledge.document, knowledge.document_revision
    to knowledge_server;
