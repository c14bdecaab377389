-- Session settings of the serving role. Poolers refuse startup parameters, so they stand here.
-- force_custom_plan: a generic plan neither prunes partitions nor matches expression indexes.
do $$
begin
    alter role knowledge_server set plan_cache_mode = 'force_custom_plan';
    alter role knowledge_server set jit = off;
    alter role knowledge_server set statement_timeout = '30s';
    alter role knowledge_server set idle_in_transaction_session_timeout = '30s';
    alter role knowledge_server set client_connection_check_interval = '1s';
exception when insufficient_privilege then
    raise notice 'set the session settings of knowledge_server by hand, see docs/operations.md';
end
$$;

grant select on knowledge.schema_migration to knowledge_server;
