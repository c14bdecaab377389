"""What former revisions take in the database."""

import hashlib
import random
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from knowledged.database import Connection, Database
from knowledged.store import document_changes, document_removals, revisions
from knowledged.store.collections import Collection
from knowledged.store.content_parts import kept
from knowledged.store.document_steps import Written
from knowledged.store.documents import Document
from knowledged.store.pieces import NewPieces
from knowledged.store.revisions import DamagedRevision, Moment
from stored import make_collection, make_document, mutation, read_document


async def write(conn: Connection, collection: Collection, made: Document, content: str) -> None:
    old = await read_document(conn, made)
    digest = hashlib.sha256(content.encode()).digest()
    row = replace(old, content=content, content_sha256=digest, update_time=datetime.now(UTC))
    event, ends = mutation(collection.collection_uid), kept(old.content, content)
    stays = NewPieces(cut=False)
    done = await document_changes.update(conn, event, collection, row, stays, ends)
    assert done is Written.DONE


async def size(conn: Connection, made: Document) -> int:
    """Bytes of content that its former revisions hold."""
    return await conn.fetchval(
        """
        select coalesce(sum(octet_length(content)), 0)
          from knowledge.document_revision
         where document_uid = $1::uuid
        """,
        made.document_uid,
    )


def noise(characters: int) -> str:
    return random.Random(characters).randbytes(characters // 2).hex()


async def test_storage_grows_with_the_change_alone(database: Database) -> None:
    async with database.read() as conn:
        collection = await make_collection(conn, "c")
        made = await make_document(conn, collection, "d")
        content = noise(100_000)
        await write(conn, collection, made, content)
        for i in range(15):
            content = f"{content[:40_000]}{i}{content[40_001:]}"
            await write(conn, collection, made, content)
        assert await size(conn, made) <= 15 * 2
        for i in range(16):
            content = f"{content[:50_000]}{i}{content[50_001:]}"
            await write(conn, collection, made, content)
        assert 100_000 < await size(conn, made) < 101_000


async def test_what_leaves_the_content_alone_stores_none(database: Database) -> None:
    async with database.read() as conn:
        collection = await make_collection(conn, "c")
        made = await make_document(conn, collection, "d")
        await write(conn, collection, made, "a text")
        before = await size(conn, made)
        await write(conn, collection, made, "a text")
        old = replace(await read_document(conn, made), delete_time=datetime.now(UTC))
        gone = mutation(collection.collection_uid)
        assert await document_removals.delete(conn, gone, collection, old) is Written.DONE
        assert await size(conn, made) == before
        where = collection.collection_uid, "d"
        assert [
            (await revisions.get(conn, where, Moment(revision))).content
            for revision in (1, 2, 3, 4)
        ] == ["", "a text", "a text", "a text"]


async def test_a_content_that_was_tampered_with_is_not_given_out(database: Database) -> None:
    async with database.read() as conn:
        collection = await make_collection(conn, "c")
        made = await make_document(conn, collection, "d")
        for content in ("one two three", "one 2 three"):
            await write(conn, collection, made, content)
        await conn.execute("update knowledge.document_revision set content = 'xxx'")
        with pytest.raises(DamagedRevision):
            await revisions.get(conn, (collection.collection_uid, "d"), Moment(2))
