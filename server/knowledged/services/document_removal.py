"""How documents are deleted, and come back. A deleted one stays stored until its time of purging.

As in `document_writing`: read what there is, and one statement that demands to find it still.
"""

from dataclasses import replace
from datetime import timedelta
from functools import partial
from uuid import UUID

from knowledged.declared_fields import CHUNK, DOCUMENT, stored_fields
from knowledged.errors import AlreadyExists, NotFound
from knowledged.services.found_documents import (
    Asked,
    FoundDocuments,
    change,
    check_etag,
    following,
    unchanged,
)
from knowledged.services.recording import mutation
from knowledged.services.supplies import Supplies
from knowledged.store import document_removals
from knowledged.store.collections import Space
from knowledged.store.documents import Document

Names = tuple[str, str]


class DocumentRemover:
    """Deletes documents softly, and undeletes them."""

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies
        self._found = FoundDocuments(supplies)

    async def delete(
        self, asked: Asked, names: Names, etag: str, *, allow_missing: bool
    ) -> Document | None:
        """Deletes softly; None if there is nothing to delete and that is allowed."""
        delete = partial(self._delete, asked, names[1], etag, allow_missing)
        return await self._found.repeated(asked, names[0], delete)

    async def undelete(self, asked: Asked, names: Names, etag: str) -> Document:
        """Brings a deleted document back, as a new revision that searches find again."""
        undelete = partial(self._undelete, asked, names[1], etag)
        return await self._found.repeated(asked, names[0], undelete)

    async def _delete(
        self, asked: Asked, document_id: str, etag: str, allow_missing: bool, space: Space
    ) -> Document | None:
        old = await self._deletable(asked, space, document_id, allow_missing=allow_missing)
        if old is None:
            asked.call.unaudited = True
            return None
        check_etag(etag, old)
        if asked.validate_only:
            return unchanged(asked.call, old)
        row = deleted(space, old)
        made = mutation(asked.call, asked.key, change("documents.delete", space, old))
        async with self._supplies.database.write(asked.call.left) as conn:
            written = await document_removals.delete(conn, made, space.collection, row)
        return await self._found.settled(asked, made, _stored(row), written)

    async def _undelete(self, asked: Asked, document_id: str, etag: str, space: Space) -> Document:
        old = await self._found.read(asked.call, space, document_id, content=False)
        if old.delete_time is None:
            raise AlreadyExists("document: is not deleted")
        check_etag(etag, old)
        row = replace(old, update_time=following(old), delete_time=None, purge_time=None)
        if asked.validate_only:
            return unchanged(asked.call, row)
        made = mutation(asked.call, asked.key, change("documents.undelete", space, old))
        fields = await self._fields(asked, space, old)
        async with self._supplies.database.write(asked.call.left) as conn:
            written = await document_removals.undelete(conn, made, space.collection, row, fields)
        return await self._found.settled(asked, made, _stored(row), written)

    async def _deletable(
        self, asked: Asked, space: Space, document_id: str, *, allow_missing: bool
    ) -> Document | None:
        """The document to delete; None if there is none, and that is allowed."""
        try:
            row = await self._found.read(asked.call, space, document_id, content=False)
            if row.delete_time is not None:
                raise NotFound("document: is deleted already")
        except NotFound:
            if allow_missing:
                return None
            raise
        return row

    async def _fields(
        self, asked: Asked, space: Space, row: Document
    ) -> dict[UUID, dict[str, object]]:
        """What the vector rows keep for filters, as the collection declares it now."""
        declared = space.collection.filter_fields
        if not declared:
            return {}
        of_document = stored_fields(declared, DOCUMENT, row.metadata)
        async with self._supplies.database.read(asked.call.left) as conn:
            chunks = await document_removals.parked(conn, row.document_uid)
        return {
            chunk_uid: of_document | stored_fields(declared, CHUNK, metadata)
            for chunk_uid, metadata in chunks.items()
        }


def _stored(row: Document) -> Document:
    return replace(row, revision=row.revision + 1)


def deleted(space: Space, old: Document) -> Document:
    """The document as its deletion leaves it: kept as long as the collection says."""
    at = following(old)
    kept = timedelta(seconds=space.collection.retention_seconds)
    return replace(old, update_time=at, delete_time=at, purge_time=at + kept)
