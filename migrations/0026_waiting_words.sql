-- New entries wait in a list that every search for words reads whole until it is full or a vacuum comes:
-- 4 MB of it took a search longer than all the rest. Decision 0027 has the measurements.
alter index knowledge.chunk_lexemes set (gin_pending_list_limit = 256);
