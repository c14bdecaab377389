-- One partition a vector space: one index each, nobody else's rows in its way. PLAIN keeps the
-- vector in the row's own page, which limits the dimension to 1900.
create table knowledge.chunk_vector (
    space_uid    uuid   not null,
    chunk_uid    uuid   not null,
    document_uid uuid   not null,
    embedding    vector not null,
    fields       jsonb  not null default '{}',
    constraint chunk_vector_pk primary key (space_uid, chunk_uid)
) partition by list (space_uid);

alter table knowledge.chunk_vector alter column embedding set storage plain;
create index chunk_vector_of_document on knowledge.chunk_vector (document_uid);

-- Vectors of deleted documents and former revisions wait here, out of every index's way.
create table knowledge.chunk_vector_parked (
    space_uid    uuid   not null,
    chunk_uid    uuid   not null,
    document_uid uuid   not null,
    embedding    vector not null,
    fields       jsonb  not null default '{}',
    constraint chunk_vector_parked_pk primary key (space_uid, chunk_uid)
);

create index chunk_vector_parked_of_document on knowledge.chunk_vector_parked (document_uid);

grant select, insert, update, delete on knowledge.chunk_vector, knowledge.chunk_vector_parked
    to knowledge_server;

-- The name of a space's partition, and with a suffix of its indexes.
create function knowledge.space_relation(space uuid, suffix text default '') returns text
    language sql immutable strict
    as $$ select 'chunk_vector_' || replace(space::text, '-', '') || suffix $$;

-- Makes the partition of a new space. Attaching a ready table, unlike `partition of`, does not
-- block searches in other spaces. The serving role has no DDL: it may do this one thing.
create function knowledge.create_space_partition(space uuid, vector_dimension integer) returns void
    language plpgsql security definer set search_path = pg_catalog, pg_temp
    as $$
declare
    relation text := knowledge.space_relation(space);
begin
    execute format('create table knowledge.%I (like knowledge.chunk_vector including all)', relation);
    execute format(
        'alter table knowledge.%1$I '
        'add constraint %2$I check (space_uid = %3$L::uuid), '
        'add constraint %4$I check (%6$s.vector_dims(embedding) = %5$s)',
        relation,
        relation || '_space', space,
        relation || '_dim', vector_dimension,
        (select n.nspname from pg_extension e join pg_namespace n on n.oid = e.extnamespace
          where e.extname = 'vector'));
    execute format('grant select, insert, update, delete on knowledge.%I to knowledge_server', relation);
    execute format(
        'alter table knowledge.chunk_vector attach partition knowledge.%I for values in (%L)',
        relation, space);
end
$$;

revoke all on function knowledge.create_space_partition(uuid, integer) from public;
grant execute on function knowledge.create_space_partition(uuid, integer) to knowledge_server;
