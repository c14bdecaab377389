"""One collection searched: which statement, and what is done when it finds too little."""

from contextlib import suppress
from dataclasses import dataclass, replace

from asyncpg import Record, UndefinedTableError

from knowledge.v1 import vector_service_pb2 as pb
from knowledged.call import Call
from knowledged.database import Database
from knowledged.declared_fields import only_declared, search_fields
from knowledged.services.search_arguments import Asked, Hybrid
from knowledged.services.search_batches import SearchBatches
from knowledged.services.wide_filters import WideFilters
from knowledged.store import filtered, hybrid, search
from knowledged.store.collections import Space
from knowledged.store.examples import Mean, without
from knowledged.store.filter_sql import Condition
from knowledged.store.filter_sql import compile as compile_filter
from knowledged.store.filtered import Filtered
from knowledged.store.hybrid import Words
from knowledged.store.search import MAX_EF, Plan, Query

# Measured: comparing with every vector is as fast as the index up to about here.
EXACT_BELOW_ROWS = 3_000


@dataclass(frozen=True, slots=True)
class Target:
    """What a search goes for: a vector, unless the words are alone, and what it leaves out."""

    vector: bytes
    leaves_out: tuple[Mean, ...] = ()


@dataclass(frozen=True, slots=True)
class Leg:
    """What one collection gave: hits, best first, and how they were found.

    `passes` is how many pass the filter, as far as they were counted; `near` and `held` are the
    candidates by vector and by words. `full` says that there may be more hits.
    """

    space: Space
    hits: list[Record]
    plan: pb.SearchPlan.ValueType
    ef: int
    near: int
    passes: int = 0
    held: int = 0
    widened: bool = False
    full: bool = False

    @property
    def exact(self) -> bool:
        return self.plan in (pb.SEARCH_PLAN_EXACT, pb.SEARCH_PLAN_FILTER_FIRST)


@dataclass(frozen=True, slots=True)
class Legs:
    """Searches one collection. One for the server."""

    database: Database
    batches: SearchBatches
    wide: WideFilters

    async def search(self, call: Call, asked: Asked, space: Space, target: Target) -> Leg:
        """At most `asked.candidates` hits. What the index leaves short is done again exactly."""
        leg = await self._once(call, asked, space, target)
        if len(leg.hits) < asked.candidates and leg.plan == pb.SEARCH_PLAN_INDEX:
            leg = await self._once(call, replace(asked, exact=True), space, target)
            leg = replace(leg, widened=True)
        return replace(leg, full=len(leg.hits) == asked.candidates)

    async def _once(self, call: Call, asked: Asked, space: Space, target: Target) -> Leg:
        plan = _plan(asked, space)
        if asked.hybrid:
            return await self._hybrid(call, asked, asked.hybrid, space, plan, target)
        if plan.exact or (asked.filter is None and not target.leaves_out):
            return await self._near(call, asked, space, plan, target)
        return await self._filtered(call, asked, space, plan, target)

    async def _near(
        self, call: Call, asked: Asked, space: Space, plan: Plan, target: Target
    ) -> Leg:
        query = _query(asked, space, target, search.FIRST_FILTER_PARAMETER)
        hits = await self.batches.search(call, plan, query)
        return Leg(space, hits, _name(plan), plan.ef or 0, len(hits))

    async def _filtered(
        self, call: Call, asked: Asked, space: Space, plan: Plan, target: Target
    ) -> Leg:
        query = _query(asked, space, target, filtered.FIRST_FILTER_PARAMETER)
        found = await self._passing(call, space, plan, query)
        passes = found.passes if asked.filter else 0
        if found.hits and found.all_compared:
            return Leg(space, found.hits, pb.SEARCH_PLAN_FILTER_FIRST, 0, len(found.hits), passes)
        return Leg(space, found.hits, pb.SEARCH_PLAN_INDEX, plan.ef or 0, len(found.hits), passes)

    async def _passing(self, call: Call, space: Space, plan: Plan, query: Query) -> Filtered:
        """By the index at once where many were found to pass lately."""
        known = self.wide.passes(query.space_uid, query.condition)
        async with self.database.read(call.left) as conn:
            if known:
                hits = await filtered.search_index(conn, plan, query)
                return Filtered(hits, known, all_compared=False)
            most = filtered.most_compared(query.limit, space.rows)
            found = await filtered.search(conn, plan, query, most)
        if not found.all_compared:
            self.wide.note(query.space_uid, query.condition, found.passes)
        return found

    async def _hybrid(
        self, call: Call, asked: Asked, given: Hybrid, space: Space, plan: Plan, target: Target
    ) -> Leg:
        language = space.collection.language
        weights = given.vector_weight, given.text_weight
        words = Words(given.text, given.phrases, language, *weights)
        query = _query(asked, space, target, hybrid.FIRST_FILTER_PARAMETER)
        hits = await self._worded(call, plan, query, words)
        near, held = (hits[0]["near"], hits[0]["held"]) if hits else (0, 0)
        name = pb.SEARCH_PLAN_UNSPECIFIED if words.alone else _name(plan)
        return Leg(space, hits, name, plan.ef or 0, near, held=held)

    async def _worded(self, call: Call, plan: Plan, query: Query, words: Words) -> list[Record]:
        """Without filter by a plan that is kept: planning takes a fifth of the time."""
        if query.condition.always and not plan.exact:
            with suppress(UndefinedTableError):
                async with self.database.read_planned(call.left) as conn:
                    return await hybrid.search_kept(conn, plan, query, words)
        async with self.database.read(call.left) as conn:
            return await hybrid.search(conn, plan, query, words)


def _plan(asked: Asked, space: Space) -> Plan:
    collection = space.collection
    exact = asked.exact or not space.indexed or space.rows < EXACT_BELOW_ROWS
    candidates = hybrid.nearest(asked.candidates) if asked.hybrid else asked.candidates
    ef = None if exact else min(MAX_EF, max(asked.ef or space.ef, candidates))
    joined = search.asks_more_than(only_declared(space.ready_fields), asked.filter)
    return Plan(collection.dimension, collection.distance, ef, joined)


def _query(asked: Asked, space: Space, target: Target, first_parameter: int) -> Query:
    collection = space.collection
    return Query(
        collection.collection_uid,
        collection.active_space_uid,
        target.vector,
        asked.candidates,
        asked.include_embedding or asked.strength is not None,
        _condition(asked, space, target, first_parameter),
    )


def _condition(asked: Asked, space: Space, target: Target, first_parameter: int) -> Condition:
    fields = search_fields(space)
    condition = compile_filter(asked.filter, fields, first_parameter)
    if not target.leaves_out:
        return condition
    return without(condition, target.leaves_out, first_parameter)


def _name(plan: Plan) -> pb.SearchPlan.ValueType:
    return pb.SEARCH_PLAN_EXACT if plan.exact else pb.SEARCH_PLAN_INDEX
