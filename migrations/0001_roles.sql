-- The roles of the house. Roles belong to the whole cluster, so each may be there already.
-- knowledge_server serves: no DDL, and of the audit log only INSERT and SELECT.
-- knowledge_eraser is the only one that may delete audit payloads.
do $$
declare
    role_name text;
begin
    foreach role_name in array array['knowledge_server', 'knowledge_eraser'] loop
        begin
            execute format('create role %I', role_name);
        exception when duplicate_object or unique_violation then
            null;
        end;
    end loop;
end
$$;

-- pgvector may be installed already by somebody with more rights than we have.
create extension if not exists vector;

grant usage on schema knowledge to knowledge_server, knowledge_eraser;
