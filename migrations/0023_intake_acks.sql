-- The acks of a batch as they were sent, in one row: a row for each item cost more than the item's
-- audit event. intake_outcome is read for sessions begun before, and goes one release later.
create table knowledge.intake_acks (
    session_uid   uuid   not null,
    last_sequence bigint not null,
    -- A serialized knowledge.v1.IntakeAcks, compressed by zlib.
    acks          bytea  not null,
    constraint intake_acks_pk primary key (session_uid, last_sequence),
    constraint intake_acks_session foreign key (session_uid)
        references knowledge.intake_session (session_uid) on delete cascade
);

-- Compressed already.
alter table knowledge.intake_acks alter column acks set storage external;

grant select, insert, update, delete on knowledge.intake_acks to knowledge_server;
