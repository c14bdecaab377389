-- Answers to repeats: the repeated answer is rebuilt from the resource's revision, so no content
-- stands here.
create table knowledge.request_log (
    principal   text        not null,
    rpc         text        not null,
    request_id  uuid        not null,
    body_hash   bytea       not null,
    resource    text        not null,
    resource_uid uuid       not null,
    revision    bigint      not null,
    event_id    uuid        not null,
    leaf_hash   bytea       not null,
    expire_time timestamptz not null,
    constraint request_log_pk primary key (principal, rpc, request_id)
);

create index request_log_by_expire_time on knowledge.request_log (expire_time);

grant select, insert, update, delete on knowledge.request_log to knowledge_server;

-- What a mutation's statement takes as one parameter each: the event it records, and the request
-- whose repeats it answers.
create type knowledge.audit_record as (
    event_id       uuid,
    audit_class    smallint,
    leaf           bytea,
    leaf_hash      bytea,
    occurred_at    timestamptz,
    rpc            text,
    action         text,
    outcome        smallint,
    grpc_code      smallint,
    collection_uid uuid,
    result_count   integer,
    payload_commit bytea,
    salt           bytea,
    payload        bytea,
    actor          text,
    on_behalf_of   text,
    purpose        text,
    resources      text[],
    subject_ids    text[],
    peer           text,
    call_id        text
);

create type knowledge.request_key as (
    principal  text,
    rpc        text,
    request_id uuid,
    body_hash  bytea
);
