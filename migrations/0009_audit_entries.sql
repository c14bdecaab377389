-- What the server appends of reads, refusals and failures, many in one statement: a mutation's record,
-- and what a read returned.
create type knowledge.audit_entry as (
    record        knowledge.audit_record,
    returned_uids uuid[]
);
