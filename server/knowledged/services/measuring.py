"""Measures how well a collection's index finds."""

from collections.abc import Sequence
from dataclasses import dataclass

from knowledge.v1 import vector_service_pb2 as pb
from knowledged.call import Call
from knowledged.checks import Checks
from knowledged.database import Database
from knowledged.declared_fields import only_declared, search_fields
from knowledged.filters.language import Filter
from knowledged.services.given_chunks import vector_bytes
from knowledged.services.listing import parsed_filter
from knowledged.store import filtered, recall, search
from knowledged.store.collections import Space
from knowledged.store.filter_sql import compile as compile_filter
from knowledged.store.recall import Compared
from knowledged.store.search import MAX_EF, Plan, Query
from knowledged.vectors import VectorRule

MOST_QUERIES = 100
MOST_HITS = 100


@dataclass(frozen=True, slots=True)
class Asked:
    """What to measure: given vectors, or a sample where there are none."""

    vectors: Sequence[bytes]
    sample: int
    limit: int
    ef: int | None
    filter: Filter | None


@dataclass(frozen=True, slots=True)
class Measuring:
    """Measures. One for the server."""

    database: Database

    def asked(self, checks: Checks, request: pb.MeasureRecallRequest) -> Asked:
        """The arguments, checked but for the vectors' dimension; faults go to the checks."""
        checks.count("queries", len(request.queries), MOST_QUERIES)
        sample = request.sample_size if request.HasField("sample_size") else 20
        checks.number("sample_size", sample, 1, MOST_QUERIES)
        if request.queries and request.HasField("sample_size"):
            checks.fault("sample_size", "takes no queries beside it")
        limit = request.limit if request.HasField("limit") else 10
        checks.number("limit", limit, 1, MOST_HITS)
        ef = request.ef if request.HasField("ef") else None
        checks.number("ef", 1 if ef is None else ef, 1, MAX_EF)
        vectors = [vector_bytes(message) for message in request.queries]
        return Asked(vectors, sample, limit, ef, parsed_filter(checks, request))

    async def measured(self, call: Call, asked: Asked, space: Space) -> tuple[int, list[Compared]]:
        """The candidates the index looked at, 0 without index, and what each query found."""
        _check_vectors(asked.vectors, space)
        plan, most = _plan(asked, space), filtered.most_compared(asked.limit, space.rows)
        async with self.database.read(call.left) as conn:
            space_uid = space.collection.active_space_uid
            vectors = asked.vectors or await recall.sample(conn, space_uid, asked.sample)
            compared = [
                await recall.compare(conn, plan, *_queries(asked, space, vector), most)
                for vector in vectors
            ]
        return plan.ef or 0, compared


def _check_vectors(vectors: Sequence[bytes], space: Space) -> None:
    checks = Checks()
    rule = VectorRule(space.collection.dimension, space.collection.distance)
    for place, vector in enumerate(vectors):
        if fault := rule.fault(vector):
            checks.fault(f"queries[{place}]", fault)
    checks.done()


def _plan(asked: Asked, space: Space) -> Plan:
    ef = max(asked.ef or space.ef, asked.limit) if space.indexed else None
    joined = search.asks_more_than(only_declared(space.ready_fields), asked.filter)
    return Plan(space.collection.dimension, space.collection.distance, ef, joined)


def _queries(asked: Asked, space: Space, vector: bytes) -> tuple[Query, Query | None]:
    """The question for an exact search and, with a filter, for one that is planned."""
    exact = _query(asked, space, vector, search.FIRST_FILTER_PARAMETER)
    if asked.filter is None:
        return exact, None
    return exact, _query(asked, space, vector, filtered.FIRST_FILTER_PARAMETER)


def _query(asked: Asked, space: Space, vector: bytes, first_parameter: int) -> Query:
    fields = search_fields(space)
    condition = compile_filter(asked.filter, fields, first_parameter)
    collection = space.collection
    uids = collection.collection_uid, collection.active_space_uid
    return Query(*uids, vector, asked.limit, False, condition)
