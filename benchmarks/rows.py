"""The rows about reading: searches, plain and filtered, and documents."""

import statistics
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from benchmarks import bare_call, raw_jobs, service_jobs
from benchmarks.apart import served
from benchmarks.corpus import Corpus
from benchmarks.loading import SHARES, document_id, shares
from benchmarks.numpy_legs import TOP, nearest
from benchmarks.report import Row, row
from benchmarks.rounds import CALLERS, Bench, Job, Pair, Round, p50_row, pairs, qps_rows, timed
from knowledge.v1.vector_service_pb2 import SearchRequest

LIMIT = 10
LEAST_RECALL = 0.98
# Two recalls that differ by more are not of equal quality, and their speeds not comparable.
EQUAL_RECALL = 0.005
_MOST_EF = 320


def search_rows(bench: Bench, target: str) -> list[Row]:
    chunks = f"{len(bench.corpus.ids)} chunks, {check_recall(bench)}"
    many = search_pairs(bench, bench)
    one = [(search(bench, 1), raw_search(bench, 1)) for _ in range(bench.rounds)]
    return [
        *qps_rows("Search", many, target, chunks),
        houseless_row(bench, "Search", many, service_jobs.search, bench.requests()),
        p50_row("Search", one, "≤ 1.7"),
        _houseless_p50_row(bench, one),
    ]


def search_pairs(bench: Bench, asked: Bench) -> list[Pair]:
    """`asked` is the bench, or that of another server on its database."""
    return pairs(bench, lambda: search(asked), lambda count: raw_search(bench, count))


def search(bench: Bench, callers: int = CALLERS) -> Round:
    return timed(bench, service_jobs.search, bench.target(callers), bench.requests())


def raw_search(bench: Bench, connections: int) -> Round:
    return timed(bench, raw_jobs.search, bench.raw(connections), bench.queries, LIMIT)


def document_rows(bench: Bench) -> list[Row]:
    ids = sorted({document_id(place) for place in range(len(bench.corpus.ids))})
    names = [f"collections/bench/documents/{each}" for each in ids]

    def of_service() -> Round:
        return timed(bench, service_jobs.get_document, bench.target(CALLERS), names)

    def of_raw(connections: int) -> Round:
        return timed(bench, raw_jobs.get_document, bench.raw(connections), ids)

    measured = pairs(bench, of_service, of_raw)
    return [
        *qps_rows("GetDocument", measured, "≥ 0.30"),
        houseless_row(bench, "GetDocument", measured, service_jobs.get_document, names),
        _bare_row(bench, measured),
    ]


def houseless_row(
    bench: Bench, what: str, measured: Sequence[Pair], job: Job, requests: Sequence[object]
) -> Row:
    """What a server without a house reaches in place of the service."""
    with _houseless(bench, CALLERS) as target:
        bare = [timed(bench, job, target, requests).measured for _ in measured]
    ratios = [each.qps / raw.measured.qps for each, (_, raw) in zip(bare, measured, strict=True)]
    return row(f"{what} of a server without a house, QPS at 16 callers ÷ raw", ratios, "")


def _houseless_p50_row(bench: Bench, measured: Sequence[Pair]) -> Row:
    with _houseless(bench, 1) as target:
        bare = [
            timed(bench, service_jobs.search, target, bench.requests()).measured for _ in measured
        ]
    ratios = [each.p50 / raw.measured.p50 for each, (_, raw) in zip(bare, measured, strict=True)]
    return row("Search of a server without a house, p50 at 1 caller ÷ raw", ratios, "")


@contextmanager
def _houseless(bench: Bench, callers: int) -> Generator[service_jobs.Target]:
    place = bench.place
    named = str(place.collection_uid), str(place.space_uid), str(place.ef)
    with served("benchmarks.bare_server", bench.service.dsn, *named) as address:
        yield replace(bench.target(callers), address=address)


