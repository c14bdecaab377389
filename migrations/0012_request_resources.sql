-- A purge looks for the requests that named its documents, and takes the names out. The table holds
-- a day's requests.
-- squawk-ignore require-concurrent-index-creation
create index request_log_by_resource on knowledge.request_log (resource_uid);
