"""Which ef a vector space should have, by the recall that is measured.

It goes up when recall is too low twice in a row, and comes down late: not for a day after it went
up, and by one step, once that step was amply enough six times in a row. Queries are drawn anew each
time, so chance alone does not move it to and fro.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace

DEFAULT, RAISED, LOWERED, UNREACHED = 1, 2, 3, 4
# As the column has it. It never goes below by itself: what callers ask may be harder than what is
# asked to measure.
DEFAULT_EF = 40

_STEPS = (10, 15, 20, 30, 40, 60, 80, 120, 160, 240, 320, 400, 480, 640, 800, 1_000)
_LOW_ROUNDS = 2
_AMPLE_ROUNDS = 6
# A day of measurements each ten minutes.
_PAUSE_ROUNDS = 144
# What a larger ef must gain, where none is enough, to be worth its price.
_WORTH = 0.005

ShareAt = Callable[[int], Awaitable[float]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The recall that searches should have, 0 leaves ef alone, and the largest ef for it."""

    recall: float
    largest_ef: int

    @property
    def amply(self) -> float:
        return self.recall + (1 - self.recall) / 2


@dataclass(frozen=True, slots=True)
class Tuned:
    """An ef, why it is that, and the recall it was measured to give.

    `low_rounds`: how many times in a row that was too low. `ample_rounds`: how many times in a row
    the step below would have been amply enough; below 0, how many rounds pass before that is asked.
    """

    ef: int
    reason: int
    low_rounds: int = 0
    ample_rounds: int = 0
    recall: float = 0.0


async def tuned(now: Tuned, wanted: Wanted, share_at: ShareAt) -> Tuned:
    """What follows from a measurement; `share_at` tells the recall of an ef."""
    now = replace(now, recall=await share_at(now.ef))
    if not wanted.recall:
        return now
    if now.recall >= wanted.recall:
        return await _lowered(replace(now, low_rounds=0), wanted, share_at)
    if now.low_rounds + 1 < _LOW_ROUNDS:
        return replace(now, low_rounds=now.low_rounds + 1)
    return await _raised(now, wanted, share_at)


async def _raised(now: Tuned, wanted: Wanted, share_at: ShareAt) -> Tuned:
    """The next step that is enough. Where none is, the first that is not worth leaving."""
    tried = {now.ef: now.recall}
    for ef in _above(now.ef, wanted.largest_ef):
        tried[ef] = await share_at(ef)
        if tried[ef] >= wanted.recall:
            return Tuned(ef, RAISED, 0, -_PAUSE_ROUNDS, tried[ef])
    best = max(tried.values())
    ef = next(ef for ef, recall in tried.items() if recall > best - _WORTH)
    return Tuned(ef, UNREACHED, 0, -_PAUSE_ROUNDS, tried[ef])


async def _lowered(now: Tuned, wanted: Wanted, share_at: ShareAt) -> Tuned:
    now = replace(now, reason=RAISED if now.reason == UNREACHED else now.reason)
    below = max((ef for ef in _STEPS if DEFAULT_EF <= ef < now.ef), default=None)
    if below is None:
        return replace(now, ample_rounds=0)
    if now.ample_rounds < 0:
        return replace(now, ample_rounds=now.ample_rounds + 1)
    recall = await share_at(below)
    if recall < wanted.amply:
        return replace(now, ample_rounds=0)
    if now.ample_rounds + 1 < _AMPLE_ROUNDS:
        return replace(now, ample_rounds=now.ample_rounds + 1)
    return Tuned(below, DEFAULT if below == DEFAULT_EF else LOWERED, recall=recall)


def _above(ef: int, largest: int) -> Iterator[int]:
    steps = (step for step in _STEPS if step < largest)
    return (step for step in (*steps, largest) if step > ef)
