"""Runs a job in a process of its own, with a uvloop of its own; one job at a time."""

import multiprocessing
import resource
from collections.abc import Callable, Coroutine
from concurrent.futures import ProcessPoolExecutor
from typing import Any, ParamSpec, TypeVar

import uvloop

P = ParamSpec("P")
T = TypeVar("T")


class Apart:
    """One worker process; use as a context manager."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))

    def __enter__(self) -> "Apart":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def run(
        self, job: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> tuple[T, float]:
        """What the job returns, and the processor seconds that it took itself."""
        return self._pool.submit(_run, job, *args, **kwargs).result()


def _run(job: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> tuple[T, float]:
    before = _cpu_seconds()
    result = uvloop.run(job(*args, **kwargs))
    return result, _cpu_seconds() - before


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
