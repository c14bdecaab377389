"""What a document says of its chunks, after writes that look only at what they add."""

import numpy as np

from knowledged.database import Connection, Database
from knowledged.store.documents import Document
from stored import (
    add_chunks,
    add_texts,
    copy_chunks,
    make_collection,
    make_document,
    read_document,
)

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
        await copy_chunks(conn, collection, made, vectors)
        assert await told(conn, made) == (PENDING, 16)


async def test_chunks_that_are_copied_in_count_as_any_others(database: Database) -> None:
    vectors = np.eye(4, dtype=np.float32)
    async with database.write() as conn:
        collection = await make_collection(conn, "c")
        made = await make_document(conn, collection, "a")
        await copy_chunks(conn, collection, made, vectors)
        assert await told(conn, made) == (ACTIVE, 4)
        rows = await conn.fetch(
            """
            select k.chunk_id, k.state, k.language::text as language, k.lexemes::text as lexemes,
                   k.create_time = k.update_time as new, s.ordinal, s.from_revision, v.embedding,
                   v.document_uid = k.document_uid as own
              from knowledge.chunk k
              join knowledge.chunk_span s on s.chunk_uid = k.chunk_uid
              join knowledge.chunk_vector v on v.chunk_uid = k.chunk_uid
             order by s.ordinal
            """
        )
    of_row = ("chunk_id", "state", "language", "lexemes", "new", "ordinal", "from_revision", "own")
    assert [tuple(row[name] for name in of_row) for row in rows] == [
        (f"c{n}", ACTIVE, "english", f"'{n}':2 'text':1", True, n, 1, True)
        for n in range(1_000, 1_004)
    ]
    assert [row["embedding"] for row in rows] == [vector.tobytes() for vector in vectors]
