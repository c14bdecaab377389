"""The tokens of the filter language, and what their text stands for.

The scanner knows two places: after a comparator, a comma or `timestamp(` stands a value (`-1.5`,
`"text"`, `@name`, `*`), anywhere else a path (`metadata."blood type"`), a comparator, a parenthesis
or a minus sign.
"""

import re
from dataclasses import dataclass
from enum import Enum

from knowledged.filters.values import Fault, unquoted

_QUOTED = r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
_SEGMENT = rf"(?:\w[\w-]*|{_QUOTED})"
_SPACE = re.compile(r"[ \t\r\n]*")
_SEGMENTS = re.compile(_SEGMENT, re.DOTALL)
_TERM = re.compile(
    rf"""
      (?P<PATH>{_SEGMENT}(?:\.{_SEGMENT})*)
    | (?P<COMPARATOR><=|>=|!=|[=<>:])
    | (?P<OPEN>\()
    | (?P<CLOSE>\))
    | (?P<COMMA>,)
    | (?P<MINUS>-)
    """,
    re.DOTALL | re.VERBOSE,
)
_OPERAND = re.compile(
    rf"""
      (?P<STRING>{_QUOTED})
    | (?P<BOUND>@[A-Za-z_][A-Za-z0-9_]*)
    | (?P<STAR>\*)
    | (?P<WORD>-?\w[\w.+/-]*)
    """,
    re.DOTALL | re.VERBOSE,
)


class TokenKind(Enum):
    PATH = "PATH"
    COMPARATOR = "COMPARATOR"
    OPEN = "OPEN"
    CLOSE = "CLOSE"
    COMMA = "COMMA"
    MINUS = "MINUS"
    STRING = "STRING"
    BOUND = "BOUND"
    STAR = "STAR"
    WORD = "WORD"
    AND = "AND"
    OR = "OR"
    NOT = "NOT"
    END = "END"


_KEYWORDS = {"AND": TokenKind.AND, "OR": TokenKind.OR, "NOT": TokenKind.NOT}


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the filter as written; `position` is that of its first character, from 1."""

    kind: TokenKind
    text: str
    position: int

    @property
    def end(self) -> int:
        return self.position + len(self.text)


def tokens(text: str) -> list[Token]:
    """Every token of `text` in order; the last is END."""
    found: list[Token] = []
    start = _after_space(text, 0)
    while start < len(text):
        found.append(_token(text, start, _value_follows(found)))
        start = _after_space(text, found[-1].end - 1)
    return [*found, Token(TokenKind.END, "", len(text) + 1)]


def _value_follows(found: list[Token]) -> bool:
    if not found:
        return False
    opens = found[-1].kind is TokenKind.OPEN and len(found) > 1 and found[-2].text == "timestamp"
    return opens or found[-1].kind in (TokenKind.COMPARATOR, TokenKind.COMMA)


def _after_space(text: str, start: int) -> int:
    space = _SPACE.match(text, start)
    return space.end() if space else start


def _token(text: str, start: int, of_value: bool) -> Token:
    match = (_OPERAND if of_value else _TERM).match(text, start)
    if match is None:
        raise Fault(_why_not(text[start], of_value), start + 1)
    word = match[0]
    kind = TokenKind(match.lastgroup)
    if kind in (TokenKind.PATH, TokenKind.WORD):
        kind = _KEYWORDS.get(word, kind)
    return Token(kind, word, start + 1)


def _why_not(character: str, of_value: bool) -> str:
    if character in "\"'":
        return "a quoted string is not closed"
    return "a value is expected" if of_value else "unexpected character"


def segments(path: Token) -> tuple[str, ...]:
    """The keys of a PATH token, unquoted."""
    return tuple(
        unquoted(match[0], path.position + match.start()) for match in _SEGMENTS.finditer(path.text)
    )
