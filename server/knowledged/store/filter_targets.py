"""What a path of a filter leads to, and the SQL of each question that a filter asks of it.

Keys and values become parameters; SQL text comes from constants alone. Every answer is a boolean
in parentheses, in which NULL, what a missing value gives, counts as false.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, LiteralString, Protocol, TypeAlias

from knowledged.filters.values import Fault, Scalar
from knowledged.store.filter_fields import (
    ORDERED,
    Column,
    Declared,
    Fields,
    Kind,
    column_operand,
    declared_expression,
    declared_operand,
)

Order: TypeAlias = Literal["<", "<=", ">", ">="]
Wanted: TypeAlias = Scalar | tuple[Scalar, ...]

_SQL_TYPES: dict[Kind, LiteralString] = {
    Kind.STRING: "text",
    Kind.NUMBER: "float8",
    Kind.BOOL: "bool",
    Kind.TIMESTAMP: "timestamptz",
    Kind.UUID: "uuid",
    Kind.ENUM: "int2",
}


class Parameters:
    """Collects what the SQL binds; the first value gets the number `first`."""

    __slots__ = ("_first", "values")

    def __init__(self, first: int) -> None:
        self._first = first
        self.values: list[object] = []

    def bind(self, value: object, sql_type: LiteralString) -> str:
        self.values.append(value)
        return f"${self._first + len(self.values) - 1}::{sql_type}"

    def bind_texts(self, texts: Sequence[object]) -> str:
        return self.bind(texts, "text[]")

    def bind_json(self, values: Sequence[object]) -> str:
        """One value as jsonb; more as `any(jsonb[])`, which stands to the right of an operator."""
        texts = [json.dumps(value) for value in values]
        if len(texts) == 1:
            return self.bind(texts[0], "text") + "::jsonb"
        return f"any({self.bind(texts, 'text[]')}::jsonb[])"


class Target(Protocol):
    """Something to filter on. A tuple as `wanted` means any of its members."""

    def equals(self, wanted: Wanted, position: int) -> str: ...
    def compares(self, order: Order, wanted: Scalar, position: int) -> str: ...
    def has(self, wanted: Wanted, position: int) -> str: ...
    def present(self) -> str: ...
    def absent(self) -> str: ...


def target(fields: Fields, path: tuple[str, ...], position: int, bound: Parameters) -> Target:
    """What `path` leads to; Fault where it leads nowhere."""
    if declared := fields.declared_at(path):
        return _declared_target(declared, bound)
    found = fields.column_at(path)
    if found is None:
        raise Fault("unknown field", position)
    column, keys = found
    if column.kind in (Kind.MAP, Kind.DYNAMIC):
        return Document(column, keys, bound)
    return _column_target(column, bound)


def _column_target(column: Column, bound: Parameters) -> Target:
    def operand(value: Scalar, at: int) -> object:
        return column_operand(column, value, at)

    if column.kind is Kind.STRING_LIST:
        return StringList(column.sql, "&&", "'{}'::text[]", operand, bound.bind_texts)
    return Single(column.sql, column.kind, _SQL_TYPES[column.kind], operand, bound)


def _declared_target(declared: Declared, bound: Parameters) -> Target:
    def operand(value: Scalar, at: int) -> object:
        return declared_operand(kind, value, at)

    kind = declared.kind
    sql = declared_expression(kind).format(key=bound.bind(declared.key, "text"))
    if kind is Kind.STRING_LIST:
        return StringList(sql, "@>", "'[]'::jsonb", operand, bound.bind_json)
    sql_type = "float8" if kind is Kind.TIMESTAMP else _SQL_TYPES[kind]
    return Single(f"({sql})", kind, sql_type, operand, bound)


def _members(wanted: Wanted) -> tuple[Scalar, ...]:
    return wanted if isinstance(wanted, tuple) else (wanted,)


def _only_has(position: int) -> Fault:
    return Fault("this field takes only :", position)


@dataclass(frozen=True, slots=True)
class Single:
    """One value of a type that SQL has too; `operand` makes a filter's value into one."""

    sql: str
    kind: Kind
    sql_type: LiteralString
    operand: Callable[[Scalar, int], object]
    bound: Parameters

    def equals(self, wanted: Wanted, position: int) -> str:
        if isinstance(wanted, tuple):
            values = [self.operand(member, position) for member in wanted]
            return f"({self.sql} = any({self.bound.bind(values, self.sql_type)}[]))"
        value = self.operand(wanted, position)
        return f"({self.sql} = {self.bound.bind(value, self.sql_type)})"

    def compares(self, order: Order, wanted: Scalar, position: int) -> str:
        if self.kind not in ORDERED:
            raise Fault("this field takes only =, != and :", position)
        value = self.operand(wanted, position)
        # Code point order, whatever the database's locale is.
        collation = ' collate "C"' if self.kind is Kind.STRING else ""
        return f"({self.sql}{collation} {order} {self.bound.bind(value, self.sql_type)})"

    def has(self, wanted: Wanted, position: int) -> str:
        return self.equals(wanted, position)

    def present(self) -> str:
        return f"({self.sql} is not null)"

    def absent(self) -> str:
        return f"({self.sql} is null)"


