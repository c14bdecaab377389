-- No payload of the audit log goes silently: whoever deletes one names, in `knowledge.erasure_event`,
-- the event of an erasure that the same transaction recorded, or the transaction fails when it commits.
-- The serving role may call `erase_payloads`, but not without the event by which the log tells of it.
create function knowledge.demand_erasure_event() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
    as $$
begin
    perform
       from knowledge.audit_event
      where event_id = nullif(current_setting('knowledge.erasure_event', true), '')::uuid
        and action = 'subjects.erase'
        and xmin = pg_current_xact_id()::xid;
    if not found then
        raise exception 'a payload of the audit log goes only with the event of its erasure'
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    return null;
end
$$;

revoke all on function knowledge.demand_erasure_event() from public;

create constraint trigger audit_payload_erasure_is_told
    after delete on knowledge.audit_payload
    deferrable initially deferred
    for each row execute function knowledge.demand_erasure_event();
