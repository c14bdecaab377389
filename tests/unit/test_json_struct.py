"""google.protobuf.Struct to and from JSON."""

import math

import orjson
import pytest
from google.protobuf.struct_pb2 import Struct, Value
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from knowledged.services import json_struct
from knowledged.services.json_struct import (
    fill,
    fill_from_text,
    json_value,
    json_values,
    to_json,
)

# A busy machine is no reason to fail.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

EXACT = 2**53
SCALARS = (
    st.none()
    | st.booleans()
    | st.text()
    | st.integers(-EXACT, EXACT)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: not x.is_integer())
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text(), JSON, max_size=4)


def struct_of(json: dict[str, object]) -> Struct:
    struct = Struct()
    fill(struct, json)
    return struct


@unhurried
@given(OBJECTS)
def test_json_comes_back_as_it_went_in(json: dict[str, object]) -> None:
    through_the_wire = Struct.FromString(struct_of(json).SerializeToString())
    found = to_json(through_the_wire)
    assert orjson.dumps(found, option=orjson.OPT_SORT_KEYS) == orjson.dumps(
        json, option=orjson.OPT_SORT_KEYS
    )


@unhurried
@given(OBJECTS)
def test_a_struct_comes_back_as_it_went_in(json: dict[str, object]) -> None:
    struct = struct_of(json)
    assert struct_of(to_json(struct)) == struct


@unhurried
@given(OBJECTS)
def test_a_struct_from_a_text_is_that_of_its_object(json: dict[str, object]) -> None:
    for _ in ("made", "kept"):
        struct = Struct()
        fill_from_text(struct, orjson.dumps(json).decode())
        assert struct == struct_of(json)


def test_a_struct_from_a_kept_text_is_the_callers_own() -> None:
    first, second = Struct(), Struct()
    fill_from_text(first, '{"year": 2026}')
    first["year"] = 1
    fill_from_text(second, '{"year": 2026}')
    assert second["year"] == 2026


def test_a_long_text_is_read_each_time() -> None:
    json = {"note": "x" * 1_000}
    text = orjson.dumps(json).decode()
    struct = Struct()
    fill_from_text(struct, text)
    assert struct == struct_of(json)
    assert text not in json_struct._kept


def test_no_more_texts_are_kept_than_there_is_room_for() -> None:
    for number in range(2 * json_struct._MOST_KEPT):
        fill_from_text(Struct(), f'{{"number":{number}}}')
    assert 1 <= len(json_struct._kept) <= json_struct._MOST_KEPT


@pytest.mark.parametrize(
    ("number", "kept"), [(1.0, 1), (-3.0, -3), (0.0, 0), (float(EXACT), EXACT)]
)
def test_a_whole_double_becomes_an_integer(number: float, kept: int) -> None:
    value = json_value(Value(number_value=number))
    assert value == kept
    assert isinstance(value, int)


@pytest.mark.parametrize("number", [1.5, -1e-300, float(EXACT) * 2, 1e300])
def test_other_doubles_stay_doubles(number: float) -> None:
    value = json_value(Value(number_value=number))
    assert value == number
    assert isinstance(value, float)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_pass_through_for_the_checks_to_refuse(number: float) -> None:
    value = json_value(Value(number_value=number))
    assert isinstance(value, float)
    assert not math.isfinite(value)


def test_true_is_no_number() -> None:
    json = to_json(struct_of({"a": True, "b": 1}))
    assert json["a"] is True
    assert json["b"] == 1
    assert json["b"] is not True


def test_empty_containers_null_and_unset_values_are_kept_apart() -> None:
    json: dict[str, object] = {"object": {}, "list": [], "null": None, "text": ""}
    assert to_json(struct_of(json)) == json
    assert json_value(Value()) is None


def test_bound_values_are_read_by_name() -> None:
    values = {"x": Value(string_value="a"), "y": Value(number_value=2)}
    assert json_values(values) == {"x": "a", "y": 2}
