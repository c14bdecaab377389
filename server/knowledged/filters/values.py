"""The values of the filter language: what words, quoted strings and bound values stand for."""

import math
import re
from collections.abc import Sequence
from datetime import datetime
from typing import TypeAlias, cast

from knowledged.errors import Invalid, Violation

LONGEST_LIST = 1_000

# A datetime stands where the filter says timestamp(...).
Scalar: TypeAlias = str | float | bool | datetime
Value: TypeAlias = Scalar | tuple[Scalar, ...] | None

_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPED = {'"': '"', "'": "'", "\\": "\\", "n": "\n", "r": "\r", "t": "\t"}
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}


class Fault(Exception):
    """The rule that a filter breaks, and where: `position` is a 1-based character."""

    def __init__(self, rule: str, position: int) -> None:
        super().__init__(rule)
        self.rule = rule
        self.position = position

    def invalid(self, field: str) -> Invalid:
        return Invalid(Violation(field, f"{self.rule} at position {self.position}"))


def unquoted(text: str, position: int) -> str:
    r"""What a quoted string stands for; a bare word stands for itself.

    Escapes: \" \' \\ \n \r \t and \uXXXX (UTF-16 code units, so pairs make one character).
    """
    if text[0] not in "\"'":
        return text

    def character(escape: re.Match[str]) -> str:
        if len(escape[1]) == len("uXXXX"):
            return chr(int(escape[1][1:], 16))
        if escape[1] not in _ESCAPED:
            raise Fault("unknown escape", position + 1 + escape.start())
        return _ESCAPED[escape[1]]

    return storable(_ESCAPE.sub(character, text[1:-1]), position)


def storable(text: str, position: int) -> str:
    """The text with surrogate pairs joined; PostgreSQL keeps neither NUL nor lone surrogates."""
    if "\0" in text:
        raise Fault("a text holds the NUL character", position)
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise Fault("a text holds a lone surrogate", position) from None


def word_value(text: str, position: int) -> str | float | bool | None:
    """What a bare word stands for: true, false, null, a number, or else its own text."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] != "-" and not text[0].isnumeric():
        return text
    if not _NUMBER.fullmatch(text):
        raise Fault("this is no number, and other texts need quotes", position)
    return _finite(float(text), position)


def bound_value(value: object, position: int) -> Value:
    """What a bound name stands for; a list keeps its order."""
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        return _bound_scalar(value, position)
    members = cast("Sequence[object]", value)
    if len(members) > LONGEST_LIST:
        raise Fault(f"the bound list is longer than {LONGEST_LIST}", position)
    return tuple(_bound_scalar(member, position) for member in members)


def _bound_scalar(value: object, position: int) -> Scalar:
    match value:
        case bool():
            return value
        case str():
            return storable(value, position)
        case int() if abs(value) > 2**1023:
            raise Fault("a number is not a finite double", position)
        case int() | float():
            return _finite(float(value), position)
        case _:
            raise Fault("the bound value is neither text, number, bool, null nor a list", position)


def _finite(number: float, position: int) -> float:
    if not math.isfinite(number):
        raise Fault("a number is not a finite double", position)
    return number
