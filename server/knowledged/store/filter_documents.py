"""Fields inside a jsonb document: of whatever type their value has, or of a declared kind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, LiteralString

from knowledged.filters.instants import PATTERN
from knowledged.filters.values import Fault, Scalar
from knowledged.store.filter_fields import Column, Kind, column_operand, declared_operand
from knowledged.store.filter_targets import (
    SQL_TYPES,
    Order,
    Parameters,
    Single,
    StringList,
    Target,
    Wanted,
    members,
    no_strings,
    only_has,
)


def instant_in(here: str, bound: Parameters) -> str:
    """The timestamptz that a JSON string holds, null for any other value; no value can fail."""
    text = f"({here} #>> '{{}}')"
    written = f"{text} ~ {bound.bind(PATTERN, 'text')}"
    valid = f"{written} and pg_input_is_valid({text}, 'timestamptz')"
    return f"(case when {valid} then {text}::timestamptz end)"


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
        if isinstance(wanted, datetime):
            return self._at_instant("=", wanted, position)
        return self.contains([self._checked(v, position) for v in members(wanted)])

    def compares(self, order: Order, wanted: Scalar, position: int) -> str:
        """Of values of the same JSON type; nothing is cast, so no stored value can fail."""
        self._refuse_whole(position)
        if isinstance(wanted, datetime):
            return self._at_instant(order, wanted, position)
        value = self._checked(wanted, position)
        here = self.here()
        if isinstance(value, str):
            text = f"""({here} #>> '{{}}') collate "C" {order} {self.bound.bind(value, "text")}"""
            return f"(jsonb_typeof({here}) = 'string' and {text})"
        number = f"{here} {order} {self.bound.bind_json([value])}"
        return f"(jsonb_typeof({here}) = 'number' and {number})"

    def has(self, wanted: Wanted, position: int) -> str:
        """An element of an array, a key of an object, or the value itself."""
        if self.column.kind is Kind.MAP and self.keys:
            return self.equals(wanted, position)
        values = members(wanted)
        if isinstance(wanted, datetime):
            raise Fault("a timestamp takes no :", position)
        texts = [value for value in values if isinstance(value, str)]
        others: list[object] = [value for value in values if not isinstance(value, str)]
        if others and not self.keys:
            raise Fault("a key is expected", position)
        if not others:
            return self._has_text(texts)
        elements = self.contains([*others, *([value] for value in others)])
        return f"({elements} or {self._has_text(texts)})" if texts else elements

    def begins(self, prefix: str, position: int) -> str:
        if not self.keys:
            raise no_strings(position)
        here, text = self.here(), self.bound.bind(self._checked(prefix, position), "text")
        return f"(jsonb_typeof({here}) = 'string' and starts_with({here} #>> '{{}}', {text}))"

    def present(self) -> str:
        if not self.keys:
            return f"({self.column.sql} <> '{{}}'::jsonb)"
        return f"(jsonb_typeof({self.here()}) <> 'null')"

    def absent(self) -> str:
        return f"({self.present()} is not true)"

    def _refuse_whole(self, position: int) -> None:
        if not self.keys:
            raise only_has(position)

    def _checked(self, value: Scalar, position: int) -> object:
        return column_operand(self.column, value, position)

    def _at_instant(self, operator: Order | Literal["="], wanted: datetime, position: int) -> str:
        self._checked(wanted, position)
        found = instant_in(self.here(), self.bound)
        return f"({found} {operator} {self.bound.bind(wanted, 'timestamptz')})"

    def here(self) -> str:
        # One `->` a key: it never takes a key for an array index, as `#>` would.
        steps = [f" -> {self.bound.bind(key, 'text')}" for key in self.keys]
        return f"({self.column.sql}{''.join(steps)})"

    def contains(self, values: Sequence[object]) -> str:
        return f"({self.column.sql} @> {self.bound.bind_json([self._at(v) for v in values])})"

    def _at(self, value: object) -> object:
        for key in reversed(self.keys):
            value = {key: value}
        return value

    def _has_text(self, texts: list[str]) -> str:
        return f"(jsonb_strip_nulls({self.here()}) ?| {self.bound.bind_texts(texts)})"


# A value of the kind, null for any other; as `stored_value` has it for the vector row.
_TYPED: Mapping[Kind, LiteralString] = {
    Kind.STRING: """(case when jsonb_typeof({here}) = 'string'
                       and octet_length({here} #>> '{}') <= 2048 then {here} #>> '{}' end)""",
    Kind.NUMBER: "(case when jsonb_typeof({here}) = 'number' then {here}::float8 end)",
    Kind.BOOL: "(case when jsonb_typeof({here}) = 'boolean' then {here}::bool end)",
    Kind.STRING_LIST: """(case when jsonb_typeof({here}) = 'array' and not jsonb_path_exists(
                            {here}, 'strict $[*] ? (@.type() != "string")') then {here} end)""",
}


def typed_target(document: Document, kind: Kind) -> Target:
    """A field inside `document` that the collection declares, where no vector row carries it."""
    if kind in (Kind.TIMESTAMP, Kind.STRING_LIST):
        return _typed_single(document, kind)
    return _Typed(document, kind)


def typed_value(document: Document, kind: Kind) -> str:
    """The field's value if it is of the kind, else null; not for TIMESTAMP."""
    return _TYPED[kind].replace("{here}", document.here())


def _typed_single(document: Document, kind: Kind) -> Target:
    def operand(value: Scalar, at: int) -> object:
        return declared_operand(kind, value, at)

    def instant(value: Scalar, at: int) -> object:
        return column_operand(Column("", Kind.TIMESTAMP), value, at)

    bound = document.bound
    if kind is Kind.TIMESTAMP:
        found = instant_in(document.here(), bound)
        return Single(found, kind, SQL_TYPES[kind], instant, bound)
    sql = typed_value(document, kind)
    if kind is Kind.STRING_LIST:
        return StringList(sql, "@>", "'[]'::jsonb", operand, bound.bind_json)
    return Single(sql, kind, SQL_TYPES[kind], operand, bound)


@dataclass(frozen=True, slots=True)
class _Typed:
    """One value of a declared kind; equal by containment, for the index on the whole document."""

    document: Document
    kind: Kind

    def equals(self, wanted: Wanted, position: int) -> str:
        found = [declared_operand(self.kind, member, position) for member in members(wanted)]
        return self.document.contains(found)

    def compares(self, order: Order, wanted: Scalar, position: int) -> str:
        return self._value().compares(order, wanted, position)

    def has(self, wanted: Wanted, position: int) -> str:
        return self.equals(wanted, position)

    def begins(self, prefix: str, position: int) -> str:
        return self._value().begins(prefix, position)

    def present(self) -> str:
        return self._value().present()

    def absent(self) -> str:
        return self._value().absent()

    def _value(self) -> Target:
        return _typed_single(self.document, self.kind)
