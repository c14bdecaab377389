"""The collections of KnowledgeService."""

from dataclasses import replace
from datetime import UTC, datetime

from knowledge.v1 import knowledge_service_pb2 as pb
from knowledge.v1.collection_pb2 import Collection as CollectionMessage
from knowledged.call import Call
from knowledged.checks import Checks
from knowledged.errors import Conflict, Denied, NotFound, WrongState
from knowledged.names import collection_name, collection_of, new_id
from knowledged.services import pack
from knowledged.services.collection_names import names_kept
from knowledged.services.drafts import COLLECTION_PATHS, LATER_COLLECTION_PATHS, mask_paths
from knowledged.services.listing import by_attribute, filter_condition
from knowledged.services.recording import Change, mutation, request_key
from knowledged.services.supplies import Supplies, granted
from knowledged.store import collection_changes, collections
from knowledged.store.collections import FIELDS, ORDERS, Collection
from knowledged.store.requests import Answered, Mutation, RequestKey

SHAPE = '"collections/{collection}"'


class Collections:
    """RPCs over collections. A caller confined to some collections cannot make others."""

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies

    async def CreateCollection(
        self, request: pb.CreateCollectionRequest, call: Call
    ) -> pb.CreateCollectionResponse:
        checks, now = Checks(), datetime.now(UTC)
        collection_id = request.collection_id or new_id()
        checks.id("collection_id", collection_id)
        key = request_key(call, request, checks.request_id(request.request_id))
        draft = self._supplies.drafts.collection(checks, request.collection, collection_id, now)
        checks.done()
        _may_make(call, collection_id)
        if answered := await self._supplies.answered(call, key):
            return await self._created(call, answered)
        made = mutation(call, key, _change("collections.create", draft))
        async with self._supplies.database.transaction(call.left) as conn:
            await names_kept(conn, call, draft, take=False)
            first = await collection_changes.create(conn, made, draft, self._digest(draft))
        if not first:
            return await self._created(call, await self._earlier(call, key))
        self._settled(call, made, draft)
        return pb.CreateCollectionResponse(
            collection=pack.collection(draft), receipt=pack.receipt(call.receipt)
        )

    async def GetCollection(
        self, request: pb.GetCollectionRequest, call: Call
    ) -> pb.GetCollectionResponse:
        (collection_id,) = Checks().name("name", request.name, collection_of, SHAPE)
        async with self._supplies.database.read(call.left) as conn:
            row = await collections.get(conn, collection_id, granted(call))
            sizes = await collections.sizes(conn, row)
        call.reads([(row.collection_uid, ())], row.collection_uid)
        return pb.GetCollectionResponse(
            collection=pack.collection(row, sizes.documents), sizes=pack.sizes(sizes)
        )

    async def ListCollections(
        self, request: pb.ListCollectionsRequest, call: Call
    ) -> pb.ListCollectionsResponse:
        checks, order_by = Checks(), request.order_by or "collection_id"
        condition = filter_condition(checks, request, FIELDS, 2)
        position = by_attribute("collection_uid")
        listing = self._supplies.lists.listing(checks, call, request, ORDERS, order_by, position)
        async with self._supplies.database.read(call.left) as conn:
            rows = await collections.list_page(conn, granted(call), condition, listing.page)
        room = self._supplies.limits.max_message_bytes
        messages, token = listing.fitted(rows, pack.collection, room)
        call.reads((row.collection_uid, ()) for row in rows[: len(messages)])
        return pb.ListCollectionsResponse(collections=messages, next_page_token=token)

    async def UpdateCollection(
        self, request: pb.UpdateCollectionRequest, call: Call
    ) -> pb.UpdateCollectionResponse:
        checks = Checks()
        (collection_id,) = checks.name(
            "collection.name", request.collection.name, collection_of, SHAPE
        )
        key = request_key(call, request, checks.request_id(request.request_id))
        mask = list(request.update_mask.paths)
        paths = mask_paths(checks, mask, COLLECTION_PATHS, _default_paths(request.collection))
        async for space in self._supplies.directory.attempts(call, collection_id):
            if answered := await self._supplies.answered(call, key):
                return await self._updated(call, answered)
            old = space.collection
            draft = self._redrafted(checks, old, request, paths)
            _check_etag(request.etag, old, self._supplies, collection_id)
            if await self._stored(call, key, old, draft, take=request.take_aliases):
                return pb.UpdateCollectionResponse(
                    collection=pack.collection(replace(draft, revision=draft.revision + 1)),
                    receipt=pack.receipt(call.receipt),
                )
        raise AssertionError("attempts end by raising")

    async def DeleteCollection(
        self, request: pb.DeleteCollectionRequest, call: Call
    ) -> pb.DeleteCollectionResponse:
        checks = Checks()
        (collection_id,) = checks.name("name", request.name, collection_of, SHAPE)
        key = request_key(call, request, checks.request_id(request.request_id))
        checks.done()
        if await self._supplies.answered(call, key):
            return pb.DeleteCollectionResponse(receipt=pack.receipt(call.receipt))
        self._supplies.directory.forget(collection_id)
        space = await self._supplies.directory.resolve(call, collection_id)
        _check_etag(request.etag, space.collection, self._supplies, collection_id)
        made = mutation(call, key, _change("collections.delete", space.collection))
        if await self._deleted(call, made, space.collection, request.force):
            self._settled(call, made, space.collection)
        else:
            await self._earlier(call, key)
        return pb.DeleteCollectionResponse(receipt=pack.receipt(call.receipt))

    def _redrafted(
        self,
        checks: Checks,
        old: Collection,
        request: pb.UpdateCollectionRequest,
        paths: frozenset[str],
    ) -> Collection:
        drafts = self._supplies.drafts
        row = drafts.changed_collection(checks, old, request.collection, paths)
        checks.done()
        return replace(row, update_time=datetime.now(UTC))

    async def _stored(
        self, call: Call, key: RequestKey, old: Collection, draft: Collection, *, take: bool
    ) -> bool:
        """Whether the new state is stored; else it changed meanwhile, or a copy was first."""
        async with self._supplies.database.transaction(call.left) as conn:
            robbed = await names_kept(conn, call, draft, take=take)
            made = mutation(call, key, _change("collections.update", old, *robbed))
            done = await collection_changes.update(conn, made, draft)
        if done:
            self._settled(call, made, old, *draft.aliases, *robbed)
        return done

    async def _deleted(self, call: Call, made: Mutation, row: Collection, force: bool) -> bool:
        async with self._supplies.database.transaction(call.left) as conn:
            if not await collection_changes.lock(conn, row.collection_uid):
                return False
            if not force and not await collection_changes.is_empty(conn, row.collection_uid):
                message = "the collection has documents; set force to delete them, too"
                raise WrongState(message, reason="COLLECTION_NOT_EMPTY")
            if await collection_changes.has_held(conn, row.collection_uid):
                message = "a document of the collection is under legal hold"
                raise WrongState(message, reason="LEGAL_HOLD")
            return await collection_changes.delete(
                conn, made, row.collection_uid, made.event.occurred_at
            )

    def _settled(self, call: Call, made: Mutation, row: Collection, *others: str) -> None:
        """Forgets what its names meant, and those of others."""
        call.receipt = made.receipt
        for name in (row.collection_id, *row.aliases, *others):
            self._supplies.directory.forget(name)

    async def _earlier(self, call: Call, key: RequestKey) -> Answered:
        """The answer of the copy that was first; without one the collection is gone meanwhile."""
        answered = await self._supplies.answered(call, key)
        if answered is None:
            raise NotFound("collection: not found")
        return answered

    async def _created(self, call: Call, answered: Answered) -> pb.CreateCollectionResponse:
        row = await self._row(call, answered)
        return pb.CreateCollectionResponse(
            collection=pack.collection(row), receipt=pack.receipt(call.receipt)
        )

    async def _updated(self, call: Call, answered: Answered) -> pb.UpdateCollectionResponse:
        row = await self._row(call, answered)
        return pb.UpdateCollectionResponse(
            collection=pack.collection(row), receipt=pack.receipt(call.receipt)
        )

    async def _row(self, call: Call, answered: Answered) -> Collection:
        async with self._supplies.database.read(call.left) as conn:
            return await collections.get_by_uid(conn, answered.resource_uid)

    def _digest(self, row: Collection) -> str:
        model = self._supplies.text.catalogue.find(row.embedding_model)
        return model.embedder.model_digest if model else ""


def _may_make(call: Call, collection_id: str) -> None:
    if not call.principal.may_see(collection_id):
        raise Denied("the caller's grant does not cover a collection of this id")


def _default_paths(message: CollectionMessage) -> frozenset[str]:
    """Without a mask: everything, but of what came later only what is set."""
    populated = {field.name for field, _ in message.ListFields()}
    return COLLECTION_PATHS - (LATER_COLLECTION_PATHS - populated)


def _change(action: str, row: Collection, *others: str) -> Change:
    names = tuple(collection_name(each) for each in (row.collection_id, *others))
    return Change(action, row.collection_uid, names)


def _check_etag(etag: str, row: Collection, supplies: Supplies, collection_id: str) -> None:
    if etag and etag != pack.etag(row.collection_uid, row.revision):
        supplies.directory.forget(collection_id)
        raise Conflict("etag: is stale; read the collection again")
