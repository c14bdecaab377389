"""The filter language from text to tree."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledged.errors import Invalid
from knowledged.filters.language import parse
from knowledged.filters.syntax import And, Comparison, Expression, Has, Not, Or, Present

ONE_FUNCTION = "unknown function; has_prefix(field, text) is the one there is"
ONE_OF_VALUES = "unknown function; timestamp(text) is the one for values"
INSTANT = "an RFC 3339 timestamp in quotes or a bound one is expected"


def shape(node: Expression) -> Any:
    """The tree without positions, short enough to write down."""
    match node:
        case And(parts):
            return ("and", *map(shape, parts))
        case Or(parts):
            return ("or", *map(shape, parts))
        case Not(part):
            return ("not", shape(part))
        case Comparison(path, operator, value):
            return (".".join(path), operator, value)
        case Has(path, value):
            return (".".join(path), ":", value)
        case Present(path):
            return (".".join(path), ":*")


def read(text: str, **values: object) -> Any:
    parsed = parse(text, values)
    assert parsed is not None
    return shape(parsed.expression)


def fault(text: str, **values: object) -> str:
    with pytest.raises(Invalid) as raised:
        parse(text, values)
    return raised.value.violations[0].description


A, B, C, D = (("a", "=", 1.0), ("b", "=", 2.0), ("c", "=", 3.0), ("d", "=", 4.0))


@pytest.mark.parametrize("text", ["", "  ", "\t\r\n"])
def test_a_blank_filter_is_no_filter(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize("operator", ["=", "!=", "<", "<=", ">", ">="])
@pytest.mark.parametrize("space", ["", " ", "\n"])
def test_every_comparison_reads_with_and_without_spaces(operator: str, space: str) -> None:
    assert read(f"a{space}{operator}{space}1") == ("a", operator, 1.0)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        # The examples of AIP-160 on precedence, with restrictions for its bare words.
        ("a=1 AND b=2", ("and", A, B)),
        ("a=1 OR b=2 OR c=3", ("or", A, B, C)),
        ("a=1 AND b=2 AND c=3", ("and", A, B, C)),
        ("a=1 b=2 AND c=3 AND d=4", ("and", A, B, C, D)),
        ("a=1 b=2 OR c=3", ("and", A, ("or", B, C))),
        ("a=1 AND b=2 OR c=3", ("and", A, ("or", B, C))),
        ("a=1 OR b=2 AND c=3", ("and", ("or", A, B), C)),
        ("a=1 AND (b=2 OR c=3)", ("and", A, ("or", B, C))),
        ("(a=1 AND b=2) OR c=3", ("or", ("and", A, B), C)),
        ("NOT (a=1 OR b=2)", ("not", ("or", A, B))),
        ("-(a=1)", ("not", A)),
        ("-a=1", ("not", A)),
        ("NOT a=1 OR b=2", ("or", ("not", A), B)),
        ("NOT(a=1)AND(b=2)", ("and", ("not", A), B)),
        ("((a=1))", A),
    ],
)
def test_or_binds_tighter_than_and(text: str, tree: Any) -> None:
    assert read(text) == tree


@pytest.mark.parametrize(
    ("literal", "value"),
    [
        ("-30", -30.0),
        ("2.997e9", 2.997e9),
        ("1e-5", 1e-5),
        ("-2E+3", -2000.0),
        ("007", 7.0),
        ("true", True),
        ("false", False),
        ("null", None),
        ("TRUE", "TRUE"),
        ("ACTIVE", "ACTIVE"),
        ("com.google", "com.google"),
        ("text/plain", "text/plain"),
        ('"true"', "true"),
        ('"5"', "5"),
        ("''", ""),
        ("'it\"s'", 'it"s'),
        (r"'it\'s'", "it's"),
        (r'"a\\\"\n\t\r"', 'a\\"\n\t\r'),
        (r'"\u00e9\ud83d\ude00"', "é😀"),
        ('"foo*"', "foo*"),
        ('"a OR b = (1)"', "a OR b = (1)"),
        ('"2012-04-21T11:30:00-04:00"', "2012-04-21T11:30:00-04:00"),
    ],
)
def test_values_read_as_written(literal: str, value: object) -> None:
    read_value = read(f"a = {literal}")[2]
    assert read_value == value
    assert type(read_value) is type(value)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("metadata.patient.age = 1", ("metadata", "patient", "age")),
        ('metadata."blood type" = 1', ("metadata", "blood type")),
        ("metadata.'a.b' = 1", ("metadata", "a.b")),
        ("metadata.birth-year = 1", ("metadata", "birth-year")),
        ("metadata.AND = 1", ("metadata", "AND")),
        ("metadata.5 = 1", ("metadata", "5")),
        ('metadata."" = 1', ("metadata", "")),
        ("größe = 1", ("größe",)),
    ],
)
def test_paths_read_as_written(text: str, path: tuple[str, ...]) -> None:
    parsed = parse(text)
    assert parsed is not None
    assert isinstance(parsed.expression, Comparison)
    assert parsed.expression.path == path


def test_has_takes_a_value_or_a_star() -> None:
    assert read('tags:"x"') == ("tags", ":", "x")
    assert read("m.foo:42") == ("m.foo", ":", 42.0)
    assert read("m:foo") == ("m", ":", "foo")
    assert read("m.foo:*") == ("m.foo", ":*")
    assert read("-m.foo : *") == ("not", ("m.foo", ":*"))


def test_bound_names_stand_for_their_values() -> None:
    assert read("a = @x", x='it\'s "@y"') == ("a", "=", 'it\'s "@y"')
    assert read("a < @x b = @x", x=3) == ("and", ("a", "<", 3.0), ("b", "=", 3.0))
    assert read("a = @x", x=None) == ("a", "=", None)
    assert read("a != @x", x=["p", 2, True]) == ("a", "!=", ("p", 2.0, True))
    assert read("a:@x", x=[]) == ("a", ":", ())


def test_terms_and_values_know_their_positions() -> None:
    parsed = parse('a = 1 AND  metadata.x : "y"')
    assert parsed is not None
    assert isinstance(parsed.expression, And)
    comparison, has = parsed.expression.parts
    assert isinstance(comparison, Comparison)
    assert isinstance(has, Has)
    assert (comparison.position, comparison.value_position) == (1, 5)
    assert (has.position, has.value_position) == (12, 25)


@pytest.mark.parametrize(
    ("text", "description"),
    [
        ("a", "a comparison operator is expected at position 2"),
        ("Victor Hugo", "a comparison operator is expected at position 8"),
        ("a =", "a value is expected at position 4"),
        ("a = AND b = 1", "a value is expected at position 5"),
        ("a = (b)", "a value is expected at position 5"),
        ("a = *", "* stands only after : at position 5"),
        ("a = foo*", "unexpected character at position 8"),
        ("= 1", "a field is expected at position 1"),
        ("a = 1 AND", "a field is expected at position 10"),
        ("a = 1 OR OR b = 2", "a field is expected at position 10"),
        ("a = 1 AND AND b = 2", "a field is expected at position 11"),
        ("AND a = 1", "a field is expected at position 1"),
        ("NOT NOT a = 1", "a field is expected at position 5"),
        ("()", "a field is expected at position 2"),
        ("(a = 1", "a closing parenthesis is expected at position 7"),
        ("a = 1)", "a closing parenthesis without its opening one at position 6"),
        ("a = 1, b = 2", "a field is expected at position 6"),
        ("a == 1", "a value is expected at position 4"),
        ("a = 1 && b = 2", "unexpected character at position 7"),
        ("a. = 1", "unexpected character at position 2"),
        ("a . b = 1", "unexpected character at position 3"),
        ("a = 1; drop table document", "unexpected character at position 6"),
        ("a = 1\0", "unexpected character at position 6"),
        ("a = 2024-01-01", "this is no number, and other texts need quotes at position 5"),
        ("a = 20s", "this is no number, and other texts need quotes at position 5"),
        ("a = ٣", "this is no number, and other texts need quotes at position 5"),
        ("a = -x", "this is no number, and other texts need quotes at position 5"),
        ("a = 1e999", "a number is not a finite double at position 5"),
        ('a = "x', "a quoted string is not closed at position 5"),
        ('a = "x\\"', "a quoted string is not closed at position 5"),
        (r'a = "x\q"', "unknown escape at position 7"),
        (r'm."\q" = 1', "unknown escape at position 4"),
        ('a = "\0"', "a text holds the NUL character at position 5"),
        (r'a = "\u0000"', "a text holds the NUL character at position 5"),
        (r'm."\u0000" = 1', "a text holds the NUL character at position 3"),
        (r'a = "\ud83d"', "a text holds a lone surrogate at position 5"),
        ('a = "\ude00"', "a text holds a lone surrogate at position 5"),
        ("a < true", "true, false, null and lists take only = and != at position 5"),
        ("a >= null", "true, false, null and lists take only = and != at position 6"),
        ("a:null", "null takes only = and != at position 3"),
        ("lower(a) = x", f"{ONE_FUNCTION} at position 1"),
        ("has_prefix", "a comparison operator is expected at position 11"),
        ("has_prefix()", "a field is expected at position 12"),
        ("has_prefix(a)", "a comma is expected at position 13"),
        ("has_prefix(a, )", "a value is expected at position 15"),
        ("has_prefix(a, 5)", "a string is expected at position 15"),
        ("has_prefix(a, x", "a closing parenthesis is expected at position 16"),
        ("has_prefix(a, x, y)", "a closing parenthesis is expected at position 16"),
        ("has_prefix(a, x) = true", "a field is expected at position 18"),
        ("a = now()", f"{ONE_OF_VALUES} at position 5"),
        ("a = timestamp()", "a value is expected at position 15"),
        ("a = timestamp(2024)", f"{INSTANT} at position 15"),
        ('a = timestamp("2024-01-01")', f"{INSTANT} at position 15"),
        ('a = timestamp("2024-01-01T00:00:00+16:00")', f"{INSTANT} at position 15"),
        (
            'a = timestamp("2024-01-01T00:00:00Z"',
            "a closing parenthesis is expected at position 37",
        ),
        ("a = @x", "no value is bound to the name at position 5"),
        ("@x = 1", "unexpected character at position 1"),
    ],
)
def test_a_fault_is_named_with_its_position(text: str, description: str) -> None:
    assert fault(text) == description


@pytest.mark.parametrize(
    ("value", "description"),
    [
        ("a\0b", "a text holds the NUL character at position 5"),
        ("\ud800", "a text holds a lone surrogate at position 5"),
        (float("nan"), "a number is not a finite double at position 5"),
        (float("-inf"), "a number is not a finite double at position 5"),
        (10**400, "a number is not a finite double at position 5"),
        (b"x", "the bound value is neither text, number, bool, null nor a list at position 5"),
        ({}, "the bound value is neither text, number, bool, null nor a list at position 5"),
        ([None], "the bound value is neither text, number, bool, null nor a list at position 5"),
        ([["x"]], "the bound value is neither text, number, bool, null nor a list at position 5"),
        (["x"] * 1_001, "the bound list is longer than 1000 at position 5"),
    ],
)
def test_a_bound_value_that_no_field_can_hold_is_refused(value: object, description: str) -> None:
    assert fault("a = @x", x=value) == description


def test_a_list_has_no_order() -> None:
    assert fault("a < @x", x=["p"]).startswith("true, false, null and lists take only = and !=")


def test_bound_values_that_are_not_used_are_refused_without_their_names() -> None:
    with pytest.raises(Invalid) as raised:
        parse("a = @x", {"x": 1, "secret": 2}, field="filter")
    (violation,) = raised.value.violations
    assert violation.field == "filter_values"
    assert violation.description == "1 of the bound values not used"
    assert fault("", x=1) == "1 of the bound values not used"


def test_a_fault_is_reported_for_the_field_that_held_the_filter() -> None:
    with pytest.raises(Invalid) as raised:
        parse("a", field="search.filter")
    assert raised.value.violations[0].field == "search.filter"


def test_no_fault_repeats_what_the_caller_wrote() -> None:
    for text in ['a = "sesame', "sesame", "a = sesame(", "a = 1sesame", 'a < true sesame = "x"']:
        assert "sesame" not in fault(text)


def test_a_filter_is_at_most_8192_characters_long() -> None:
    longest = 'a = "' + "x" * (8_192 - 6) + '"'
    assert read(longest)[1] == "="
    assert fault(longest + " ") == "the filter is longer than 8192 characters at position 8193"


def test_a_filter_has_at_most_200_terms() -> None:
    assert len(read("a=1 " * 200)) == 201
    assert fault("a=1 " * 201) == "the filter has more than 200 terms at position 801"


def test_parentheses_nest_at_most_32_deep() -> None:
    assert read("(" * 32 + "a=1" + ")" * 32) == A
    deep = "parentheses are nested deeper than 32 at position 33"
    assert fault("(" * 33 + "a=1" + ")" * 33) == deep
    assert fault("(" * 8_192) == deep
    assert fault("-(" * 4_096).startswith("parentheses are nested deeper than 32")


def test_paths_are_at_most_32_keys_deep() -> None:
    assert read(".".join("a" * 32) + "=1")[1] == "="
    assert fault(".".join("a" * 33) + "=1") == "the path is deeper than 32 at position 1"


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


def quoted(text: str, quote: str) -> str:
    return quote + text.replace("\\", "\\\\").replace(quote, "\\" + quote) + quote


@given(TEXTS, TEXTS, st.sampled_from("\"'"))
def test_any_text_can_be_quoted_as_key_and_as_value(key: str, value: str, quote: str) -> None:
    parsed = parse(f"metadata.{quoted(key, quote)} = {quoted(value, quote)}")
    assert parsed is not None
    assert isinstance(parsed.expression, Comparison)
    assert parsed.expression.path == ("metadata", key)
    assert parsed.expression.value == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_double_reads_back_exactly(number: float) -> None:
    assert read(f"a = {json.dumps(number)}") == ("a", "=", number)


@given(st.text(max_size=40) | st.text("()ab.=<>:*-@\"'\\ ANDORT1", max_size=40))
def test_any_text_parses_or_is_refused_with_a_position(text: str) -> None:
    outcome = outcome_of(text)
    assert outcome is None or " at position " in outcome


def outcome_of(text: str) -> str | None:
    try:
        parse(text)
    except Invalid as invalid:
        return invalid.violations[0].description
    return None
