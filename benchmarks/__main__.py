"""`python -m benchmarks`: the ratios; `--short` in three minutes; `--quality`: what is found."""

import argparse
import asyncio
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import (
    auditing,
    embedding,
    ingesting,
    ledger,
    listing,
    processes,
    quality,
    question_sets,
    replicas,
    rows,
    search_rows,
    writing,
)
from benchmarks.apart import Apart
from benchmarks.calling import caller
from benchmarks.corpus import Corpus, embedded, hpo_corpus, hpo_corpus_now
from benchmarks.loading import fill
from benchmarks.question_sets import Set
from benchmarks.raw import place_of
from benchmarks.report import Row, keep, machine, row, show
from benchmarks.rounds import Bench
from benchmarks.service import Service, new_data_folder, serving
from benchmarks.service_jobs import Target

_SETTLE_SECONDS = 5.0
_STARTS = 2
# Of the audit log in each round.
_EVENTS = 20_000


@dataclass(frozen=True, slots=True)
class Size:
    """How long a run takes: rounds, seconds a measurement, questions, texts a round of ingest,
    documents to list, chunks to load in bulk."""

    rounds: int
    seconds: float
    questions: int
    texts: int
    listed: int
    loaded: int


FULL = Size(7, 4.0, 1_000, 300, 100_000, 20_000)
SHORT = Size(3, 1.0, 200, 100, 10_000, 3_500)
# Of searches in a large collection; the rest as in a full run.
LARGE = replace(FULL, rounds=5, seconds=2.0, questions=400)
# Where nothing is embedded yet a short run cannot wait for all texts.
_SHORT_CORPUS = 4_096


def main() -> None:
    arguments = _arguments()
    where = machine()
    if arguments.ledger:
        kind, measured = "ledger", _ledger_rows(SHORT if arguments.short else FULL)
    elif arguments.quality:
        kind, measured = "quality", _quality(arguments.set or _set_from_make())
    elif arguments.ingest:
        size = SHORT if arguments.short else FULL
        kind, measured = "ingest", _ingest_rows(size, arguments.loaded or size.loaded)
    elif arguments.replicas:
        kind, measured = "replicas", _replicas()
    elif arguments.searches:
        kind, measured = "searches", _searches()
    else:
        kind, measured = ("short" if arguments.short else "full"), _speed(short=arguments.short)
    show(measured, where)
    print(f"kept in {keep(measured, where, kind)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("benchmarks")
    parser.add_argument("--short", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--quality", action="store_true", help="how well searches find")
    parser.add_argument("--ledger", action="store_true", help="the audit log's own rows alone")
    parser.add_argument("--ingest", action="store_true", help="chunks with their vectors alone")
    parser.add_argument("--loaded", type=int, help="chunks of the bulk load, for --ingest")
    parser.add_argument("--searches", action="store_true", help="kinds of searches")
    parser.add_argument("--replicas", action="store_true", help="one server and two, searched")
    parser.add_argument("--set", type=Path, help="a set in BEIR's layout, for --quality")
    return parser.parse_args()


def _speed(*, short: bool) -> list[Row]:
    size = SHORT if short else FULL
    corpus = asyncio.run(hpo_corpus_now(_SHORT_CORPUS) if short else hpo_corpus())
    vectors = asyncio.run(embedded(question_sets.hpo_questions(size.questions).texts))
    with new_data_folder() as folder:
        with serving(folder) as service:
            _fill(service, corpus)
        starts = [_start_seconds(folder) for _ in range(_STARTS)]
        with serving(folder) as service, Apart() as apart:
            start = _start_rows(service, starts)
            place = asyncio.run(place_of(service.dsn, "bench"))
            bench = Bench(apart, service, place, corpus, vectors, size.rounds, size.seconds)
            return [
                *rows.search_rows(bench, "≥ 0.50"),
                *([] if short else replicas.replica_rows(bench, "≥ 0.50")),
                *_rows(bench, size),
                *auditing.audit_rows(bench),
                *ingesting.ingest_rows(apart, service, size.rounds),
                ingesting.bulk_row(apart, service, size.loaded),
                *_ledger_rows(size),
                *start,
            ]


def _searches() -> list[Row]:
    corpus = asyncio.run(search_rows.large_corpus())
    vectors = asyncio.run(embedded(question_sets.hpo_questions(LARGE.questions).texts))
    with new_data_folder() as folder, serving(folder) as service, Apart() as apart:
        _fill(service, corpus)
        place = asyncio.run(place_of(service.dsn, "bench"))
        bench = Bench(apart, service, place, corpus, vectors, LARGE.rounds, LARGE.seconds)
        return search_rows.rows(bench)


def _replicas() -> list[Row]:
    corpus = asyncio.run(hpo_corpus())
    vectors = asyncio.run(embedded(question_sets.hpo_questions(LARGE.questions).texts))
    with _filled(corpus) as service, Apart() as apart:
        place = asyncio.run(place_of(service.dsn, "bench"))
        bench = Bench(apart, service, place, corpus, vectors, FULL.rounds, LARGE.seconds)
        return [*rows.search_rows(bench, "≥ 0.50"), *replicas.replica_rows(bench, "≥ 0.50")]


def _rows(bench: Bench, size: Size) -> list[Row]:
    """Reading first: writing leaves rows behind that it would meet."""
    return [
        *rows.filter_rows(bench, "chunk_metadata.share", "declared"),
        *rows.document_rows(bench),
        listing.list_row(bench, size.listed),
        writing.ingest_row(bench, size.texts),
        embedding.provider_row(bench, size.texts),
        *writing.audit_rows(bench),
    ]


def _ledger_rows(size: Size) -> list[Row]:
    return ledger.ledger_rows(size.rounds, _EVENTS)


def _ingest_rows(size: Size, loaded: int) -> list[Row]:
    with new_data_folder() as folder, serving(folder) as service, Apart() as apart:
        return [
            *ingesting.ingest_rows(apart, service, size.rounds),
            ingesting.bulk_row(apart, service, loaded),
        ]


def _start_seconds(folder: Path) -> float:
    with serving(folder) as service:
        return service.started_seconds


def _start_rows(service: Service, starts: list[float]) -> list[Row]:
    time.sleep(_SETTLE_SECONDS)
    megabytes = processes.resident_bytes(service.pid) / 1e6
    return [
        row("resident MB, idle, without PostgreSQL", [megabytes], "≤ 400"),
        row("seconds to SERVING, database made before", [*starts, service.started_seconds], "≤ 5"),
    ]


def _quality(folder: Path | None) -> list[Row]:
    if folder:
        return _quality_of(asyncio.run(question_sets.beir_set(folder)))
    sets = asyncio.run(question_sets.known_sets())
    found = [line for each in sets for line in _quality_of(each)]
    return [*found, *quality.mean_rows(found)]


def _quality_of(asked: Set) -> list[Row]:
    with _filled(asked.corpus) as service, Apart() as apart:
        return quality.measured(apart, Target(service.address, service.token, 1, 0), asked)


@contextmanager
def _filled(corpus: Corpus) -> Generator[Service]:
    with new_data_folder() as folder, serving(folder) as service:
        _fill(service, corpus)
        yield service


def _fill(service: Service, corpus: Corpus) -> None:
    async def filling() -> None:
        async with caller(service.address, service.token) as one:
            await fill(one, corpus)

    asyncio.run(filling())


def _set_from_make() -> Path | None:
    """`make bench-quality SET=path`."""
    return Path(os.environ["SET"]) if os.environ.get("SET") else None


if __name__ == "__main__":
    main()
