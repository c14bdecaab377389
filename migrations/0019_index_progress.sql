-- PostgreSQL shows the progress of another role's statement to nobody but its owner's members. The
-- serving role may know how far the build of a space's index is, and nothing else of it.
create function knowledge.index_build(space uuid)
    returns table (phase text, rows_done bigint, rows_total bigint)
    language sql stable security definer set search_path = pg_catalog, pg_temp
    as $$
    select p.phase, p.tuples_done, p.tuples_total
      from pg_stat_progress_create_index p
     where p.relid = to_regclass('knowledge.' || knowledge.space_relation(space))
     limit 1
$$;

revoke all on function knowledge.index_build(uuid) from public;
grant execute on function knowledge.index_build(uuid) to knowledge_server;
