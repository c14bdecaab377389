-- How common words are in a collection, so that a search can weigh the rare ones more. The space
-- keeper counts; a word that is not listed is rarer than any that is. Words that fewer than five
-- chunks hold are never listed, so this says nothing about a single document.
create table knowledge.lexeme_share (
    collection_uid uuid not null,
    lexeme         text not null,
    share          real not null,
    constraint lexeme_share_pk primary key (collection_uid, lexeme),
    constraint lexeme_share_collection foreign key (collection_uid)
        references knowledge.collection (collection_uid)
);

-- When they were counted, over how many chunks, and what share a word has that is not listed.
create table knowledge.lexeme_count (
    collection_uid uuid        not null,
    chunks         bigint      not null,
    unlisted_share real        not null,
    count_time     timestamptz not null,
    constraint lexeme_count_pk primary key (collection_uid),
    constraint lexeme_count_collection foreign key (collection_uid)
        references knowledge.collection (collection_uid)
);

grant select on knowledge.lexeme_share, knowledge.lexeme_count to knowledge_server;
