"""Vectors as callers give them: which are refused, and that float32 stays what it was."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from knowledged.vectors import COSINE, FLOAT16_MAX, VectorRule, bytes_of

# A busy machine is no reason to fail.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

L2, INNER_PRODUCT = 2, 3
RULE = VectorRule(4, COSINE)
FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)


def vector(*values: float) -> bytes:
    return np.asarray(values, "<f4").tobytes()


def float16_accepts(data: bytes) -> bool:
    """What pgvector's halfvec and its cosine index take, judged by the bits alone."""
    values = np.frombuffer(data, "<f4").astype(np.float64)
    return bool(np.isfinite(values).all() and (np.abs(values) <= FLOAT16_MAX).all())


@unhurried
@given(
    st.lists(st.one_of(st.binary(max_size=20), st.lists(FLOATS, min_size=4, max_size=4))),
    st.sampled_from([COSINE, L2, INNER_PRODUCT]),
)
def test_a_batch_is_judged_as_each_of_its_vectors_alone(
    drawn: list[bytes | list[float]], distance: int
) -> None:
    batch = [each if isinstance(each, bytes) else vector(*each) for each in drawn]
    for vectors in (batch, [each for each in batch if len(each) == 16]):
        rule = VectorRule(4, distance)
        assert rule.faults(vectors) == [rule.fault(each) for each in vectors]


@unhurried
@given(st.lists(FLOATS, min_size=4, max_size=4), st.sampled_from([COSINE, L2, INNER_PRODUCT]))
def test_exactly_those_that_the_index_can_hold_are_good(values: list[float], distance: int) -> None:
    data = vector(*values)
    with np.errstate(over="ignore"):
        vanishes = not np.frombuffer(data, "<f4").astype(np.float16).any()
    good = float16_accepts(data) and not (distance == COSINE and vanishes)
    assert (VectorRule(4, distance).fault(data) is None) == good


@unhurried
@given(st.lists(FLOATS, max_size=8))
def test_only_the_right_dimension_is_good(values: list[float]) -> None:
    fault = VectorRule(4, L2).fault(vector(*values))
    if len(values) != 4:
        assert fault == f"{4 * len(values)} bytes; 4 float32 values take 16"


@unhurried
@given(st.binary(max_size=40))
def test_arbitrary_bytes_are_judged_without_failing(data: bytes) -> None:
    fault = RULE.fault(data)
    assert fault is None or len(fault) > 10


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    assert RULE.fault(vector(1, 2, 3, bad)) == "has a value that is not finite"


@pytest.mark.parametrize("bad", [7e4, -7e4, 65_505, 3e38])
def test_values_that_overflow_the_index_are_refused(bad: float) -> None:
    assert "65504" in (RULE.fault(vector(bad, 0, 0, 0)) or "")


@pytest.mark.parametrize("tiny", [0.0, -0.0, 1e-8, 1e-45])
def test_a_vector_that_vanishes_in_float16_has_no_direction(tiny: float) -> None:
    data = vector(tiny, 0, 0, 0)
    assert "no direction" in (RULE.fault(data) or "")
    assert VectorRule(4, L2).fault(data) is None
    assert VectorRule(4, INNER_PRODUCT).fault(data) is None


def test_the_smallest_and_largest_that_the_index_holds_are_good() -> None:
    assert RULE.fault(vector(2.0**-24, 0, 0, 0)) is None
    assert RULE.fault(vector(65_504, -65_504, 0, 0)) is None


def test_every_faulty_value_is_found_wherever_it_stands() -> None:
    for place in range(4):
        values = [1.0] * 4
        values[place] = math.nan
        assert RULE.fault(vector(*values)) is not None


@unhurried
@given(st.lists(st.floats(width=32, allow_nan=False), max_size=16))
def test_floats_become_the_same_float32_bytes(values: list[float]) -> None:
    assert bytes_of(values) == vector(*values)


def test_floats_beyond_float32_become_infinite_and_are_refused() -> None:
    assert RULE.fault(bytes_of([1e39, 1, 1, 1])) == "has a value that is not finite"


def test_bytes_keep_negative_zero_and_denormals() -> None:
    assert bytes_of([-0.0, 1e-45]).hex() == "0000008001000000"
