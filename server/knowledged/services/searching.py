"""A search's arguments, how it is carried out, and what is said of a short answer."""

from dataclasses import dataclass

from asyncpg import Record

from knowledge.v1 import vector_service_pb2 as pb
from knowledged.call import Call
from knowledged.checks import Checks
from knowledged.declared_fields import declared, only_declared, typed
from knowledged.filters.syntax import Filter
from knowledged.services.given_chunks import vector_bytes
from knowledged.services.listing import parsed_filter
from knowledged.services.search_batches import SearchBatches
from knowledged.services.supplies import Supplies
from knowledged.store import search
from knowledged.store.collections import Space
from knowledged.store.filter_sql import Fields
from knowledged.store.filter_sql import compile as compile_filter
from knowledged.store.search import FIRST_FILTER_PARAMETER, SEARCH_COLUMNS, Plan, Query
from knowledged.vectors import VectorRule

LONGEST_TEXT = 8_192
DEFAULT_LIMIT = 10
# Measured: comparing with every vector is as fast as the index up to about here.
EXACT_BELOW_ROWS = 3_000


@dataclass(frozen=True, slots=True)
class Asked:
    """A search request, checked but for what its collection decides."""

    collection_id: str
    limit: int
    ef: int | None
    filter: Filter | None


@dataclass(frozen=True, slots=True)
class Found:
    """Hits, why there are fewer than asked for, and whether every candidate was compared."""

    hits: list[Record]
    reason: pb.IncompleteReason.ValueType
    exact: bool


@dataclass(frozen=True, slots=True)
class Searching:
    """Carries out searches. One for the server."""

    supplies: Supplies
    batches: SearchBatches

    def asked(self, checks: Checks, request: pb.SearchRequest, collection_id: str) -> Asked:
        """The checked arguments; faults go to the checks."""
        kind = request.WhichOneof("query")
        if kind is None:
            checks.fault("query", "one of text and vector is required")
        if kind == "text":
            checks.text("text", request.text, LONGEST_TEXT, required=True)
        limit = request.limit if request.HasField("limit") else DEFAULT_LIMIT
        checks.number("limit", limit, 1, self.supplies.limits.max_search_limit)
        ef = request.ef if request.HasField("ef") else None
        checks.number("ef", 1 if ef is None else ef, 1, search.MAX_EF)
        if request.HasField("min_score") and request.min_score != request.min_score:
            checks.fault("min_score", "is not a number")
        return Asked(collection_id, limit, ef, parsed_filter(checks, request))

    async def vector(
        self, call: Call, checks: Checks, request: pb.SearchRequest, space: Space
    ) -> bytes:
        """The query's vector: as given, or that of its text."""
        collection = space.collection
        if request.WhichOneof("query") == "text":
            embedder = self.supplies.text.model_of(space).embedder
            rows = await embedder.embed([request.text], urgent=True, seconds_left=call.left)
            return rows[0].tobytes()
        vector = vector_bytes(request.vector)
        if fault := VectorRule(collection.dimension, collection.distance).fault(vector):
            checks.fault("vector", fault)
            checks.done()
        return vector

    async def found(
        self, call: Call, request: pb.SearchRequest, asked: Asked, space: Space, vector: bytes
    ) -> Found:
        """The hits. A filtered search that the index answers too shortly is done again exactly."""
        plan, query = self._planned(request, asked, space, vector)
        hits = await self.batches.search(call, plan, query)
        if len(hits) < asked.limit and not plan.exact:
            plan = Plan(plan.dimension, plan.distance, None, plan.joined)
            hits = await self.batches.search(call, plan, query)
        good = _good_enough(hits, request)
        return Found(good, _reason(asked, len(hits), len(good)), plan.exact)

    def _planned(
        self, request: pb.SearchRequest, asked: Asked, space: Space, vector: bytes
    ) -> tuple[Plan, Query]:
        collection, ready = space.collection, space.ready_fields
        exact = request.exact or not space.indexed or space.rows < EXACT_BELOW_ROWS
        ef = None if exact else min(search.MAX_EF, max(asked.ef or space.ef, asked.limit))
        joined = search.asks_more_than(only_declared(ready), asked.filter)
        fields = Fields(SEARCH_COLUMNS, declared(ready), typed(collection.filter_fields))
        condition = compile_filter(asked.filter, fields, FIRST_FILTER_PARAMETER)
        query = Query(
            collection.collection_uid,
            collection.active_space_uid,
            vector,
            asked.limit,
            request.include_embedding,
            condition,
        )
        return Plan(collection.dimension, collection.distance, ef, joined), query


def _good_enough(hits: list[Record], request: pb.SearchRequest) -> list[Record]:
    if not request.HasField("min_score"):
        return hits
    return [hit for hit in hits if hit["score"] >= request.min_score]


def _reason(asked: Asked, found: int, good: int) -> pb.IncompleteReason.ValueType:
    if good == asked.limit:
        return pb.INCOMPLETE_REASON_UNSPECIFIED
    if good < found:
        return pb.INCOMPLETE_REASON_MIN_SCORE
    if asked.filter is not None:
        return pb.INCOMPLETE_REASON_FILTER_EXHAUSTED
    return pb.INCOMPLETE_REASON_COLLECTION_EXHAUSTED
