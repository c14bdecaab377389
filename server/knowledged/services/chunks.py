"""The chunks of VectorService."""

from knowledge.v1 import vector_service_pb2 as pb
from knowledge.v1.document_pb2 import View
from knowledged.call import Call
from knowledged.checks import Checks
from knowledged.database import Connection
from knowledged.errors import AlreadyExists, NotFound, WrongState
from knowledged.names import chunk_of, document_name, document_of
from knowledged.services import pack
from knowledged.services.drafts import CALLER
from knowledged.services.given_chunks import GivenChunks, not_the_callers
from knowledged.services.listing import by_attribute, filter_condition
from knowledged.services.recording import Change, mutation, request_key
from knowledged.services.supplies import Supplies, granted
from knowledged.store import chunk_changes, chunks, documents
from knowledged.store.chunk_changes import Deleted, GivenChunk, Owner
from knowledged.store.chunks import BY_ORDINAL, FIELDS
from knowledged.store.collections import Space
from knowledged.store.requests import Mutation, RequestKey

DOCUMENT_SHAPE = '"collections/{collection}/documents/{document}"'
SHAPE = '"collections/{collection}/documents/{document}/chunks/{chunk}"'


class Chunks:
    """RPCs over chunks."""

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies

    async def UpsertChunks(
        self, request: pb.UpsertChunksRequest, call: Call
    ) -> pb.UpsertChunksResponse:
        checks = Checks()
        names = checks.name("parent", request.parent, document_of, DOCUMENT_SHAPE)
        key = request_key(call, request, checks.request_id(request.request_id))
        checks.count("chunks", len(request.chunks), self._supplies.limits.max_batch_items, least=1)
        checks.choice("mode", request.mode, pb.WriteMode.values())
        async for space in self._supplies.directory.attempts(call, names[0]):
            names = space.collection.collection_id, names[1]
            request.parent = document_name(*names)
            if await self._supplies.answered(call, key):
                return await self._upserted(call, request, names)
            given = GivenChunks(self._supplies.text, space)
            rows = given.rows(checks, request.chunks)
            checks.done()
            rows = await given.embedded(rows, call.left)
            if await self._written(call, key, request, space, rows):
                return await self._upserted(call, request, names)
        raise AssertionError("attempts end by raising")

    async def GetChunk(self, request: pb.GetChunkRequest, call: Call) -> pb.GetChunkResponse:
        names = Checks().name("name", request.name, chunk_of, SHAPE)
        space = await self._supplies.directory.resolve(call, names[0])
        async with self._supplies.database.read(call.left) as conn:
            row = await chunks.get(conn, space.collection, names[1:], request.include_embedding)
        call.reads([row.of_document])
        name = document_name(space.collection.collection_id, names[1])
        return pb.GetChunkResponse(chunk=pack.chunk(row, name))

    async def ListChunks(self, request: pb.ListChunksRequest, call: Call) -> pb.ListChunksResponse:
        checks = Checks()
        names = checks.name("parent", request.parent, document_of, DOCUMENT_SHAPE)
        condition = filter_condition(checks, request, FIELDS, 6)
        orders, position = {"ordinal": BY_ORDINAL}, by_attribute("chunk_uid")
        listing = self._supplies.lists.listing(checks, call, request, orders, "ordinal", position)
        parts = request.view == View.VIEW_FULL, request.include_embedding
        space = await self._supplies.directory.resolve(call, names[0])
        async with self._supplies.database.read(call.left) as conn:
            rows = await chunks.list_page(
                conn, space.collection, names[1], parts, condition, listing.page
            )
        room = self._supplies.limits.max_message_bytes
        name = document_name(space.collection.collection_id, names[1])
        messages, token = listing.fitted(rows, lambda row: pack.chunk(row, name), room)
        call.reads(row.of_document for row in rows[: len(messages)])
        return pb.ListChunksResponse(chunks=messages, next_page_token=token)

    async def DeleteChunk(
        self, request: pb.DeleteChunkRequest, call: Call
    ) -> pb.DeleteChunkResponse:
        checks = Checks()
        names = checks.name("name", request.name, chunk_of, SHAPE)
        key = request_key(call, request, checks.request_id(request.request_id))
        checks.done()
        if not await self._supplies.answered(call, key):
            await self._delete(call, key, names)
        return pb.DeleteChunkResponse(receipt=pack.receipt(call.receipt))

    async def _written(
        self,
        call: Call,
        key: RequestKey,
        request: pb.UpsertChunksRequest,
        space: Space,
        rows: list[GivenChunk],
    ) -> bool:
        """Writes the chunks; False if the collection changed or a copy of it was first."""
        collection = space.collection
        names = collection.collection_id, request.parent.rpartition("/")[2]
        async with self._supplies.database.transaction(call.left) as conn:
            owner = await chunk_changes.lock_document(
                conn, collection.collection_uid, names[1], collection.revision
            )
            if owner is None:
                return await _changed_meanwhile(conn, names, granted(call))
            await _check(conn, owner, request)
            made = mutation(call, key, _upsert(owner, request))
            given = GivenChunks(self._supplies.text, space)
            rows = given.of_document(rows, owner.metadata)
            at = made.event.occurred_at
            written = await chunk_changes.upsert(conn, made, owner, at, rows)
        return self._settled(call, made, rows) if written else False

    def _settled(self, call: Call, made: Mutation, rows: list[GivenChunk]) -> bool:
        call.receipt = made.receipt
        if any(row.embedding is None for row in rows):
            self._supplies.wake_text_workers()
        return True

    async def _upserted(
        self, call: Call, request: pb.UpsertChunksRequest, names: tuple[str, str]
    ) -> pb.UpsertChunksResponse:
        """The answer, from what is stored; a chunk deleted since a first answer is left out."""
        ids = [chunk.chunk_id for chunk in request.chunks]
        async with self._supplies.database.read(call.left) as conn:
            rows = await chunks.get_many(conn, *names, ids)
        return pb.UpsertChunksResponse(
            chunks=[pack.chunk(rows[i], request.parent) for i in ids if i in rows],
            receipt=pack.receipt(call.receipt),
        )

    async def _delete(self, call: Call, key: RequestKey, names: tuple[str, str, str]) -> None:
        collection_id, document_id, chunk_id = names
        async for space in self._supplies.directory.attempts(call, collection_id):
            name = document_name(space.collection.collection_id, document_id)
            resource = f"{name}/chunks/{chunk_id}"
            change = Change("chunks.delete", space.collection.collection_uid, (resource,))
            made = mutation(call, key, change)
            async with self._supplies.database.write(call.left) as conn:
                end = await chunk_changes.delete(
                    conn, made, space.collection, document_id, chunk_id
                )
            if end.done:
                call.receipt = made.receipt
            if end.done or await self._supplies.answered(call, key):
                return
            if not end.there or end.origin != CALLER:
                raise _why_not(end)


