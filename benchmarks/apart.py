"""Runs a job in a process of its own, with a uvloop of its own; one job at a time."""

import multiprocessing
import resource
import subprocess
import sys
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
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


@contextmanager
def served(module: str, *arguments: str) -> Generator[str]:
    """The address of the server that a module of ours runs, which prints its port."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()


def _run(job: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> tuple[T, float]:
    before = _cpu_seconds()
    result = uvloop.run(job(*args, **kwargs))
    return result, _cpu_seconds() - before


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
