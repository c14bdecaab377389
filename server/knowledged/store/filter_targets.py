"""What a filter may ask of a field, and the SQL of each question that a filter asks of it.

Keys and values become parameters; SQL text comes from constants alone. Every answer is a boolean
in parentheses, in which NULL, what a missing value gives, counts as false.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, LiteralString, Protocol, TypeAlias

from knowledged.filters.values import Fault, Scalar
from knowledged.store.filter_fields import ORDERED, Kind

Order: TypeAlias = Literal["<", "<=", ">", ">="]
Wanted: TypeAlias = Scalar | tuple[Scalar, ...]

SQL_TYPES: dict[Kind, LiteralString] = {
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
    def begins(self, prefix: str, position: int) -> str: ...
    def present(self) -> str: ...
    def absent(self) -> str: ...


def members(wanted: Wanted) -> tuple[Scalar, ...]:
    return wanted if isinstance(wanted, tuple) else (wanted,)


def only_has(position: int) -> Fault:
    return Fault("this field takes only :", position)


def no_strings(position: int) -> Fault:
    return Fault("has_prefix takes a field of strings", position)


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

    def begins(self, prefix: str, position: int) -> str:
        if self.kind is not Kind.STRING:
            raise no_strings(position)
        text = self.bound.bind(self.operand(prefix, position), "text")
        # By code points, whatever the database's locale is; so an index of them serves it.
        return f"""starts_with({self.sql} collate "C", {text})"""

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
        raise only_has(position)

    def compares(self, order: Order, wanted: Scalar, position: int) -> str:
        raise only_has(position)

    def has(self, wanted: Wanted, position: int) -> str:
        texts = [self.operand(member, position) for member in members(wanted)]
        return f"({self.sql} {self.operator} {self.bind(texts)})"

    def begins(self, prefix: str, position: int) -> str:
        raise only_has(position)

    def present(self) -> str:
        return f"({self.sql} <> {self.empty})"

    def absent(self) -> str:
        return f"({self.present()} is not true)"
