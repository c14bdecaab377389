"""The rows of the table: each a ratio of the service to raw asyncpg, in interleaved rounds."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks import processes, raw_jobs, service_jobs
from benchmarks.apart import Apart
from benchmarks.corpus import Corpus, Vectors
from benchmarks.load import Measured
from benchmarks.loading import SHARES, document_id, search_request, shares
from benchmarks.quality import nearest
from benchmarks.raw import Place
from benchmarks.report import Row, row
from benchmarks.service import Service

LIMIT = 10
CALLERS = 16
RAW_CONNECTIONS = (2, 4, 16)
LEAST_RECALL = 0.98
# Two recalls that differ by more are not of equal quality, and their speeds not comparable.
EQUAL_RECALL = 0.01


@dataclass(frozen=True, slots=True)
class Bench:
    """All that a row needs: the service, its database, the corpus, questions, and how long."""

    apart: Apart
    service: Service
    place: Place
    corpus: Corpus
    vectors: Vectors
    rounds: int
    seconds: float

    def target(self, callers: int) -> service_jobs.Target:
        return service_jobs.Target(self.service.address, self.service.token, callers, self.seconds)

    def raw(self, connections: int) -> raw_jobs.Target:
        return raw_jobs.Target(self.service.dsn, self.place, connections, self.seconds)

    @property
    def queries(self) -> list[bytes]:
        return [vector.tobytes() for vector in self.vectors]


@dataclass(frozen=True, slots=True)
class Round:
    """One side of one round, with the processor time of a request: service, PostgreSQL, caller."""

    measured: Measured
    service_us: float
    postgres_us: float
    caller_us: float

    def __str__(self) -> str:
        cpu = f"{self.service_us:.0f}+{self.postgres_us:.0f}+{self.caller_us:.0f}"
        return f"{self.measured.qps:.0f}/s at {cpu} µs"


def all_rows(bench: Bench) -> list[Row]:
    return [
        *search_rows(bench),
        document_row(bench),
        *filter_rows(bench),
        row("resident MB of the server", [_resident_mb(bench)], "≤ 400", "after the load above"),
    ]


def search_rows(bench: Bench) -> list[Row]:
    recalls = check_recall(bench)
    requests = [search_request(query) for query in bench.queries]
    queries = bench.queries

    def of_service(callers: int) -> Round:
        return timed(bench, service_jobs.search, bench.target(callers), requests)

    def of_raw(connections: int) -> Round:
        return timed(bench, raw_jobs.search, bench.raw(connections), queries, LIMIT)

    many = [
        (of_service(CALLERS), best([of_raw(count) for count in RAW_CONNECTIONS]))
        for _ in range(bench.rounds)
    ]
    one = [(of_service(1), of_raw(1)) for _ in range(bench.rounds)]
    return [
        row("Search QPS, 16 callers ÷ raw", _qps(many), "≥ 0.50", f"{_last(many)}; {recalls}"),
        row("Search p50, 1 caller ÷ raw", _p50(one), "≤ 1.7", _last(one)),
    ]


def document_row(bench: Bench) -> Row:
    ids = [document_id(place) for place in range(0, len(bench.corpus.ids), 37)]
    names = [f"collections/bench/documents/{each}" for each in ids]

    def pair() -> tuple[Round, Round]:
        ours = timed(bench, service_jobs.get_document, bench.target(CALLERS), names)
        theirs = [
            timed(bench, raw_jobs.get_document, bench.raw(count), ids) for count in RAW_CONNECTIONS
        ]
        return ours, best(theirs)

    pairs = [pair() for _ in range(bench.rounds)]
    return row("GetDocument QPS, 16 callers ÷ raw", _qps(pairs), "≥ 0.30", _last(pairs))


def filter_rows(bench: Bench) -> list[Row]:
    return [filter_row(bench, share) for share in (1, 10, 100, 500)]


def filter_row(bench: Bench, share: int) -> Row:
    """Of 1000 parts so many pass; the field is declared, so the vector row carries it."""
    text = f"chunk_metadata.share < {share}"
    filtered = [search_request(query, text) for query in bench.queries]
    plain = [search_request(query) for query in bench.queries]
    recall, full = _filtered_recall(bench, share, filtered)
    ratios = [
        timed(bench, service_jobs.search, bench.target(1), filtered).measured.p50
        / timed(bench, service_jobs.search, bench.target(1), plain).measured.p50
        for _ in range(bench.rounds)
    ]
    details = f"recall@10 {recall:.3f}, full answers {full:.0%}"
    return row(f"filter of {share / SHARES:.1%}, p50 ÷ unfiltered", ratios, "≤ 2", details)


def _filtered_recall(bench: Bench, share: int, requests: Sequence[object]) -> tuple[float, float]:
    numbers = np.array(shares(len(bench.corpus.ids)))
    passing = np.flatnonzero(numbers < share)
    part = Corpus(
        [bench.corpus.ids[i] for i in passing],
        [bench.corpus.texts[i] for i in passing],
        bench.corpus.vectors[passing],
    )
    exact = nearest(part, bench.vectors)
    found, _ = bench.apart.run(service_jobs.found, bench.target(1), requests)  # pyright: ignore[reportArgumentType]
    full = sum(len(f) == len(e) for f, e in zip(found, exact, strict=True)) / len(exact)
    return overlap(found, exact), full


def check_recall(bench: Bench) -> str:
    """Both sides' recall against exact; speeds at unequal recall are not compared."""
    exact = nearest(bench.corpus, bench.vectors)
    requests = [search_request(query) for query in bench.queries]
    ours, _ = bench.apart.run(service_jobs.found, bench.target(1), requests)
    theirs, _ = bench.apart.run(raw_jobs.found, bench.raw(1), bench.queries, LIMIT)
    mine, raw = overlap(ours, exact), overlap(theirs, exact)
    if abs(mine - raw) > EQUAL_RECALL or min(mine, raw) < LEAST_RECALL:
        raise RuntimeError(f"recall@10 is {mine:.3f} and raw {raw:.3f}: not to be compared")
    return f"recall@10 {mine:.3f}, raw {raw:.3f}"


