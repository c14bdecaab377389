-- A hit tells the first place of its chunk in the document: read in order, from the index alone. On a
-- large table build it concurrently beforehand; then this only drops the former one.
-- squawk-ignore require-concurrent-index-creation
create index if not exists chunk_span_first on knowledge.chunk_span (chunk_uid, ordinal)
    include (start_offset, end_offset)
    where to_revision is null;

-- squawk-ignore require-concurrent-index-deletion
drop index knowledge.chunk_span_of_chunk;
