-- What the ledger needs beside its tables. `origin` is the log's name in its checkpoints: empty until
-- the first is signed, and a new one after a restore to an earlier point.
alter table knowledge.audit_state add column origin text not null default '';

-- A queue: its dead rows lie where the next are looked for.
alter table knowledge.audit_pending set (
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_scale_factor = 0
);
