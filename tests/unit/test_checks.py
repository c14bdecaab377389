"""Checks of request fields: every fault is kept, and no fault repeats a value."""

import math
from collections.abc import Callable
from uuid import UUID

import pytest

from knowledged.checks import DEEPEST_METADATA, Checks
from knowledged.errors import Invalid, Violation
from knowledged.names import collection_of

SECRET = "Mrs. Smith has gout"


def faults(check: Callable[[Checks], object]) -> list[tuple[str, str]]:
    checks = Checks()
    check(checks)
    return [(v.field, v.description) for v in checks.violations]


def nested(levels: int) -> dict[str, object]:
    value: object = 1
    for _ in range(levels):
        value = {"k": value}
    assert isinstance(value, dict)
    return value  # pyright: ignore[reportUnknownVariableType]


def test_all_faults_are_raised_at_once() -> None:
    checks = Checks()
    checks.text("title", "x" * 11, 10)
    checks.number("limit", 0, 1, 1000)
    checks.id("document_id", "a/b")
    with pytest.raises(Invalid) as raised:
        checks.done()
    assert [v.field for v in raised.value.violations] == ["title", "limit", "document_id"]


def test_no_fault_raises_nothing() -> None:
    checks = Checks()
    checks.text("title", "x" * 10, 10)
    checks.number("limit", 1000, 1, 1000)
    checks.done()
    assert checks.violations == []


def test_a_bad_name_ends_the_checks_with_what_was_found_before() -> None:
    checks = Checks()
    checks.fault("page_size", "is negative")
    with pytest.raises(Invalid) as raised:
        checks.name("parent", SECRET, collection_of, '"collections/{collection}"')
    assert [v.field for v in raised.value.violations] == ["page_size", "parent"]
    assert "19 characters" in raised.value.violations[1].description


def test_no_fault_repeats_the_value() -> None:
    long = SECRET * 20
    found = faults(
        lambda c: (
            c.text("a", long + "\0", 10),
            c.id("b", long),
            c.request_id(long),
            c.labels("c", {long: long}),
            c.subject_ids("d", [long]),
            c.json("e", {long: long}, 10),
        )
    )
    assert {field.split()[0].split("[")[0] for field, _ in found} >= {*"abcde", "request_id"}
    assert not any(SECRET in text for fault in found for text in fault)


def test_text_must_not_be_too_long_nor_hold_nul() -> None:
    assert faults(lambda c: c.text("t", "x" * 11, 10)) == [
        ("t", "11 characters; at most 10 are allowed")
    ]
    assert faults(lambda c: c.text("t", "a\0", 10)) == [("t", "holds a NUL character")]
    assert len(faults(lambda c: c.text("t", "\0" * 11, 10))) == 2


@pytest.mark.parametrize("blank", ["", " ", "\n\t ", "\u00a0"])
def test_required_text_must_not_be_blank(blank: str) -> None:
    assert faults(lambda c: c.text("t", blank, 10, required=True)) != []
    assert faults(lambda c: c.text("t", blank, 10)) == []


@pytest.mark.parametrize("bad", [-1, 1001, math.nan, math.inf, -math.inf])
def test_a_number_outside_its_range_is_a_fault(bad: float) -> None:
    assert faults(lambda c: c.number("n", bad, 0, 1000)) == [("n", "must be 0 to 1000")]


def test_a_count_has_a_least_and_a_most() -> None:
    assert faults(lambda c: c.count("n", 0, 5, least=1)) == [("n", "0 items; 1 to 5 are allowed")]
    assert faults(lambda c: c.count("n", 6, 5)) == [("n", "6 items; 0 to 5 are allowed")]
    assert faults(lambda c: c.count("n", 5, 5, least=5)) == []


def test_an_unknown_enum_value_is_a_fault() -> None:
    assert faults(lambda c: c.choice("mode", 9, (0, 1))) == [("mode", "is not a value of its enum")]


def test_a_request_id_is_a_uuid_or_absent() -> None:
    checks = Checks()
    text = "01934f5e-7a6b-7c8d-9e0f-123456789abc"
    assert checks.request_id("") is None
    assert checks.request_id(text) == UUID(text)
    assert checks.violations == []
    assert checks.request_id("once") is None
    assert checks.violations == [Violation("request_id", "must be a UUID; has 4 characters")]


def test_labels_have_limits_for_number_keys_and_values() -> None:
    assert faults(lambda c: c.labels("l", {str(i): "" for i in range(64)})) == []
    assert len(faults(lambda c: c.labels("l", {str(i): "" for i in range(65)}))) == 1
    assert len(faults(lambda c: c.labels("l", {"k" * 64: "v" * 257}))) == 2
    assert len(faults(lambda c: c.labels("l", {"": "v"}))) == 1


def test_each_bad_subject_id_is_named_by_its_place() -> None:
    found = faults(lambda c: c.subject_ids("s", ["a", " ", "x" * 129]))
    assert [field for field, _ in found] == ["s[1]", "s[2]"]


@pytest.mark.parametrize(
    "bad",
    [
        {"k": "a\0"},
        {"a\0": 1},
        {"k": [1, {"x": ["\0"]}]},
        {"k": math.nan},
        {"k": [math.inf]},
        nested(DEEPEST_METADATA + 1),
    ],
)
def test_json_that_the_database_cannot_keep_is_a_fault(bad: dict[str, object]) -> None:
    assert len(faults(lambda c: c.json("m", bad, 1000))) == 1


def test_json_of_the_greatest_depth_and_size_is_good() -> None:
    assert faults(lambda c: c.json("m", nested(DEEPEST_METADATA), 1000)) == []
    assert faults(lambda c: c.json("m", {"k": "x" * 92}, 100)) == []
    assert faults(lambda c: c.json("m", {"k": "x" * 93}, 100)) == [
        ("m", "101 bytes as JSON; at most 100 are allowed")
    ]