def _bare_row(bench: Bench, measured: Sequence[Pair]) -> Row:
    """What an empty gRPC call reaches in place of the service."""
    ratios: list[float] = []
    with served("benchmarks.bare_call") as address:
        for _, raw in measured:
            bare = timed(bench, bare_call.call, address, CALLERS, bench.seconds)
            ratios.append(bare.measured.qps / raw.measured.qps)
    return row("an empty grpc.aio call, QPS at 16 callers ÷ raw fetchrow", ratios, "")


def filter_rows(bench: Bench, field: str, kind: str) -> list[Row]:
    """`kind` says whether the field is declared, so that the vector row carries it."""
    return [_filter_row(bench, share, field, kind) for share in (1, 10, 100, 500)]


def _filter_row(bench: Bench, share: int, field: str, kind: str) -> Row:
    """Of 1000 parts so many pass."""
    text = f"{field} < {share}"
    filtered, plain = bench.requests(text), bench.requests()
    recall, full = _filtered_recall(bench, share, filtered)
    ratios = [
        timed(bench, service_jobs.search, bench.target(1), filtered).measured.p50
        / timed(bench, service_jobs.search, bench.target(1), plain).measured.p50
        for _ in range(bench.rounds)
    ]
    details = f"recall@10 {recall:.3f}, {full:.1%} of the answers full"
    return row(
        f"Search with a filter of {share / SHARES:.1%} on a field {kind}, p50 ÷ unfiltered",
        ratios,
        "≤ 2" if kind == "declared" else "",
        details,
    )


def _filtered_recall(
    bench: Bench, share: int, requests: Sequence[SearchRequest]
) -> tuple[float, float]:
    """Recall against exact among what passes, and the share of answers as long as could be."""
    passing = np.flatnonzero(np.array(shares(len(bench.corpus.ids))) < share)
    part = Corpus(
        [bench.corpus.ids[place] for place in passing],
        [bench.corpus.texts[place] for place in passing],
        bench.corpus.vectors[passing],
    )
    exact = [found[:TOP] for found in nearest(part, bench.vectors)]
    found, _ = bench.apart.run(service_jobs.found, bench.target(1), requests)
    full = statistics.fmean(len(f) == len(e) for f, e in zip(found, exact, strict=True))
    return overlap(found, exact), full


def check_recall(bench: Bench) -> str:
    """Both sides' recall against exact; speeds at unequal recall are not compared."""
    exact = _exact(bench)
    theirs, _ = bench.apart.run(raw_jobs.found, bench.raw(1), bench.queries, LIMIT)
    mine, raw = _recall(bench, exact), overlap(theirs, exact)
    if abs(mine - raw) > EQUAL_RECALL or min(mine, raw) < LEAST_RECALL:
        raise SystemExit(f"recall@10 is {mine:.3f} and raw {raw:.3f}: speeds are not compared")
    return f"ef {bench.place.ef}, recall@10 {mine:.3f}, raw {raw:.3f}"


def with_enough_recall(bench: Bench) -> Bench:
    """With the space's own `ef`, or the next larger one by halves of it that is enough."""
    exact, least = _exact(bench), bench.place.ef
    for ef in range(least, _MOST_EF, least // 2):
        bench = replace(bench, place=replace(bench.place, ef=ef))
        if _recall(bench, exact) >= LEAST_RECALL:
            break
    return bench


def _exact(bench: Bench) -> list[list[str]]:
    return [found[:TOP] for found in nearest(bench.corpus, bench.vectors)]


def _recall(bench: Bench, exact: Sequence[Sequence[str]]) -> float:
    found, _ = bench.apart.run(service_jobs.found, bench.target(1), bench.requests())
    return overlap(found, exact)


def overlap(found: Sequence[Sequence[str]], exact: Sequence[Sequence[str]]) -> float:
    """The mean share of the exact answers that were found."""
    return statistics.fmean(
        len(set(f) & set(e)) / len(e) for f, e in zip(found, exact, strict=True) if e
    )
