"""A document as a change finds it, and as the change's answer tells it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

from knowledged.call import Call
from knowledged.errors import Conflict, NotFound, WrongState
from knowledged.services import pack
from knowledged.services.recording import Change
from knowledged.services.repeating import repeated
from knowledged.services.supplies import Supplies
from knowledged.store import documents, revisions
from knowledged.store.collections import Space
from knowledged.store.document_steps import NotWritten, Written
from knowledged.store.documents import Document
from knowledged.store.requests import Mutation, RequestKey
from knowledged.text import PENDING

LONGEST_WAIT_SECONDS = 600.0
_POLL_SECONDS = 0.1
# Kept of the caller's time for the answer itself.
_ANSWER_SECONDS = 0.5
_TICK = timedelta(microseconds=1)

Row = TypeVar("Row", Document, Document | None)


@dataclass(frozen=True, slots=True)
class Asked:
    """A mutation as it was asked for: by which call, under which key, and what to do beside it."""

    call: Call
    key: RequestKey
    validate_only: bool = False
    wait: bool = False


class FoundDocuments:
    """Reads what changes need, for a collection that the directory resolved."""

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies

    async def read(self, call: Call, space: Space, document_id: str, *, content: bool) -> Document:
        collection_id = space.collection.collection_id
        async with self._supplies.database.read(call.left) as conn:
            return await documents.get(conn, collection_id, document_id, None, content)

    async def live(
        self, call: Call, space: Space, document_id: str, *, allow_missing: bool = False
    ) -> Document | None:
        """The document to change, whole; None if it is missing, and that is allowed."""
        try:
            row = await self.read(call, space, document_id, content=True)
        except NotFound:
            if allow_missing:
                return None
            raise
        if row.delete_time is not None:
            raise WrongState("the document is deleted")
        return row

    async def answered(self, asked: Asked) -> Document | None:
        """What the first of several copies of a request was answered; None if this is it."""
        first = await self._supplies.answered(asked.call, asked.key)
        if first is None:
            return None
        async with self._supplies.database.read(asked.call.left) as conn:
            (row,) = await revisions.at(conn, [(first.resource_uid, first.revision)])
        return row

    async def repeated(
        self, asked: Asked, collection_id: str, attempt: Callable[[Space], Awaitable[Row]]
    ) -> Document | Row:
        """What `attempt` gives, until it is written; a repeat gets the answer the first had."""
        answered = partial(self.answered, asked)
        return await repeated(self._supplies, asked.call, collection_id, answered, attempt)

    async def settled(
        self, asked: Asked, made: Mutation, row: Document, written: Written
    ) -> Document:
        """What is stored now, once it can be searched if the caller waits for that.

        Raises NotWritten if the statement did nothing.
        """
        if written is not Written.DONE:
            raise NotWritten
        asked.call.receipt = made.receipt
        if row.state != PENDING:
            return row
        self._supplies.wake_text_workers()
        return (await self.searchable(asked.call, [row]))[0] if asked.wait else row

    async def searchable(self, call: Call, rows: Sequence[Document]) -> list[Document]:
        """Documents once their text is searchable, or as they are shortly before the deadline."""
        until = time.monotonic() + call.seconds_left(LONGEST_WAIT_SECONDS) - _ANSWER_SECONDS
        now, wanted = list(rows), [(row.document_uid, row.revision) for row in rows]
        while any(row.state == PENDING for row in now) and time.monotonic() < until:
            await asyncio.sleep(_POLL_SECONDS)
            async with self._supplies.database.read(call.left) as conn:
                now = await revisions.at(conn, wanted)
        return now


def unchanged(call: Call, row: Document) -> Document:
    """The answer to validate_only: nothing was changed, so nothing is recorded."""
    call.unaudited = True
    return row


def following(row: Document) -> datetime:
    """When the next revision begins: now, but after the last one, whatever the clock says."""
    return max(datetime.now(UTC), row.update_time + _TICK)


def change(action: str, space: Space, row: Document, old: Document | None = None) -> Change:
    """Whom it is about: also those the document named before."""
    subjects = dict.fromkeys([*row.subject_ids, *(old.subject_ids if old else ())])
    return Change(action, space.collection.collection_uid, (row.name,), tuple(subjects))


def check_etag(etag: str, row: Document) -> None:
    if etag and etag != pack.etag(row.document_uid, row.revision):
        raise Conflict("etag: is stale; read the document again")


def named(space: Space, row: Document) -> Document:
    """The row under its collection's own id, where the caller gave an alias."""
    return replace(row, collection_id=space.collection.collection_id)
