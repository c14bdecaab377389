-- The audit log. `leaf` holds the exact bytes that are hashed; the typed columns beside it are for
-- queries only. Split by audit class first, so that each class is kept as long as its setting says,
-- then by event_id (a uuid v7, so by time), so that old events go by dropping a partition.
create table knowledge.audit_event (
    event_id       uuid        not null,
    -- 1 NONE, 2 READ, 3 WRITE, 4 ADMIN
    audit_class    smallint    not null,
    leaf           bytea       not null,
    occurred_at    timestamptz not null,
    recorded_at    timestamptz not null default clock_timestamp(),
    rpc            text        not null,
    action         text        not null,
    outcome        smallint    not null,
    grpc_code      smallint    not null,
    collection_uid uuid,
    result_count   integer     not null,
    payload_commit bytea       not null,
    constraint audit_event_pk primary key (event_id, audit_class),
    constraint audit_event_leaf_size check (octet_length(leaf) <= 65535)
) partition by list (audit_class);

create index audit_event_by_time on knowledge.audit_event (occurred_at, event_id);
create index audit_event_by_collection on knowledge.audit_event (collection_uid, occurred_at)
    where collection_uid is not null;

-- Whatever is personal. Its hash with the salt stands in the leaf, so it can be erased and the leaf
-- still verifies.
create table knowledge.audit_payload (
    event_id     uuid     not null,
    audit_class  smallint not null,
    salt         bytea    not null,
    payload      bytea    not null,
    actor        text     not null,
    on_behalf_of text     not null,
    purpose      text     not null,
    resources    text[]   not null,
    subject_ids  text[]   not null,
    returned_uids uuid[]  not null default '{}',
    peer         text     not null,
    call_id      text     not null,
    constraint audit_payload_pk primary key (event_id, audit_class)
) partition by list (audit_class);

create index audit_payload_by_actor on knowledge.audit_payload (actor, event_id);
create index audit_payload_by_resource on knowledge.audit_payload using gin (resources);
create index audit_payload_by_subject on knowledge.audit_payload using gin (subject_ids);

-- Events that wait for their place in the tree; written with the event, deleted when sequenced.
create table knowledge.audit_pending (
    event_id uuid   not null,
    seq      bigint generated always as identity,
    constraint audit_pending_pk primary key (event_id)
);

create index audit_pending_by_seq on knowledge.audit_pending (seq);

-- The tree: RFC 6962 hashes in the tiles of C2SP tlog-tiles, and the checkpoints over them.
create table knowledge.audit_leaf (
    log_index bigint not null,
    event_id  uuid   not null,
    leaf_hash bytea  not null,
    constraint audit_leaf_pk primary key (log_index),
    constraint audit_leaf_event_once unique (event_id)
);

create table knowledge.audit_tile (
    level  smallint not null,
    n      bigint   not null,
    hashes bytea    not null,
    constraint audit_tile_pk primary key (level, n)
);

create table knowledge.audit_state (
    one           boolean not null default true,
    tree_size     bigint  not null default 0,
    compact_range bytea   not null default '',
    signed_size   bigint  not null default 0,
    constraint audit_state_pk primary key (one),
    constraint audit_state_one_row check (one)
);

insert into knowledge.audit_state default values;

create table knowledge.audit_checkpoint (
    tree_size   bigint      not null,
    root        bytea       not null,
    note        text        not null,
    create_time timestamptz not null,
    constraint audit_checkpoint_pk primary key (tree_size)
);

grant select, insert on knowledge.audit_event, knowledge.audit_payload, knowledge.audit_leaf,
    knowledge.audit_tile, knowledge.audit_checkpoint to knowledge_server;
grant select, insert, delete on knowledge.audit_pending to knowledge_server;
grant select, update on knowledge.audit_state to knowledge_server;
-- The last tile of each level grows until it is full.
grant update on knowledge.audit_tile to knowledge_server;
grant select, delete on knowledge.audit_payload to knowledge_eraser;
grant select on knowledge.audit_event to knowledge_eraser;

-- The smallest uuid v7 of an instant: its first 48 bits are milliseconds since 1970.
create function knowledge.uuid_v7_floor(instant timestamptz) returns uuid
    language sql immutable strict
    as $$
    select (lpad(to_hex((extract(epoch from instant) * 1000)::bigint), 12, '0')
            || '00000000000000000000')::uuid
    $$;

-- Makes the months' partitions of every audit class, from this month on; returns how many are new.
create function knowledge.create_audit_partitions(months_ahead integer) returns integer
    language plpgsql security definer set search_path = pg_catalog, pg_temp
    as $$
declare
    made integer := 0;
    parent text;
    month timestamptz;
    relation text;
begin
    perform pg_advisory_xact_lock(hashtextextended('knowledge.create_audit_partitions', 0));
    for parent, month in
        select c.relname, m.month
          from pg_inherits i
          join pg_class c on c.oid = i.inhrelid
         cross join lateral (
               select date_trunc('month', now(), 'UTC') + k * interval '1 month' as month
                 from generate_series(0, least(months_ahead, 24)) k) m
         where i.inhparent in ('knowledge.audit_event'::regclass, 'knowledge.audit_payload'::regclass)
         order by c.relname, m.month
    loop
        relation := parent || to_char(month at time zone 'UTC', '_YYYYMM');
        if to_regclass('knowledge.' || quote_ident(relation)) is null then
            begin
                execute format(
                    'create table knowledge.%I partition of knowledge.%I '
                    'for values from (%L) to (%L)',
                    relation, parent,
                    knowledge.uuid_v7_floor(month),
                    knowledge.uuid_v7_floor(month + interval '1 month'));
                made := made + 1;
            exception when check_violation then
                -- The default partition holds events of this month already; they stay there.
                raise warning 'audit events of % stay in the default partition', relation;
            end;
        end if;
    end loop;
    return made;
end
$$;

do $$
declare
    class record;
    parent text;
begin
    for class in select * from (values ('read', 2), ('write', 3), ('admin', 4)) v (name, number) loop
        foreach parent in array array['audit_event', 'audit_payload'] loop
            execute format(
                'create table knowledge.%I partition of knowledge.%I for values in (%s) '
                'partition by range (event_id)',
                parent || '_' || class.name, parent, class.number);
            -- Catches what comes before its month's partition, so that no event is ever refused.
            execute format(
                'create table knowledge.%I partition of knowledge.%I default',
                parent || '_' || class.name || '_other', parent || '_' || class.name);
        end loop;
    end loop;
end
$$;

revoke all on function knowledge.create_audit_partitions(integer) from public;
grant execute on function knowledge.create_audit_partitions(integer) to knowledge_server;

select knowledge.create_audit_partitions(3);