@dataclass(frozen=True, slots=True)
class StringList:
    """A list of strings: `operator` asks whether it holds any of what `bind` makes of a list."""

    sql: str
    operator: LiteralString
    empty: LiteralString
    operand: Callable[[Scalar, int], object]
    bind: Callable[[Sequence[object]], str]

    def equals(self, wanted: Wanted, position: int) -> str:
        raise _only_has(position)

    def compares(self, order: Order, wanted: Scalar, position: int) -> str:
        raise _only_has(position)

    def has(self, wanted: Wanted, position: int) -> str:
        texts = [self.operand(member, position) for member in _members(wanted)]
        return f"({self.sql} {self.operator} {self.bind(texts)})"

    def present(self) -> str:
        return f"({self.sql} <> {self.empty})"

    def absent(self) -> str:
        return f"({self.present()} is not true)"


@dataclass(frozen=True, slots=True)
class Document:
    """A jsonb object (DYNAMIC, or a MAP of strings), or what lies under `keys` inside it.

    JSON null stands for a missing value: filters do not tell the two apart.
    """

    column: Column
    keys: tuple[str, ...]
    bound: Parameters

    def equals(self, wanted: Wanted, position: int) -> str:
        """By containment, so that a GIN index on the whole document serves every path."""
        self._refuse_whole(position)
        return self._contains([self._checked(v, position) for v in _members(wanted)])

    def compares(self, order: Order, wanted: Scalar, position: int) -> str:
        """Of values of the same JSON type; nothing is cast, so no stored value can fail."""
        self._refuse_whole(position)
        value = self._checked(wanted, position)
        here = self._here()
        if isinstance(value, str):
            text = f"""({here} #>> '{{}}') collate "C" {order} {self.bound.bind(value, "text")}"""
            return f"(jsonb_typeof({here}) = 'string' and {text})"
        number = f"{here} {order} {self.bound.bind_json([value])}"
        return f"(jsonb_typeof({here}) = 'number' and {number})"

    def has(self, wanted: Wanted, position: int) -> str:
        """An element of an array, a key of an object, or the value itself."""
        if self.column.kind is Kind.MAP and self.keys:
            return self.equals(wanted, position)
        values = _members(wanted)
        texts = [value for value in values if isinstance(value, str)]
        others: list[object] = [value for value in values if not isinstance(value, str)]
        if others and not self.keys:
            raise Fault("a key is expected", position)
        if not others:
            return self._has_text(texts)
        elements = self._contains([*others, *([value] for value in others)])
        return f"({elements} or {self._has_text(texts)})" if texts else elements

    def present(self) -> str:
        if not self.keys:
            return f"({self.column.sql} <> '{{}}'::jsonb)"
        return f"(jsonb_typeof({self._here()}) <> 'null')"

    def absent(self) -> str:
        return f"({self.present()} is not true)"

    def _refuse_whole(self, position: int) -> None:
        if not self.keys:
            raise _only_has(position)

    def _checked(self, value: Scalar, position: int) -> object:
        return column_operand(self.column, value, position)

    def _here(self) -> str:
        # One `->` a key: it never takes a key for an array index, as `#>` would.
        steps = [f" -> {self.bound.bind(key, 'text')}" for key in self.keys]
        return f"({self.column.sql}{''.join(steps)})"

    def _contains(self, values: list[object]) -> str:
        return f"({self.column.sql} @> {self.bound.bind_json([self._at(v) for v in values])})"

    def _at(self, value: object) -> object:
        for key in reversed(self.keys):
            value = {key: value}
        return value

    def _has_text(self, texts: list[str]) -> str:
        return f"(jsonb_strip_nulls({self._here()}) ?| {self.bound.bind_texts(texts)})"
