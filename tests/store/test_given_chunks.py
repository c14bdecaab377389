"""What a document says of its chunks, after writes that look only at what they add."""

import numpy as np

from knowledged.database import Connection, Database
from knowledged.store.documents import Document
from stored import add_chunks, add_texts, make_collection, make_document, read_document

ACTIVE, PENDING = 2, 1


async def told(conn: Connection, made: Document) -> tuple[int, int]:
    """Its state and its number of chunks."""
    row = await read_document(conn, made)
    return row.state, row.chunk_count


async def test_a_document_waits_as_long_as_one_of_its_chunks_does(database: Database) -> None:
    vectors = np.eye(4, dtype=np.float32)
    async with database.write() as conn:
        collection = await make_collection(conn, "c")
        made = await make_document(conn, collection, "a")
        await add_chunks(conn, collection, made, vectors)
        assert await told(conn, made) == (ACTIVE, 4)
        await add_chunks(conn, collection, made, vectors)
        assert await told(conn, made) == (ACTIVE, 8)
        await add_texts(conn, collection, made, ["waits", "waits, too"])
        assert await told(conn, made) == (PENDING, 8)
        await add_chunks(conn, collection, made, vectors)
        assert await told(conn, made) == (PENDING, 12)
