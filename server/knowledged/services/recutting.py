"""What documents' statements write of their text: cut, and embedded where it is new."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from knowledged.call import Call
from knowledged.declared_fields import DOCUMENT, own_keys, stored_fields
from knowledged.services.drafts import SERVER
from knowledged.services.supplies import Supplies
from knowledged.store import pieces
from knowledged.store.collections import Space
from knowledged.store.documents import Document
from knowledged.store.pieces import KnownChunk, NewPieces
from knowledged.text import ACTIVE, NOTHING_KNOWN, PENDING, Text, Vectors, waiting

Result = TypeVar("Result")

# Enough texts for the batches of the model; all of a batch would overflow its queue.
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Recut:
    """A document's next revision and its pieces."""

    row: Document
    pieces: NewPieces


async def cut_new(
    supplies: Supplies, space: Space, rows: Sequence[Document], vectors: Vectors
) -> list[tuple[Document, NewPieces]]:
    """New documents with their pieces."""
    few = asyncio.Semaphore(_AT_ONCE)

    async def cut(row: Document) -> tuple[Document, NewPieces]:
        if row.origin != SERVER:
            return row, NewPieces()
        async with few:
            made = await supplies.text.pieces(
                space.collection, _text(space, row, NOTHING_KNOWN), vectors
            )
        return _completed(row, made, NOTHING_KNOWN), made

    return await _together([cut(row) for row in rows])


async def recut(
    supplies: Supplies,
    call: Call,
    space: Space,
    changes: Sequence[tuple[Document, Document]],
    vectors: Vectors,
) -> list[Recut]:
    """Next revisions, of documents as they are and as they will be, with their pieces."""
    few = asyncio.Semaphore(_AT_ONCE)

    async def cut(old: Document, row: Document) -> Recut:
        if row.origin != SERVER or _same_text(old, row):
            return Recut(row, _unchanged_text(space, row))
        async with few:
            async with supplies.database.read(call.left) as conn:
                known = await pieces.known(conn, old.document_uid)
            made = await supplies.text.pieces(space.collection, _text(space, row, known), vectors)
        return Recut(_completed(row, made, known), made)

    return await _together([cut(old, row) for old, row in changes])


async def _together(work: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    """All results in order; the first error, alone, when the others have ended."""
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(each) for each in work]
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
    return [task.result() for task in running]


def _same_text(old: Document, row: Document) -> bool:
    return (old.content_sha256, old.mime_type) == (row.content_sha256, row.mime_type)


def _unchanged_text(space: Space, row: Document) -> NewPieces:
    declared = space.collection.filter_fields
    fields = stored_fields(declared, DOCUMENT, row.metadata)
    return NewPieces(fields=fields, cut=False, own_keys=own_keys(declared, DOCUMENT))


def _text(space: Space, row: Document, known: dict[str, KnownChunk]) -> Text:
    declared = space.collection.filter_fields
    fields = stored_fields(declared, DOCUMENT, row.metadata)
    return Text(row.content, row.mime_type, known, fields, own_keys(declared, DOCUMENT))


def _completed(row: Document, cut: NewPieces, known: dict[str, KnownChunk]) -> Document:
    state = PENDING if waiting(cut, known) else ACTIVE
    return replace(row, state=state, chunk_count=len({span.chunk_uid for span in cut.spans}))
