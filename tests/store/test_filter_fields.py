"""What the vector row keeps of a collection's declared filter fields."""

from datetime import UTC, datetime
from typing import Any

import pytest

from knowledged.store.filter_sql import Kind, stored_value


@pytest.mark.parametrize(
    ("kind", "value", "stored"),
    [
        (Kind.STRING, "x", "x"),
        (Kind.STRING, 5, None),
        (Kind.STRING, "é" * 1_024, "é" * 1_024),
        (Kind.STRING, "é" * 1_024 + "x", None),
        (Kind.NUMBER, 5, 5.0),
        (Kind.NUMBER, True, None),
        (Kind.NUMBER, float("nan"), None),
        (Kind.BOOL, True, True),
        (Kind.BOOL, 1, None),
        (Kind.TIMESTAMP, "1970-01-01T00:00:01.000001Z", 1.000001),
        (Kind.TIMESTAMP, "now", None),
        (Kind.STRING_LIST, ["x", "y"], ["x", "y"]),
        (Kind.STRING_LIST, ["x", 5], None),
        (Kind.STRING_LIST, "x", None),
        (Kind.NUMBER, None, None),
    ],
)
def test_only_values_of_the_declared_kind_are_stored(kind: Kind, value: Any, stored: Any) -> None:
    assert stored_value(kind, value) == stored


def test_stored_instants_are_exact_to_the_microsecond_until_2242() -> None:
    for text in ("1697-02-17T00:00:00.123457Z", "2242-03-16T12:56:31.999999Z"):
        seconds = stored_value(Kind.TIMESTAMP, text)
        assert isinstance(seconds, float)
        assert round(seconds * 1_000_000) == microseconds(text)


def microseconds(text: str) -> int:
    since = datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
