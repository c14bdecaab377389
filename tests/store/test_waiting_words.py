"""What a search for words reads of chunks that came since the last vacuum."""

import json

from knowledged.database import Connection, Database
from plan_world import nodes_of
from stored import add_texts, make_collection, make_document

_CHUNKS = 600
_WORDS = 60
# The list's 256 kB, and what finding nothing in the index itself takes.
_MOST_BLOCKS = 32 + 8


async def blocks_read(conn: Connection, words: str) -> int:
    """Of the index of words, to look for some."""
    await conn.execute("set local enable_seqscan = off")
    plan = await conn.fetchval(
        """
        explain (analyze, buffers, format json)
        select from knowledge.chunk where lexemes @@ $1::tsquery
        """,
        words,
    )
    (index,) = (n for n in nodes_of(json.loads(plan)[0]["Plan"]) if "Index Name" in n)
    assert index["Index Name"] == "chunk_lexemes"
    return index["Shared Hit Blocks"] + index["Shared Read Blocks"]


async def test_few_chunks_wait_to_be_in_the_index_of_words(database: Database) -> None:
    async with database.transaction() as conn:
        collection = await make_collection(conn, "c")
        made = await make_document(conn, collection, "d")
        texts = [
            " ".join(f"word{place}x{number}" for number in range(_WORDS))
            for place in range(_CHUNKS)
        ]
        await add_texts(conn, collection, made, texts)
        assert await blocks_read(conn, "absent") <= _MOST_BLOCKS
        assert await conn.fetchval(
            "select count(*) from knowledge.chunk where lexemes @@ 'word599x59'::tsquery"
        )
