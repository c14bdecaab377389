-- What was measured last of a space's vector index, and why its ef is what it is, so that all
-- replicas tell the same and one measures in a period.
alter table knowledge.vector_space
    -- Share of the truly nearest ten that searches find by `ef`, of so many queries.
    add column recall         real,
    add column recall_queries integer,
    add column recall_time    timestamptz,
    -- 1 default, 2 raised, 3 lowered, 4 no ef that is allowed reaches the recall that is wanted
    add column ef_reason      smallint not null default 1,
    -- How many times in a row recall was too low, and how many times in a row the next smaller ef
    -- would have been amply enough; below 0: so many rounds pass before that is asked.
    add column low_rounds     smallint not null default 0,
    add column ample_rounds   smallint not null default 0,
    add constraint vector_space_recall_share check (recall between 0 and 1) not valid,
    add constraint vector_space_ef_range check (ef between 1 and 1000) not valid,
    add constraint vector_space_ef_reason_known check (ef_reason between 1 and 4) not valid;
