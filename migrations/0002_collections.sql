-- Collections, and the vector spaces in which their vectors lie. Keys begin with the collection's
-- uid, so that collections can be placed on other nodes later.
create table knowledge.collection (
    collection_uid    uuid        not null,
    collection_id     text        not null,
    title             text        not null default '',
    description       text        not null default '',
    dimension         integer     not null,
    distance          smallint    not null,
    embedding_model   text        not null default '',
    language          text        not null default 'english',
    chunk_max_tokens  integer     not null,
    chunk_overlap_tokens integer  not null,
    filter_fields     jsonb       not null default '[]',
    egress            smallint    not null default 1,
    revision          bigint      not null default 1,
    active_space_uid  uuid        not null,
    event_id          uuid        not null,
    create_time       timestamptz not null,
    update_time       timestamptz not null,
    delete_time       timestamptz,
    constraint collection_pk primary key (collection_uid),
    constraint collection_dimension_range check (dimension between 1 and 1900),
    constraint collection_distance_known check (distance between 1 and 3),
    constraint collection_egress_known check (egress between 1 and 2)
);

-- An id is free again as soon as its collection is deleted; its uid never is.
create unique index collection_id_live on knowledge.collection (collection_id)
    where delete_time is null;

create table knowledge.vector_space (
    space_uid      uuid        not null,
    collection_uid uuid        not null,
    model_id       text        not null,
    model_digest   text        not null,
    dimension      integer     not null,
    distance       smallint    not null,
    -- 1 exact only, 2 index being built, 3 indexed, 4 to be dropped
    state          smallint    not null default 1,
    ef             integer     not null default 40,
    -- The collection's filter_fields that every row of the space carries in `fields`.
    ready_fields   jsonb       not null default '[]',
    create_time    timestamptz not null,
    constraint vector_space_pk primary key (space_uid),
    constraint vector_space_collection foreign key (collection_uid)
        references knowledge.collection (collection_uid),
    constraint vector_space_state_known check (state between 1 and 4)
);

create index vector_space_of_collection on knowledge.vector_space (collection_uid);

grant select, insert, update, delete on knowledge.collection, knowledge.vector_space
    to knowledge_server;
