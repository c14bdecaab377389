"""`python -m benchmarks`: the ratios; `--short` in three minutes; `--quality`: what is found."""

import argparse
import asyncio
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import quality, rows
from benchmarks.apart import Apart
from benchmarks.calling import caller
from benchmarks.corpus import Corpus, embedded
from benchmarks.loading import fill
from benchmarks.raw import place_of
from benchmarks.report import Row, keep, row, show
from benchmarks.rows import Bench
from benchmarks.service import Service, new_data_folder, serving
from benchmarks.service_jobs import Target

_COLD_START = "seconds from `serve` to SERVING, database there"


def main() -> None:
    parser = argparse.ArgumentParser("benchmarks")
    parser.add_argument("--short", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--quality", action="store_true", help="how well searches find")
    parser.add_argument("--set", type=Path, help="a set in BEIR's layout, for --quality")
    arguments = parser.parse_args()
    if arguments.quality:
        finish(_quality(arguments.set or _set_from_make()), "quality")
    else:
        finish(_speed(short=arguments.short), "short" if arguments.short else "full")


def finish(measured: list[Row], kind: str) -> None:
    show(measured)
    print(f"kept in {keep(measured, kind).name}")


def _speed(*, short: bool) -> list[Row]:
    asked = asyncio.run(quality.hpo_set())
    vectors = asyncio.run(embedded(asked.questions.texts))
    with new_data_folder() as folder:
        with serving(folder) as service:
            _fill(service, asked.corpus)
        with serving(folder) as service, Apart() as apart:
            place = asyncio.run(place_of(service.dsn, "bench"))
            rounds, seconds = (3, 2.0) if short else (7, 5.0)
            bench = Bench(apart, service, place, asked.corpus, vectors, rounds, seconds)
            cold = row(_COLD_START, [service.started_seconds], "≤ 5")
            return [*rows.all_rows(bench), cold]


def _quality(folder: Path | None) -> list[Row]:
    asked = asyncio.run(quality.beir_set(folder) if folder else quality.hpo_set())
    with _filled(asked.corpus) as service, Apart() as apart:
        target = Target(service.address, service.token, 1, 0)
        return asyncio.run(quality.measured(apart, target, asked))


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
