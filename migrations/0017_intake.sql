-- Streams that bring many items: how far each session has come, and the outcomes that its caller may
-- not have read yet. Written in the transaction that writes the items.
create table knowledge.intake_session (
    session_uid     uuid        not null,
    principal       text        not null,
    rpc             text        not null,
    session_id      uuid        not null,
    collection_uid  uuid        not null,
    -- Of what the start asked for: a session goes on with the same arguments alone.
    arguments_hash  bytea       not null,
    resume_after    bigint      not null default 0,
    -- Grows with every stream of the session; a stream of a former one writes nothing any more.
    stream_number   integer     not null default 1,
    created_count   bigint      not null default 0,
    updated_count   bigint      not null default 0,
    unchanged_count bigint      not null default 0,
    duplicate_count bigint      not null default 0,
    failed_count    bigint      not null default 0,
    expire_time     timestamptz not null,
    constraint intake_session_pk primary key (session_uid),
    constraint intake_session_once unique (principal, rpc, session_id)
);

create index intake_session_by_expire_time on knowledge.intake_session (expire_time);

create table knowledge.intake_outcome (
    session_uid uuid     not null,
    sequence    bigint   not null,
    -- 1 CREATED, 2 UPDATED, 3 UNCHANGED, 4 DUPLICATE, 5 FAILED
    state       smallint not null,
    resource    text     not null,
    revision    bigint   not null,
    event_id    uuid,
    leaf_hash   bytea,
    code        integer  not null,
    reason      text     not null,
    message     text     not null,
    constraint intake_outcome_pk primary key (session_uid, sequence),
    constraint intake_outcome_session foreign key (session_uid)
        references knowledge.intake_session (session_uid) on delete cascade
);

grant select, insert, update, delete on knowledge.intake_session, knowledge.intake_outcome
    to knowledge_server;

-- Finds a text that the collection holds already. On a large table build it concurrently beforehand;
-- then this does nothing.
-- squawk-ignore require-concurrent-index-creation
create index if not exists document_by_content on knowledge.document (collection_uid, content_sha256);