def overlap(found: Sequence[Sequence[str]], exact: Sequence[Sequence[str]]) -> float:
    """The mean share of the exact answers that were found."""
    shares_found = [len(set(f) & set(e)) / len(e) for f, e in zip(found, exact, strict=True) if e]
    return statistics.fmean(shares_found)


def timed(bench: Bench, job: Callable[..., object], *arguments: object) -> Round:
    """Runs a job apart, and shares the processor time that went by among its requests."""
    server, postgres = bench.service.pid, bench.service.postgres_pid
    before = processes.cpu_seconds(server), processes.cpu_seconds_with_children(postgres)
    measured, mine = bench.apart.run(job, *arguments)  # pyright: ignore[reportArgumentType]
    after = processes.cpu_seconds(server), processes.cpu_seconds_with_children(postgres)
    each = 1e6 / measured.count
    return Round(
        measured, (after[0] - before[0]) * each, (after[1] - before[1]) * each, mine * each
    )


def best(rounds: Sequence[Round]) -> Round:
    return max(rounds, key=lambda each: each.measured.qps)


def _qps(pairs: Sequence[tuple[Round, Round]]) -> list[float]:
    return [ours.measured.qps / theirs.measured.qps for ours, theirs in pairs]


def _p50(pairs: Sequence[tuple[Round, Round]]) -> list[float]:
    return [ours.measured.p50 / theirs.measured.p50 for ours, theirs in pairs]


def _last(pairs: Sequence[tuple[Round, Round]]) -> str:
    ours, theirs = pairs[-1]
    return f"{ours}; raw {theirs} (CPU service+PostgreSQL+caller)"


def _resident_mb(bench: Bench) -> float:
    return processes.resident_bytes(bench.service.pid) / 1e6
