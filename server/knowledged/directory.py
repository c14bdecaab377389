"""Which collection a name means: a short-lived cache, since every call asks.

Statements check again that what it said still holds, so an old answer costs a retry, no error.
"""

import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import replace

from knowledged.call import Call
from knowledged.database import Database
from knowledged.errors import Conflict, NotFound
from knowledged.store import collections
from knowledged.store.collections import LOCAL_ONLY, Space

_SECONDS = 1.0
_MOST = 4096
_ATTEMPTS = 64


class Directory:
    """Resolves collections' ids and aliases for callers who are granted them. Grants are by id.

    Without `uses_indexes` it says of every vector space that it has none.
    """

    def __init__(self, database: Database, *, uses_indexes: bool = True) -> None:
        self.uses_indexes = uses_indexes
        self._database = database
        self._known: OrderedDict[str, tuple[float, Space]] = OrderedDict()

    async def resolve(self, call: Call, collection_id: str) -> Space:
        """The live collection. NotFound also when it is not granted: not the caller's to know."""
        space = await self._space(call.left, collection_id)
        if not call.principal.may_see(space.collection.collection_id):
            raise NotFound("collection: not found")
        call.resolved[space.collection.collection_uid] = collection_id
        return space

    async def attempts(self, call: Call, collection_id: str) -> AsyncIterator[Space]:
        """The collection, again and fresh each time it or a document in it changed meanwhile."""
        yield await self.resolve(call, collection_id)
        for _ in range(_ATTEMPTS):
            self.forget(collection_id)
            yield await self.resolve(call, collection_id)
        message = "others kept changing the same data; try again"
        raise Conflict(message, reason="CONCURRENT_CHANGE")

    def forget(self, collection_id: str) -> None:
        self._known.pop(collection_id, None)

    async def _space(self, seconds: float | None, collection_id: str) -> Space:
        known = self._known.get(collection_id)
        if known and known[0] > time.monotonic():
            return known[1]
        return await self._look_up(seconds, collection_id)

    async def _look_up(self, seconds: float | None, collection_id: str) -> Space:
        self.forget(collection_id)
        async with self._database.read(seconds) as conn:
            space = await collections.space(conn, collection_id)
        if space is None:
            raise NotFound("collection: not found")
        space = replace(space, indexed=space.indexed and self.uses_indexes)
        # Looked up each time where text may leave the machine: no text leaves by an old permission.
        if space.collection.egress == LOCAL_ONLY:
            self._keep(collection_id, space)
        return space

    def _keep(self, collection_id: str, space: Space) -> None:
        self._known[collection_id] = (time.monotonic() + _SECONDS, space)
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
