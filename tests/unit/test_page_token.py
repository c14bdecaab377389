"""Page tokens: what goes in comes out, and only for the query it was made for."""

import secrets
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledged.errors import Code, Invalid
from knowledged.page_token import PageTokens, binding

TOKENS = PageTokens(secrets.token_bytes(32))
BOUND = binding("/a.B/List", None, "collections/c", 'title = "x"', b"", "create_time")


def test_every_kind_of_value_comes_back_with_its_type() -> None:
    zone = timezone(timedelta(hours=5, minutes=30))
    position = (
        "Grüße \x00 \udc80",
        7,
        2**200,
        1.0,
        0.1,
        -0.0,
        float("inf"),
        True,
        False,
        None,
        uuid4(),
        datetime(2026, 11, 22, 23, 59, 59, 123457, tzinfo=UTC),
        datetime(2026, 1, 1, tzinfo=zone),
    )
    opened = TOKENS.open(TOKENS.seal(position, BOUND), BOUND)
    assert opened == position
    assert [type(value) for value in opened] == [type(value) for value in position]
    assert str(opened) == str(position)


def test_the_databases_own_uuid_comes_back_as_a_plain_one() -> None:
    value = asyncpg.pgproto.pgproto.UUID("0192d3c8-0000-7000-8000-000000000001")
    (opened,) = TOKENS.open(TOKENS.seal((value,), BOUND), BOUND)
    assert opened == value
    assert type(opened) is UUID


@given(
    st.lists(
        st.one_of(
            st.text(),
            st.integers(),
            st.floats(allow_nan=False),
            st.booleans(),
            st.none(),
            st.uuids(),
            st.datetimes(timezones=st.just(UTC)),
        ),
        max_size=5,
    ).map(tuple)
)
def test_any_position_comes_back(position: tuple[str | int | float | bool | UUID | None]) -> None:
    assert TOKENS.open(TOKENS.seal(position, BOUND), BOUND) == position


def refused(token: str, bound: bytes = BOUND, tokens: PageTokens = TOKENS) -> bool:
    with pytest.raises(Invalid) as refusal:
        tokens.open(token, bound)
    error = refusal.value
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID")
    return [violation.field for violation in error.violations] == ["page_token"]


@pytest.mark.parametrize("token", ["", "x", "kd", "é" * 50, "A" * 100, "A" * 100_000, "\udc80"])
def test_a_forged_token_is_refused(token: str) -> None:
    assert refused(token)


@pytest.mark.parametrize("title", ["t", "ti", "tit"])
def test_a_token_changed_in_any_place_is_refused(title: str) -> None:
    token = TOKENS.seal((title, 7), BOUND)
    assert refused(token + "!")
    assert refused(token + "=")
    for place, letter in enumerate(token):
        other = "B" if letter != "B" else "C"
        changed = token[:place] + other + token[place + 1 :]
        assert refused(changed)


def test_a_token_of_another_server_is_refused() -> None:
    assert refused(TOKENS.seal(("a",), BOUND), tokens=PageTokens(secrets.token_bytes(32)))


@pytest.mark.parametrize(
    "other",
    [
        binding("/a.B/Other", None, "collections/c", 'title = "x"', b"", "create_time"),
        binding("/a.B/List", frozenset(), "collections/c", 'title = "x"', b"", "create_time"),
        binding("/a.B/List", None, "collections/d", 'title = "x"', b"", "create_time"),
        binding("/a.B/List", None, "collections/c", 'title = "y"', b"", "create_time"),
        binding("/a.B/List", None, "collections/c", 'title = "x"', b"1", "create_time"),
        binding("/a.B/List", None, "collections/c", 'title = "x"', b"", "title"),
        binding("/a.B/List", None, "collections/c", 'title = "x"', b"create_time", ""),
    ],
)
def test_a_token_is_good_for_its_own_query_alone(other: bytes) -> None:
    assert refused(TOKENS.seal(("a",), BOUND), other)


def test_the_binding_tells_grants_apart_but_not_by_their_order() -> None:
    assert binding("m", frozenset({"a", "b"})) == binding("m", frozenset({"b", "a"}))
    assert binding("m", frozenset({"a", "b"}), "c") != binding("m", frozenset({"a"}), "b", "c")
    assert binding("m", None) != binding("m", frozenset({"all"}))


def test_a_token_hides_its_position_and_is_safe_in_a_url() -> None:
    first, second = (TOKENS.seal(("secret title",), BOUND) for _ in range(2))
    assert first != second
    assert first.replace("-", "").replace("_", "").isalnum()
