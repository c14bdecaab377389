-- Drops a month of an audit class, events and payloads; for the owner's connection alone. Leaves stay.
create function knowledge.drop_audit_month(class_name text, month timestamptz) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
    as $$
declare
    suffix text := class_name || to_char(month at time zone 'UTC', '_YYYYMM');
begin
    -- Who reads or writes events waits behind us: rather give up, and try again later.
    perform set_config('lock_timeout', '2s', true);
    execute format('drop table knowledge.%I', 'audit_payload_' || suffix);
    execute format('drop table knowledge.%I', 'audit_event_' || suffix);
end
$$;

revoke all on function knowledge.drop_audit_month(text, timestamptz) from public;
