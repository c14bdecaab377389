"""The nearest chunks of one collection to one vector, and what is said of a short answer."""

from collections.abc import Sequence
from dataclasses import dataclass

from asyncpg import Record

from knowledge.v1 import vector_service_pb2 as pb
from knowledged.call import Call, Shown
from knowledged.names import collection_name
from knowledged.services import pack
from knowledged.services.search_arguments import Asked
from knowledged.services.search_batches import SearchBatches
from knowledged.services.search_legs import EXACT_BELOW_ROWS
from knowledged.store import search
from knowledged.store.collections import Collection, Space
from knowledged.store.recall import EVERYTHING
from knowledged.store.search import Plan, Query


@dataclass(frozen=True, slots=True)
class Found:
    """Hits, why there are fewer than asked for, and whether every candidate was compared."""

    hits: list[Record]
    reason: pb.IncompleteReason.ValueType
    exact: bool


@dataclass(frozen=True, slots=True)
class Searching:
    """Carries out such searches. One for the server."""

    batches: SearchBatches

    async def found(self, call: Call, asked: Asked, space: Space, vector: bytes) -> Found:
        """The hits. A search that the index answers too shortly is done again exactly."""
        plan, query = _planned(asked, space, vector)
        hits = await self.batches.search(call, plan, query)
        if len(hits) < asked.limit and not plan.exact:
            plan = Plan(plan.dimension, plan.distance, None, plan.joined)
            hits = await self.batches.search(call, plan, query)
        return _found(asked, hits, exact=plan.exact)

    async def found_many(
        self, call: Call, asked: Asked, space: Space, vectors: Sequence[bytes]
    ) -> list[Found]:
        """For each vector what `found` gives; by the index in one statement."""
        plan, query = _planned(asked, space, b"")
        if plan.exact:
            return [await self.found(call, asked, space, vector) for vector in vectors]
        lists = await self.batches.search_many(call, plan, query, vectors)
        return [
            _found(asked, hits, exact=False)
            if len(hits) == asked.limit
            else await self.found(call, asked, space, vector)
            for hits, vector in zip(lists, vectors, strict=True)
        ]


def answer_of(call: Call, found: Found, collection: Collection) -> pb.SearchResponse:
    """The answer to a plain search; the audit log is told what it holds."""
    answer = pb.SearchResponse()
    fill_answer(answer, call, found, collection)
    return answer


def fill_answer(
    answer: pb.SearchResponse, call: Call, found: Found, collection: Collection
) -> None:
    """The same, where it stands in a larger one."""
    answer.incomplete_reason, answer.exact = found.reason, found.exact
    name = collection_name(collection.collection_id)
    call.reads(map(shown, found.hits), collection.collection_uid)
    for row in found.hits:
        pack.fill_hit(answer.hits.add(), row, name)


def shown(row: Record) -> Shown:
    """A hit as the audit log is told of it."""
    return row["document_uid"], row["subject_ids"] or ()


def _found(asked: Asked, hits: list[Record], *, exact: bool) -> Found:
    good = _good_enough(hits, asked)
    return Found(good, _reason(asked, len(hits), len(good)), exact)


def _planned(asked: Asked, space: Space, vector: bytes) -> tuple[Plan, Query]:
    collection = space.collection
    exact = asked.exact or not space.indexed or space.rows < EXACT_BELOW_ROWS
    ef = None if exact else min(search.MAX_EF, max(asked.ef or space.ef, asked.limit))
    query = Query(
        collection.collection_uid,
        collection.active_space_uid,
        vector,
        asked.limit,
        asked.include_embedding,
        EVERYTHING,
    )
    return Plan(collection.dimension, collection.distance, ef, joined=False), query


def _good_enough(hits: list[Record], asked: Asked) -> list[Record]:
    if asked.min_score is None:
        return hits
    return [hit for hit in hits if hit["score"] >= asked.min_score]


def _reason(asked: Asked, found: int, good: int) -> pb.IncompleteReason.ValueType:
    if good == asked.limit:
        return pb.INCOMPLETE_REASON_UNSPECIFIED
    if good < found:
        return pb.INCOMPLETE_REASON_MIN_SCORE
    return pb.INCOMPLETE_REASON_COLLECTION_EXHAUSTED