def _why_not(end: Deleted) -> Exception:
    if end.origin is not None and end.origin != CALLER and end.there:
        return not_the_callers()
    return NotFound("chunk: not found")


async def _changed_meanwhile(
    conn: Connection, names: tuple[str, str], grants: list[str] | None
) -> bool:
    """False, to try again, if only the collection changed. Raises if the document is gone."""
    row = await documents.get(conn, *names, grants, content=False)
    if row.delete_time is not None:
        raise WrongState("the document is deleted")
    return False


async def _check(conn: Connection, owner: Owner, request: pb.UpsertChunksRequest) -> None:
    if owner.origin != CALLER:
        raise not_the_callers()
    if request.mode not in (pb.WRITE_MODE_INSERT_ONLY, pb.WRITE_MODE_UPDATE_ONLY):
        return
    there = await chunk_changes.existing(
        conn, owner.document_uid, [c.chunk_id for c in request.chunks]
    )
    if request.mode == pb.WRITE_MODE_INSERT_ONLY and there:
        raise AlreadyExists(f"chunks: {len(there)} of their ids are taken")
    missing = len(request.chunks) - len(there)
    if request.mode == pb.WRITE_MODE_UPDATE_ONLY and missing:
        raise NotFound(f"chunks: {missing} of them are missing")


def _upsert(owner: Owner, request: pb.UpsertChunksRequest) -> Change:
    names = tuple(f"{request.parent}/chunks/{chunk.chunk_id}" for chunk in request.chunks)
    return Change("chunks.upsert", owner.collection_uid, names, owner.subject_ids)
