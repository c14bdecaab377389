"""The filter language: text to syntax tree, after https://google.aip.dev/160.

    filter      = [ expression ]
    expression  = factor { [ "AND" ] factor }       terms side by side are AND-ed
    factor      = term { "OR" term }                OR binds tighter than AND
    term        = [ "NOT" | "-" ] simple
    simple      = "(" expression ")" | restriction
    restriction = path comparator value | "has_prefix" "(" path "," text ")"
    path        = segment { "." segment }
    value       = text | number | true | false | null | "*" | "timestamp" "(" text ")"
    text        = quoted string | word | "@" name

What it knows of fields, their types and SQL stands in `store/filter_sql.py`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import cast

from knowledged.errors import Invalid, Violation
from knowledged.filters.instants import instant
from knowledged.filters.syntax import (
    And,
    Comparison,
    Expression,
    Filter,
    Has,
    HasPrefix,
    Not,
    Operator,
    Or,
    Present,
)
from knowledged.filters.tokens import Token, TokenKind, segments, tokens
from knowledged.filters.values import Fault, Scalar, Value, bound_value, unquoted, word_value

LONGEST_FILTER = 8_192
DEEPEST_NESTING = 32
LONGEST_PATH = 1_024
MOST_TERMS = 200
_INSTANT_EXPECTED = "an RFC 3339 timestamp in quotes or a bound one is expected"


def parse(
    text: str, values: Mapping[str, object] | None = None, field: str = "filter"
) -> Filter | None:
    """The tree of `text`, or None where it is blank.

    `values` are what `@name` stands for: str, float (or int), bool, None, or a list of at most
    1,000 of the first three. Raises Invalid with the position of the first fault.
    """
    bound = values or {}
    if not text and not bound:
        return None
    try:
        parser = _Parser(_scanned(text), bound)
        expression = parser.filter()
    except Fault as fault:
        raise fault.invalid(field) from None
    unused = len(bound.keys() - parser.used)
    if unused:
        raise Invalid(Violation(f"{field}_values", f"{unused} of the bound values not used"))
    return Filter(expression, field) if expression else None


def parse_path(text: str, field: str) -> tuple[str, ...]:
    """The keys of a dotted path as filters write it; `field` is what a fault is reported for."""
    try:
        if len(text) > LONGEST_PATH:
            raise Fault(f"the path is longer than {LONGEST_PATH} characters", LONGEST_PATH + 1)
        first, *others = tokens(text)
        if first.kind is not TokenKind.PATH or others[0].kind is not TokenKind.END:
            raise Fault("a field and nothing else is expected", first.position)
        return segments(first)
    except Fault as fault:
        raise fault.invalid(field) from None


def _scanned(text: str) -> list[Token]:
    if len(text) > LONGEST_FILTER:
        raise Fault(f"the filter is longer than {LONGEST_FILTER} characters", LONGEST_FILTER + 1)
    return tokens(text)


class _Parser:
    """Recursive descent, one method a rule of the grammar above."""

    __slots__ = ("_depth", "_next", "_terms", "_tokens", "_values", "used")

    def __init__(self, scanned: Sequence[Token], values: Mapping[str, object]) -> None:
        self._tokens = scanned
        self._values = values
        self._next = 0
        self._depth = 0
        self._terms = 0
        self.used: set[str] = set()

    @property
    def _token(self) -> Token:
        return self._tokens[self._next]

    def _accept(self, *kinds: TokenKind) -> bool:
        accepted = self._token.kind in kinds
        self._next += accepted
        return accepted

    def _expect(self, kind: TokenKind, rule: str) -> Token:
        token = self._token
        if not self._accept(kind):
            raise Fault(rule, token.position)
        return token

    def filter(self) -> Expression | None:
        if self._token.kind is TokenKind.END:
            return None
        expression = self.expression()
        self._expect(TokenKind.END, "a closing parenthesis without its opening one")
        return expression

    def expression(self) -> Expression:
        parts = [self.factor()]
        while self._token.kind not in (TokenKind.END, TokenKind.CLOSE):
            self._accept(TokenKind.AND)
            parts.append(self.factor())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def factor(self) -> Expression:
        parts = [self.term()]
        while self._accept(TokenKind.OR):
            parts.append(self.term())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def term(self) -> Expression:
        if self._accept(TokenKind.NOT, TokenKind.MINUS):
            return Not(self.simple())
        return self.simple()

    def simple(self) -> Expression:
        if self._token.kind is TokenKind.OPEN:
            return self.composite()
        return self.restriction()

    def composite(self) -> Expression:
        opening = self._expect(TokenKind.OPEN, "an opening parenthesis is expected")
        self._depth += 1
        if self._depth > DEEPEST_NESTING:
            raise Fault(f"parentheses are nested deeper than {DEEPEST_NESTING}", opening.position)
        inside = self.expression()
        self._expect(TokenKind.CLOSE, "a closing parenthesis is expected")
        self._depth -= 1
        return inside

    def restriction(self) -> Expression:
        field = self._expect(TokenKind.PATH, "a field is expected")
        if self._calls(field):
            return self._has_prefix(field)
        path = self._path(field)
        comparator = self._expect(TokenKind.COMPARATOR, "a comparison operator is expected")
        if comparator.text == ":" and self._accept(TokenKind.STAR):
            return Present(path, field.position)
        operand = self._token
        value = self._value()
        if comparator.text == ":":
            return Has(path, _member(value, operand.position), field.position, operand.position)
        operator = cast("Operator", comparator.text)
        _check_ordered(operator, value, operand.position)
        return Comparison(path, operator, value, field.position, operand.position)

    def _path(self, field: Token) -> tuple[str, ...]:
        self._terms += 1
        if self._terms > MOST_TERMS:
            raise Fault(f"the filter has more than {MOST_TERMS} terms", field.position)
        path = segments(field)
        if len(path) > DEEPEST_NESTING:
            raise Fault(f"the path is deeper than {DEEPEST_NESTING}", field.position)
        return path

    def _calls(self, name: Token) -> bool:
        """Whether the parenthesis of a function's arguments follows the name."""
        following = self._token
        return following.kind is TokenKind.OPEN and following.position == name.end

    def _has_prefix(self, name: Token) -> Expression:
        if name.text != "has_prefix":
            raise Fault(
                "unknown function; has_prefix(field, text) is the one there is", name.position
            )
        self._next += 1
        field = self._expect(TokenKind.PATH, "a field is expected")
        path = self._path(field)
        self._expect(TokenKind.COMMA, "a comma is expected")
        operand = self._token
        prefix = self._value()
        if not isinstance(prefix, str):
            raise Fault("a string is expected", operand.position)
        self._expect(TokenKind.CLOSE, "a closing parenthesis is expected")
        return HasPrefix(path, prefix, field.position, operand.position)

    def _timestamp(self, name: Token) -> datetime:
        if name.text != "timestamp":
            raise Fault("unknown function; timestamp(text) is the one for values", name.position)
        self._next += 1
        operand = self._token
        text = self._value()
        found = instant(text) if isinstance(text, str) else None
        if found is None:
            raise Fault(_INSTANT_EXPECTED, operand.position)
        self._expect(TokenKind.CLOSE, "a closing parenthesis is expected")
        return found

    def _value(self) -> Value:
        token = self._token
        self._next += 1
        match token.kind:
            case TokenKind.STRING:
                return unquoted(token.text, token.position)
            case TokenKind.BOUND:
                return self._bound(token)
            case TokenKind.WORD:
                if self._calls(token):
                    return self._timestamp(token)
                return word_value(token.text, token.position)
            case TokenKind.STAR:
                raise Fault("* stands only after :", token.position)
            case _:
                raise Fault("a value is expected", token.position)

    def _bound(self, token: Token) -> Value:
        name = token.text[1:]
        if name not in self._values:
            raise Fault("no value is bound to the name", token.position)
        self.used.add(name)
        return bound_value(self._values[name], token.position)


def _check_ordered(operator: Operator, value: Value, position: int) -> None:
    if operator not in ("=", "!=") and not isinstance(value, str | float | datetime):
        raise Fault("true, false, null and lists take only = and !=", position)


def _member(value: Value, position: int) -> Scalar | tuple[Scalar, ...]:
    if value is None:
        raise Fault("null takes only = and !=", position)
    return value
