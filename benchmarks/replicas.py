"""The rows about searches as they are deployed, by two replicas; and what one takes where reads
leave no audit event."""

import sys
from collections.abc import Callable
from dataclasses import replace

from benchmarks import service_jobs
from benchmarks.report import Row, row
from benchmarks.rounds import CALLERS, RAW_CONNECTIONS, Bench, timed
from benchmarks.rows import raw_search
from benchmarks.service import Service, beside

_UNAUDITED = (sys.executable, "-m", "benchmarks.unaudited_server", "serve")
# All of them have room beside raw's connections; searches by index take one each.
_FEW = {"KNOWLEDGED_POOL_MIN_SIZE": "1", "KNOWLEDGED_POOL_MAX_SIZE": "4"}

Search = Callable[[], float]


def replica_rows(bench: Bench, target: str) -> list[Row]:
    """All in turn with raw, by as many connections as serve it best here."""
    count = max(RAW_CONNECTIONS, key=lambda each: raw_search(bench, each).measured.qps)

    def raw() -> float:
        return raw_search(bench, count).measured.qps

    with beside(bench.service, **_FEW) as second:
        both = {"two replicas": _search(bench, bench.service, second)}
        audited = _rows(bench, raw, both, target)
    with (
        beside(bench.service, command=_UNAUDITED, **_FEW) as first,
        beside(bench.service, command=_UNAUDITED, **_FEW) as second,
    ):
        ways = {
            "reads not audited": _search(bench, first),
            "two replicas, reads not audited": _search(bench, first, second),
        }
        return [*audited, *_rows(bench, raw, ways, target)]


def _search(bench: Bench, first: Service, *others: Service) -> Search:
    """Answers a second; callers go to all alike."""
    target = replace(bench.target(CALLERS), address=first.address)
    replicas = [each.address for each in others]

    def search() -> float:
        job = service_jobs.search, target, bench.requests(), replicas
        return timed(replace(bench, service=first), *job).measured.qps

    return search


def _rows(bench: Bench, raw: Search, ways: dict[str, Search], target: str) -> list[Row]:
    ratios: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(bench.rounds):
        theirs = raw()
        for name, search in ways.items():
            ratios[name].append(search() / theirs)
    return [row(f"Search, {name}, QPS at 16 callers ÷ raw", ratios[name], target) for name in ways]
