-- Erasing a subject from the audit log: the payloads that name it go, salt and all; the events and
-- their leaves stay.

-- How many payloads that name a subject are under legal hold: by a subject that they name, by their
-- collection, or by a document that they touched or showed. As with `is_held`, who sets a hold waits
-- until the transaction that asked has ended.
create function knowledge.held_payload_count(named_subject text) returns bigint
    language plpgsql volatile strict set search_path = pg_catalog, pg_temp
    as $$
begin
    perform pg_advisory_xact_lock_shared(hashtextextended('knowledge.legal_hold', 0));
    return (
        select count(*)
          from knowledge.audit_payload p
          join knowledge.audit_event e
            on e.event_id = p.event_id and e.audit_class = p.audit_class
         where p.subject_ids @> array[named_subject]
           and exists (
               select
                 from knowledge.legal_hold h
                where h.release_time is null
                  and (h.subject_id = any (p.subject_ids)
                       or (h.document_uid is null and h.collection_uid = e.collection_uid)
                       or (h.document_uid is not null
                           and (h.document_uid = any (p.returned_uids)
                                or h.resource = any (p.resources))))));
end
$$;

-- Deletes the payloads that name a subject; how many. With the rights of its owner, since the serving
-- role may delete no payload. It refuses by itself what is held.
create function knowledge.erase_payloads(erased_subject text) returns bigint
    language plpgsql volatile strict security definer set search_path = pg_catalog, pg_temp
    as $$
declare
    erased bigint;
begin
    if knowledge.held_payload_count(erased_subject) > 0
       or exists (select from knowledge.legal_hold
                   where subject_id = erased_subject and release_time is null) then
        raise exception 'the subject is under legal hold'
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    delete from knowledge.audit_payload where subject_ids @> array[erased_subject];
    get diagnostics erased = row_count;
    return erased;
end
$$;

revoke all on function knowledge.erase_payloads(text) from public;
grant execute on function knowledge.erase_payloads(text) to knowledge_server;
