from uuid import uuid4

import pytest

from knowledged.services import wide_filters
from knowledged.services.wide_filters import WideFilters
from knowledged.store import filtered
from knowledged.store.filter_sql import Condition

YEAR = Condition("(v.year < $8)", [2020])


def test_what_was_counted_is_known_of_that_filter_in_that_space_alone() -> None:
    filters, space = WideFilters(), uuid4()
    filters.note(space, YEAR, 1_001)
    assert filters.passes(space, Condition(YEAR.sql, [2020])) == 1_001
    assert filters.passes(space, Condition(YEAR.sql, [2021])) == 0
    assert filters.passes(uuid4(), YEAR) == 0


def test_it_is_counted_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    filters, space = WideFilters(), uuid4()
    filters.note(space, YEAR, 1_001)
    later = wide_filters.time.monotonic() + 61
    monkeypatch.setattr(wide_filters.time, "monotonic", lambda: later)
    assert filters.passes(space, YEAR) == 0


def test_the_oldest_are_forgotten_and_no_value_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wide_filters, "_MOST", 2)
    filters, space = WideFilters(), uuid4()
    secrets = [Condition("(v.name = $8)", [f"secret {n}"]) for n in range(3)]
    for each in secrets:
        filters.note(space, each, 1_001)
    assert [filters.passes(space, each) for each in secrets] == [0, 1_001, 1_001]
    assert "secret" not in repr(filters._known)


@pytest.mark.parametrize(
    ("limit", "rows", "most"),
    [
        (10, 3_000, 1_000),
        (10, 16_449, 1_000),
        (10, 100_000, 2_000),
        (100, 100_000, 6_324),
        (1_000, 10_000_000, 20_000),
    ],
)
def test_more_are_compared_of_a_larger_space_and_for_a_longer_answer(
    limit: int, rows: int, most: int
) -> None:
    assert filtered.most_compared(limit, rows) == most
