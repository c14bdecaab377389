-- What the server appends of reads, refusals and failures, many in one statement. A type of its own
-- beside audit_record: a mutation returns nothing, and a type in use is not changed.
create type knowledge.audit_entry as (
    event_id       uuid,
    audit_class    smallint,
    leaf           bytea,
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
    returned_uids  uuid[],
    peer           text,
    call_id        text
);
