"""Load by callers that each wait for an answer before they ask again, and what came of it."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

Ask = Callable[[int], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Load:
    """`asks` has one function a caller; it is called with 0, 1, 2, … through all callers."""

    asks: Sequence[Ask]
    seconds: float


@dataclass(frozen=True, slots=True)
class Measured:
    """One round: answers a second, and the latencies' quantiles in seconds."""

    qps: float
    p50: float
    p99: float
    count: int


async def run(load: Load) -> Measured:
    """Lets all callers ask until the time is over; counts what was answered."""
    latencies: list[float] = []
    places = iter(range(2**62))
    began = time.perf_counter()
    until = began + load.seconds

    async def call(ask: Ask) -> None:
        now = time.perf_counter()
        while now < until:
            await ask(next(places))
            then, now = now, time.perf_counter()
            latencies.append(now - then)

    await asyncio.gather(*(call(ask) for ask in load.asks))
    seconds = time.perf_counter() - began
    return measured(latencies, seconds)


def measured(latencies: list[float], seconds: float) -> Measured:
    return Measured(
        len(latencies) / seconds,
        statistics.median(latencies),
        sorted(latencies)[min(len(latencies) - 1, int(0.99 * len(latencies)))],
        len(latencies),
    )
