"""The ef of a vector space follows what is measured, and is not moved to and fro by chance."""

import math
import random
from collections.abc import Callable
from itertools import pairwise

import pytest

from knowledged.workers.ef_tuning import (
    DEFAULT,
    DEFAULT_EF,
    LOWERED,
    RAISED,
    UNREACHED,
    Tuned,
    Wanted,
    tuned,
)

WANTED = Wanted(0.98, 400)


def flat(recall: float) -> Callable[[int], float]:
    return lambda _: recall


def enough_from(least: int) -> Callable[[int], float]:
    """An index that needs so large an ef: 1 above, worse the smaller it is."""
    return lambda ef: min(1.0, ef / least)


async def rounds(
    now: Tuned, recall: Callable[[int], float], count: int, wanted: Wanted = WANTED
) -> list[Tuned]:
    async def share_at(ef: int) -> float:
        return recall(ef)

    seen: list[Tuned] = []
    for _ in range(count):
        now = await tuned(now, wanted, share_at)
        seen.append(now)
    return seen


async def test_too_low_a_recall_raises_to_the_first_step_that_is_enough() -> None:
    first, after = await rounds(Tuned(DEFAULT_EF, DEFAULT), enough_from(100), 2)
    assert (first.ef, first.low_rounds, first.recall) == (DEFAULT_EF, 1, 0.4)
    assert (after.ef, after.reason, after.recall) == (120, RAISED, 1.0)


async def test_the_largest_ef_is_kept() -> None:
    _, after = await rounds(Tuned(DEFAULT_EF, DEFAULT), enough_from(900), 2, Wanted(0.98, 150))
    assert (after.ef, after.reason) == (150, UNREACHED)


async def test_an_index_that_no_ef_mends_keeps_its_own() -> None:
    _, after = await rounds(Tuned(DEFAULT_EF, DEFAULT), flat(0.5), 2)
    assert (after.ef, after.reason, after.recall) == (DEFAULT_EF, UNREACHED, 0.5)


async def test_a_mended_index_is_no_more_called_unreached() -> None:
    (after,) = await rounds(Tuned(80, UNREACHED), flat(0.98), 1)
    assert (after.ef, after.reason) == (80, RAISED)


async def test_it_comes_down_a_step_at_a_time_after_six_rounds_and_not_below_the_default() -> None:
    seen = await rounds(Tuned(120, RAISED), flat(1.0), 40)
    assert [each.ef for each in seen[:12]] == [120] * 5 + [80] * 6 + [60]
    assert seen[5].reason == LOWERED
    assert (seen[-1].ef, seen[-1].reason) == (DEFAULT_EF, DEFAULT)


async def test_one_round_that_is_not_amply_enough_begins_the_count_anew() -> None:
    (after,) = await rounds(Tuned(120, RAISED, ample_rounds=5), flat(0.985), 1)
    assert (after.ef, after.ample_rounds) == (120, 0)


async def test_no_wanted_recall_leaves_ef_alone_and_measures() -> None:
    (after,) = await rounds(Tuned(10, DEFAULT), flat(0.3), 1, Wanted(0, 400))
    assert (after.ef, after.reason, after.recall) == (10, DEFAULT, 0.3)


async def test_after_a_raise_it_stays_for_a_day() -> None:
    _, raised = await rounds(Tuned(DEFAULT_EF, DEFAULT), enough_from(50), 2)
    seen = await rounds(raised, flat(1.0), 160)
    assert [each.ef for each in seen[:150]] == [60] * 149 + [DEFAULT_EF]


async def test_once_too_low_by_chance_changes_nothing() -> None:
    lucky = iter([0.97, 0.99, 0.97, 0.99, 0.97])
    seen = await rounds(Tuned(DEFAULT_EF, DEFAULT), lambda _: next(lucky), 5)
    assert {each.ef for each in seen} == {DEFAULT_EF}


@pytest.mark.parametrize("scale", [4, 8, 12, 16, 20, 40, 80])
async def test_samples_that_vary_do_not_move_it_to_and_fro(scale: int) -> None:
    """A thousand rounds, a week. The recall of a hundred queries deviates by half a percent; some
    of these indexes have a step that lies between too low and amply enough."""
    dice = random.Random(scale)

    def measured(ef: int) -> float:
        return min(1.0, dice.gauss(1 - math.exp(-ef / scale), 0.005))

    seen = await rounds(Tuned(DEFAULT_EF, DEFAULT), measured, 1_000)
    turns = sum(1 for former, after in pairwise(seen) if former.ef != after.ef)
    assert turns <= 4
    assert 1 - math.exp(-seen[-1].ef / scale) > WANTED.recall - 0.01
