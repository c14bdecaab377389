"""Of VectorService what tells about a collection's chunks and indexes as a whole."""

import re
from collections.abc import Sequence
from statistics import fmean, median, quantiles

from asyncpg import Record
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Value

from knowledge.v1 import vector_service_pb2 as pb
from knowledged.call import Call
from knowledged.checks import Checks
from knowledged.declared_fields import search_fields
from knowledged.errors import NotFound
from knowledged.names import collection_of
from knowledged.services import pack
from knowledged.services.listing import parsed_filter
from knowledged.services.measuring import Asked, Measuring
from knowledged.services.search_arguments import COLLECTION_SHAPE
from knowledged.services.supplies import Supplies
from knowledged.store import facets, index_stats
from knowledged.store.collections import FilterField, filter_fields
from knowledged.store.filter_sql import compile as compile_filter
from knowledged.store.recall import Compared

MOST_FACETS = 8
LONGEST_PATH = 128
_FACET = re.compile(r"(metadata|chunk_metadata|labels)(\.[^.]+)+", re.DOTALL)
_STATES = {
    1: pb.INDEX_STATE_NONE,
    2: pb.INDEX_STATE_BUILDING,
    3: pb.INDEX_STATE_READY,
}


class IndexReports:
    """AggregateChunks, GetIndexStats and MeasureRecall."""

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies
        self._measuring = Measuring(supplies.database)

    async def AggregateChunks(
        self, request: pb.AggregateChunksRequest, call: Call
    ) -> pb.AggregateChunksResponse:
        checks = Checks()
        names = checks.name("collection", request.collection, collection_of, COLLECTION_SHAPE)
        most = request.facet_limit if request.HasField("facet_limit") else 10
        checks.number("facet_limit", most, 1, 1_000)
        _check_facets(checks, request.facets)
        asked = parsed_filter(checks, request)
        checks.done()
        space = await self._supplies.directory.resolve(call, names[0])
        fields = search_fields(space)
        condition = compile_filter(asked, fields, facets.FIRST_FILTER_PARAMETER)
        uids = space.collection.active_space_uid, space.collection.collection_uid
        async with self._supplies.database.read(call.left) as conn:
            rows = await facets.count(conn, uids, condition, list(request.facets), most)
        call.reads(())
        return _counts(request.facets, rows)

    async def GetIndexStats(
        self, request: pb.GetIndexStatsRequest, call: Call
    ) -> pb.GetIndexStatsResponse:
        names = Checks().name("collection", request.collection, collection_of, COLLECTION_SHAPE)
        space = await self._supplies.directory.resolve(call, names[0])
        collection = space.collection
        async with self._supplies.database.read(call.left) as conn:
            row = await index_stats.of_space(
                conn, collection.active_space_uid, collection.collection_uid
            )
            keys = [field.key for field in collection.filter_fields]
            sizes = await index_stats.field_bytes(conn, collection.active_space_uid, keys)
        if row is None:
            raise NotFound("collection: not found")
        return _stats(row, collection.filter_fields, sizes)

    async def MeasureRecall(
        self, request: pb.MeasureRecallRequest, call: Call
    ) -> pb.MeasureRecallResponse:
        checks = Checks()
        names = checks.name("collection", request.collection, collection_of, COLLECTION_SHAPE)
        asked = self._measuring.asked(checks, request)
        checks.done()
        space = await self._supplies.directory.resolve(call, names[0])
        ef, compared = await self._measuring.measured(call, asked, space)
        return _measured(ef, asked, compared)


def _check_facets(checks: Checks, paths: Sequence[str]) -> None:
    checks.count("facets", len(paths), MOST_FACETS)
    if len(set(paths)) < len(paths):
        checks.fault("facets", "a path stands in them more than once")
    for place, path in enumerate(paths):
        checks.text(f"facets[{place}]", path, LONGEST_PATH, required=True)
        if not _FACET.fullmatch(path):
            checks.fault(
                f"facets[{place}]", "must begin with metadata., chunk_metadata. or labels."
            )


