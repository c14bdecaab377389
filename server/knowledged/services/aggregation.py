"""Counts of documents."""

from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.struct_pb2 import Value

from knowledge.v1 import knowledge_service_pb2 as pb
from knowledged.call import Call
from knowledged.checks import Checks
from knowledged.database import Connection
from knowledged.errors import Invalid
from knowledged.filters.language import parse_path
from knowledged.names import collection_of
from knowledged.services.json_struct import fill_value
from knowledged.services.listing import document_condition, document_fields, document_filter
from knowledged.services.supplies import Supplies
from knowledged.store import document_facets
from knowledged.store.collections import Collection
from knowledged.store.document_facets import FIRST_FILTER_PARAMETER, SAMPLE, Chosen, Counts
from knowledged.store.documents import DOCUMENT_FIELDS
from knowledged.store.filter_sql import Condition
from knowledged.store.filter_values import compile_value

SHAPE = '"collections/{collection}"'
MOST_FACETS = 16
MOST_VALUES = 1_000
DEFAULT_VALUES = 10


@dataclass(frozen=True, slots=True)
class Facet:
    """A field to count by: as written and as keys, and how many values are asked for."""

    field: str
    text: str
    path: tuple[str, ...]
    limit: int


class Aggregation:
    """The RPC that counts."""

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies

    async def AggregateDocuments(
        self, request: pb.AggregateDocumentsRequest, call: Call
    ) -> pb.AggregateDocumentsResponse:
        checks = Checks()
        (collection_id,) = checks.name("parent", request.parent, collection_of, SHAPE)
        asked, facets = document_filter(checks, request), _facets(checks, request)
        checks.done()
        collection = (await self._supplies.directory.resolve(call, collection_id)).collection
        condition = document_condition(asked, collection, FIRST_FILTER_PARAMETER)
        chosen = Chosen(collection.collection_uid, request.show_deleted, condition)
        values = _values(checks, collection, facets, chosen.next_parameter)
        asked_counts = list(zip(facets, values, strict=True))
        async with self._supplies.database.snapshot(call.left) as conn:
            return await _counted(conn, chosen, asked_counts, estimate=request.estimate)


async def _counted(
    conn: Connection, chosen: Chosen, asked: list[tuple[Facet, Condition]], *, estimate: bool
) -> pb.AggregateDocumentsResponse:
    expected = await document_facets.estimate(conn, chosen) if estimate else 0
    sampled = expected > SAMPLE
    per_cent = 100 * SAMPLE / expected if sampled else 100
    answer = pb.AggregateDocumentsResponse(estimated=sampled)
    answer.document_count = expected if sampled else await document_facets.count(conn, chosen)
    for facet, value in asked:
        found = await document_facets.facet(conn, chosen, value, facet.limit, per_cent)
        answer.facets.append(_packed(facet, found))
    return answer


def _facets(checks: Checks, request: pb.AggregateDocumentsRequest) -> list[Facet]:
    """The facets asked for; faults go to the checks."""
    checks.count("facets", len(request.facets), MOST_FACETS)
    facets = [_facet(checks, f"facets[{n}]", facet) for n, facet in enumerate(request.facets)]
    if sum(facet.limit for facet in facets) > MOST_VALUES:
        checks.fault("facets", f"their limits together are over {MOST_VALUES}")
    return facets


def _facet(checks: Checks, at: str, facet: pb.Facet) -> Facet:
    limit = facet.limit if facet.HasField("limit") else DEFAULT_VALUES
    checks.number(f"{at}.limit", limit, 1, MOST_VALUES)
    path: tuple[str, ...] = ()
    try:
        path = parse_path(facet.path, f"{at}.path")
    except Invalid as error:
        checks.violations.extend(error.violations)
    return Facet(f"{at}.path", facet.path, path, limit)


def _values(
    checks: Checks, collection: Collection, facets: list[Facet], first_parameter: int
) -> list[Condition]:
    """The SQL of each facet's value. Raises Invalid for fields that cannot be counted by."""
    fields = document_fields(collection)
    values: list[Condition] = []
    for facet in facets:
        try:
            values.append(compile_value(fields, facet.path, first_parameter, facet.field))
        except Invalid as error:
            checks.violations.extend(error.violations)
    checks.done()
    return values


def _packed(facet: Facet, counts: Counts) -> pb.FacetCounts:
    column = DOCUMENT_FIELDS.get(facet.text)
    names = {number: name for name, number in column.names.items()} if column else {}
    return pb.FacetCounts(
        path=facet.text,
        values=[_value(value, documents, names) for value, documents in counts.values],
        distinct_count=counts.distinct,
        missing_count=counts.missing,
    )


def _value(value: object, documents: int, names: Mapping[int, str]) -> pb.FacetValue:
    named = names.get(value, value) if type(value) is int else value
    message = Value()
    fill_value(message, named)
    return pb.FacetValue(value=message, document_count=documents)
