"""Both sides of a comparison, measured in turn, each with the processor time that it took."""

import statistics
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import processes, raw_jobs, service_jobs
from benchmarks.apart import Apart
from benchmarks.corpus import Corpus, Vectors
from benchmarks.load import Measured
from benchmarks.loading import search_request
from benchmarks.raw import Place
from benchmarks.report import Row, row
from benchmarks.service import Service
from knowledge.v1.vector_service_pb2 import SearchRequest

CALLERS = 16
RAW_CONNECTIONS = (2, 4, 16)

Job = Callable[..., Coroutine[Any, Any, Measured]]


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

    def requests(self, filter: str = "") -> list[SearchRequest]:
        """All queries, with the `ef` that raw searches with."""
        return [search_request(query, self.place.ef, filter) for query in self.queries]


@dataclass(frozen=True, slots=True)
class Round:
    """One side of one round, with the processor time of a request: service, PostgreSQL, caller."""

    measured: Measured
    service_us: float
    postgres_us: float
    caller_us: float

    @property
    def cpu_us(self) -> float:
        return self.service_us + self.postgres_us + self.caller_us


Pair = tuple[Round, Round]


def timed(bench: Bench, job: Job, *arguments: object) -> Round:
    """Runs a job apart, and shares the processor time that went by among its requests."""
    before = _cpu_seconds(bench.service)
    measured, mine = bench.apart.run(job, *arguments)
    after = _cpu_seconds(bench.service)
    service, postgres = (1e6 * (b - a) / measured.count for a, b in zip(before, after, strict=True))
    return Round(measured, service, postgres, 1e6 * mine / measured.count)


def pairs(bench: Bench, ours: Callable[[], Round], theirs: Callable[[int], Round]) -> list[Pair]:
    """The service, then raw with each number of connections, of which the best counts."""
    return [
        (ours(), max((theirs(count) for count in RAW_CONNECTIONS), key=_qps))
        for _ in range(bench.rounds)
    ]


def qps_rows(what: str, measured: Sequence[Pair], target: str, details: str = "") -> list[Row]:
    """The ratio of answers a second, and that of the processor time an answer takes."""
    qps = [_qps(ours) / _qps(theirs) for ours, theirs in measured]
    cpu = [ours.cpu_us / theirs.cpu_us for ours, theirs in measured]
    return [
        row(
            f"{what}, QPS at 16 callers ÷ raw", qps, target, join(_side_by_side(measured), details)
        ),
        row(f"{what}, CPU of an answer ÷ raw", cpu, "", _cpu_side_by_side(measured)),
    ]


def p50_row(what: str, measured: Sequence[Pair], target: str) -> Row:
    ratios = [ours.measured.p50 / theirs.measured.p50 for ours, theirs in measured]
    ours, theirs = (
        1e3 * statistics.median(each.measured.p50 for each in s) for s in _sides(measured)
    )
    details = f"{ours:.2f} ms, raw {theirs:.2f} ms"
    return row(f"{what}, p50 at 1 caller ÷ raw", ratios, target, details)


def join(*details: str) -> str:
    return "; ".join(filter(None, details))


def _side_by_side(measured: Sequence[Pair]) -> str:
    ours, theirs = (statistics.median(_qps(each) for each in side) for side in _sides(measured))
    return f"{ours:.0f}/s, raw {theirs:.0f}/s"


def _cpu_side_by_side(measured: Sequence[Pair]) -> str:
    return (
        ", raw ".join(_cpu(side) for side in _sides(measured)) + " (service + PostgreSQL + caller)"
    )


def _cpu(side: Sequence[Round]) -> str:
    parts = zip(*((r.service_us, r.postgres_us, r.caller_us) for r in side), strict=True)
    return " + ".join(f"{statistics.median(part):.0f}" for part in parts) + " µs"


def _sides(measured: Sequence[Pair]) -> tuple[list[Round], list[Round]]:
    return [ours for ours, _ in measured], [theirs for _, theirs in measured]


def _qps(each: Round) -> float:
    return each.measured.qps


def _cpu_seconds(service: Service) -> tuple[float, float]:
    return (
        processes.cpu_seconds(service.pid),
        processes.cpu_seconds_with_children(service.postgres_pid),
    )
