"""Filters as SQL: a real PostgreSQL must answer what the language promises."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any, LiteralString

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from filter_expressions import IMAGINARY_TERMS, ROWS, SHARED_TERMS, TELLING_ROWS, expressions
from filter_promise import FIELDS, TYPED_FIELDS, indexed_fields, promised
from knowledged.errors import Invalid
from knowledged.filters.language import parse
from knowledged.filters.syntax import (
    Expression,
    Filter,
)
from knowledged.store import filter_sql
from knowledged.store.filter_sql import Condition, Declared, Fields, Kind

MATCHING: LiteralString = """
    select d.number
    from jsonb_to_recordset($1::text::jsonb) as d (
        number int, title text, size float8, reviewed bool, create_time timestamptz, uid uuid,
        state smallint, subject_ids text[], labels jsonb, metadata jsonb
    )
    join jsonb_to_recordset($2::text::jsonb) as v (number int, fields jsonb) using (number)
    where {condition}
    order by d.number
"""


def compiled(text: str, **values: object) -> Condition:
    return filter_sql.compile(parse(text, values), FIELDS, first_parameter=3)


def fault(text: str, **values: object) -> str:
    with pytest.raises(Invalid) as raised:
        compiled(text, **values)
    return raised.value.violations[0].description


@pytest.fixture
async def connection(bare_urls: Any) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(bare_urls.owner_dsn)
    yield connection
    await connection.close()


async def matching(
    connection: asyncpg.Connection, condition: Condition, rows: list[dict[str, Any]]
) -> list[int]:
    """The indices of the rows for which the condition holds."""
    numbered = [{**row, "number": number} for number, row in enumerate(rows)]
    indexed = [{"number": row["number"], "fields": indexed_fields(row)} for row in numbered]
    sql = MATCHING.replace("{condition}", condition.sql)
    arguments = [json.dumps(numbered), json.dumps(indexed), *condition.parameters]
    return [row["number"] for row in await connection.fetch(sql, *arguments)]


async def holds(
    connection: asyncpg.Connection, text: str, row: dict[str, Any], **values: object
) -> bool:
    return await matching(connection, compiled(text, **values), [row]) == [0]


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    expression=expressions(*SHARED_TERMS, *IMAGINARY_TERMS),
    rows=st.lists(ROWS, min_size=1, max_size=8),
)
async def test_postgresql_answers_what_the_language_promises(
    connection: asyncpg.Connection, expression: Expression, rows: list[dict[str, Any]]
) -> None:
    rows = [*rows, *TELLING_ROWS]
    asked = Filter(expression, "filter")
    expected = [number for number, row in enumerate(rows) if promised(row, expression)]
    for fields in (FIELDS, TYPED_FIELDS):
        condition = filter_sql.compile(asked, fields, first_parameter=3)
        assert await matching(connection, condition, rows) == expected


@pytest.mark.parametrize(
    ("text", "metadata", "expected"),
    [
        ("metadata.age = 1", {"age": 1.0}, True),
        ("metadata.age = 1", {"age": "1"}, False),
        ("metadata.age = 1", {"age": [1]}, False),
        ("metadata.age < 2", {"age": "x"}, False),
        ("metadata.age < 2", {}, False),
        ("NOT metadata.age < 2", {}, True),
        ("metadata.age != 1", {}, True),
        ("metadata.age != 1", {"age": None}, True),
        ("metadata.age = null", {}, True),
        ("metadata.age = null", {"age": None}, True),
        ("metadata.age != null", {"age": 0}, True),
        ("metadata.age:*", {"age": None}, False),
        ("metadata:age", {"age": 0}, True),
        ("metadata.a.b:*", {"a": {"b": {}}}, True),
        ("metadata.a.b = 1", {"a": [{"b": 1}]}, False),
        ("metadata.a.0 = 1", {"a": [1]}, False),
        ("metadata.tags:x", {"tags": ["w", "x"]}, True),
        ("metadata.tags:x", {"tags": {"x": 0}}, True),
        ("metadata.tags:x", {"tags": "x"}, True),
        ("metadata.tags:x", {"tags": "xyz"}, False),
        ("metadata.tags:5", {"tags": [4, 5.0]}, True),
        ("metadata.tags:true", {"tags": [True]}, True),
        ("metadata.word < 'a'", {"word": "B"}, True),
    ],
)
async def test_undeclared_metadata_is_compared_by_its_json_type(
    connection: asyncpg.Connection, text: str, metadata: dict[str, Any], expected: bool
) -> None:
    assert await holds(connection, text, {"metadata": metadata}) is expected


async def test_instants_compare_whatever_their_offset(connection: asyncpg.Connection) -> None:
    noon = "2024-02-29T12:00:00.5Z"
    row = {"create_time": noon, "metadata": {"seen": noon}}
    for field in ("create_time", "metadata.seen"):
        assert await holds(connection, f'{field} = "2024-02-29T13:00:00.500000000+01:00"', row)
        assert await holds(connection, f'{field} < "2024-02-29T12:00:00.500001Z"', row)
        assert not await holds(connection, f'{field} != "{noon}"', row)


async def test_a_list_of_another_type_finds_nothing_and_fails_nothing(
    connection: asyncpg.Connection,
) -> None:
    row = {"metadata": {"a": {"b": 1}}}
    assert not await holds(connection, "metadata.a = @list", row, list=["x", 2.0, True])
    assert await holds(connection, "metadata.a.b = @list", row, list=["x", 1.0, True])
    assert not await holds(connection, "metadata.a.b = @list", row, list=[])
    assert await holds(connection, "metadata.a.b != @list", row, list=[])


HOSTILE = "x'); drop table document; -- $1 {key} %s \\ \" '"


@pytest.mark.parametrize(
    "text",
    [
        "title = @hostile",
        "title < @hostile",
        "title = @list",
        "subject_ids:@hostile",
        "labels:@hostile",
        "labels.{key} = @hostile",
        "labels.{key} < @hostile",
        "labels.{key}:*",
        "metadata:@hostile",
        "metadata.{key} = @hostile",
        "metadata.{key} != @list",
        "metadata.{key}.{key} < @hostile",
        "metadata.{key}:@hostile",
        "metadata.{key}:*",
        "metadata.name >= @hostile",
        "metadata.codes:@hostile",
    ],
)
async def test_keys_and_values_never_enter_the_sql_text(
    connection: asyncpg.Connection, text: str
) -> None:
    key = '"' + HOSTILE.replace("\\", "\\\\").replace('"', '\\"') + '"'
    bound = {"hostile": HOSTILE, "list": [HOSTILE, HOSTILE]}
    used = {name: value for name, value in bound.items() if f"@{name}" in text}
    condition = compiled(text.replace("{key}", key), **used)
    assert re.fullmatch(r"""[a-z_ ().:$0-9<>=@&|?!'"#C\[\]{}-]+""", condition.sql)
    assert "drop" not in condition.sql
    assert await matching(connection, condition, [{"metadata": {}}]) in ([], [0])


async def test_declared_keys_are_bound_too(connection: asyncpg.Connection) -> None:
    declared = {"metadata.x": Declared(Kind.NUMBER, HOSTILE)}
    fields = Fields({}, declared)
    condition = filter_sql.compile(parse("metadata.x > 1"), fields, first_parameter=3)
    assert condition.sql == "(((v.fields -> $3::text)::float8) > $4::float8)"
    assert condition.parameters == [HOSTILE, 1.0]


def test_no_filter_is_true() -> None:
    assert compiled(" ") == Condition("true", [])


def test_parameters_are_numbered_from_the_first() -> None:
    condition = filter_sql.compile(parse("title = a AND size = 1"), FIELDS, first_parameter=7)
    assert condition.sql == "((d.title = $7::text) and (d.size = $8::float8))"
    assert condition.parameters == ["a", 1.0]


INSTANT_EXPECTED = "an RFC 3339 timestamp is expected at position 15"


@pytest.mark.parametrize(
    ("text", "description"),
    [
        ("secret = 1", "unknown field at position 1"),
        ("title = a AND secret.x = 1", "unknown field at position 15"),
        ("title.x = a", "unknown field at position 1"),
        ("labels.a.b = c", "unknown field at position 1"),
        ('"metadata.name" = x', "unknown field at position 1"),
        ("title = 5", "a string is expected at position 9"),
        ("size = big", "a number is expected at position 8"),
        ("size = true", "a number is expected at position 8"),
        ("reviewed = 1", "true or false is expected at position 12"),
        ("reviewed < 1", "this field takes only =, != and : at position 12"),
        ('create_time > "yesterday"', INSTANT_EXPECTED),
        ('create_time > "2024-02-30T00:00:00Z"', INSTANT_EXPECTED),
        ('create_time > "2024-02-29T00:00:00"', INSTANT_EXPECTED),
        ('create_time > "0001-01-01T00:00:00+01:00"', INSTANT_EXPECTED),
        ('uid = "5"', "a UUID is expected at position 7"),
        ("state = GONE", "one of PENDING, ACTIVE is expected at position 9"),
        ("state < ACTIVE", "this field takes only =, != and : at position 9"),
        ("subject_ids = x", "this field takes only : at position 15"),
        ("subject_ids < x", "this field takes only : at position 15"),
        ("subject_ids:5", "a string in the list is expected at position 13"),
        ("labels = x", "this field takes only : at position 10"),
        ("labels.env = 5", "a string in the map is expected at position 14"),
        ("labels:5", "a key is expected at position 8"),
        ("metadata > 5", "this field takes only : at position 12"),
        ("metadata:5", "a key is expected at position 10"),
        ("metadata.name = 5", "a string of at most 2048 bytes is expected at position 17"),
        ("metadata.year = x", "a number is expected at position 17"),
        ("metadata.open < x", "this field takes only =, != and : at position 17"),
        ("metadata.seen = x", "an RFC 3339 timestamp is expected at position 17"),
        ("metadata.codes:5", "a string in the list is expected at position 16"),
        ("metadata.codes = x", "this field takes only : at position 18"),
    ],
)
def test_what_a_field_does_not_take_is_refused_with_its_position(
    text: str, description: str
) -> None:
    assert fault(text) == description


def test_a_member_of_a_bound_list_must_be_of_the_kind_too() -> None:
    assert fault("size = @list", list=[1, "x"]) == "a number is expected at position 8"


def test_a_quoted_key_with_a_dot_is_one_key() -> None:
    condition = compiled('metadata."name" = x AND metadata."a.name" = x')
    assert condition.parameters == ["name", "x", '{"a.name": "x"}']
