-- Other names of collections. A live collection's own id goes before an alias of the same name; whoever
-- makes either locks the name and looks for the other first, so that this does not come about.
create table knowledge.collection_alias (
    alias          text        not null,
    collection_uid uuid        not null,
    create_time    timestamptz not null,
    constraint collection_alias_pk primary key (alias),
    constraint collection_alias_collection foreign key (collection_uid)
        references knowledge.collection (collection_uid)
);

create index collection_alias_of_collection on knowledge.collection_alias (collection_uid);

grant select, insert, update, delete on knowledge.collection_alias to knowledge_server;