def _counts(paths: Sequence[str], rows: Sequence[Record]) -> pb.AggregateChunksResponse:
    total, *counted = rows
    found: list[pb.ChunkFacetCounts] = [pb.ChunkFacetCounts(path=path) for path in paths]
    for row in counted:
        place: int = row["place"]
        facet = found[place - 1]
        facet.distinct_count = row["different"]
        if row["value"] is None:
            facet.missing_count = row["chunks"]
        else:
            value = ParseDict(row["value"], Value())
            facet.values.add(value=value, chunk_count=row["chunks"])
    return pb.AggregateChunksResponse(
        chunk_count=total["chunks"], document_count=total["different"], facets=found
    )


def _stats(
    row: Record, fields: Sequence[FilterField], sizes: dict[str, int]
) -> pb.GetIndexStatsResponse:
    ready = set(filter_fields(row["ready_fields"]))
    answer = pb.GetIndexStatsResponse(
        estimated_chunks=row["estimated_chunks"],
        state=_STATES[row["state"]],
        vector_bytes=row["vector_bytes"],
        estimated_dead_rows=row["dead_rows"],
        filter_fields=[
            pb.FilterFieldIndex(path=f.path, ready=f in ready, bytes=sizes[f.key])
            for f in sorted(fields, key=lambda field: field.path)
        ],
    )
    _fill_index(answer, row)
    return answer


def _fill_index(answer: pb.GetIndexStatsResponse, row: Record) -> None:
    """What is set only where it is there."""
    if row["index_bytes"] is not None:
        options = dict(option.split("=") for option in row["index_options"] or ())
        answer.vector_index.bytes = row["index_bytes"]
        answer.vector_index.ef = row["ef"]
        answer.vector_index.ef_reason = row["ef_reason"]
        answer.vector_index.m = int(options["m"])
        answer.vector_index.ef_construction = int(options["ef_construction"])
        _fill_recall(answer.vector_index, row)
    if row["phase"] is not None:
        answer.build.phase = row["phase"]
        answer.build.rows_done, answer.build.rows_total = row["rows_done"], row["rows_total"]
    if row["count_time"] is not None:
        answer.words.chunk_count = row["counted_chunks"]
        answer.words.word_count = row["counted_words"]
        answer.words.count_time.CopyFrom(pack.timestamp(row["count_time"]))


def _fill_recall(index: pb.VectorIndex, row: Record) -> None:
    if row["recall_time"] is not None:
        index.recall = row["recall"]
        index.recall_query_count = row["recall_queries"]
        index.recall_time.CopyFrom(pack.timestamp(row["recall_time"]))


def _measured(ef: int, asked: Asked, compared: Sequence[Compared]) -> pb.MeasureRecallResponse:
    plan = pb.SEARCH_PLAN_INDEX
    if not ef:
        plan = pb.SEARCH_PLAN_EXACT
    elif asked.filter is not None and compared and all(each.all_compared for each in compared):
        plan, ef = pb.SEARCH_PLAN_FILTER_FIRST, 0
    return pb.MeasureRecallResponse(
        recall=fmean([each.recall for each in compared] or [1.0]),
        lowest_recall=min((each.recall for each in compared), default=1.0),
        query_count=len(compared),
        plan=plan,
        ef=ef,
        latency=_latency([each.seconds for each in compared]),
        exact_latency=_latency([each.exact_seconds for each in compared]),
    )


def _latency(seconds: Sequence[float]) -> pb.Latency:
    if not seconds:
        return pb.Latency()
    twentieths = quantiles([*seconds, seconds[0]], n=20, method="inclusive")
    return pb.Latency(
        p50_milliseconds=1_000 * median(seconds), p95_milliseconds=1_000 * twentieths[-1]
    )
