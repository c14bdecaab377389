"""What a resource lets one filter on: its fields, their kinds, and how their values are kept."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import LiteralString, cast
from uuid import UUID

from knowledged.filters.instants import instant
from knowledged.filters.values import Fault, Scalar


class Kind(Enum):
    """The type of a field. Its comments give the SQL type of a `Column` of that kind."""

    STRING = "a string"  # text
    NUMBER = "a number"  # any number
    BOOL = "true or false"  # bool
    TIMESTAMP = "an RFC 3339 timestamp"  # timestamptz
    UUID = "a UUID"  # uuid
    ENUM = "one of the field's names"  # smallint
    STRING_LIST = "a string in the list"  # text[]
    MAP = "a string in the map"  # jsonb, an object of strings
    DYNAMIC = "a value in the document"  # jsonb, an object of anything


# A b-tree takes no entry over 2,704 bytes; a longer string would fail the whole write.
LONGEST_DECLARED_STRING = 2_048

ORDERED = frozenset({Kind.STRING, Kind.NUMBER, Kind.TIMESTAMP})


@dataclass(frozen=True, slots=True)
class Column:
    """A field kept in a column: `sql` is an expression without parameters, such as `d.title`.

    `names` belong to an ENUM: what callers write, and the number it is stored as.
    """

    sql: LiteralString
    kind: Kind
    names: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class Declared:
    """A field of a collection's `filter_fields`, kept under `key` in the vector row's `fields`.

    Kinds: STRING, NUMBER, BOOL, TIMESTAMP, STRING_LIST. Values must come from `stored_value`.
    """

    kind: Kind
    key: str


@dataclass(frozen=True, slots=True)
class Fields:
    """All that a filter may name, by dotted name. A declared field hides a column's path.

    A MAP column `labels` also answers to `labels.env`, a DYNAMIC one to paths of any depth; where
    `typed` names one of those, its values are of that kind or count as missing: what the collection
    declares, and no vector row carries here.
    """

    columns: Mapping[str, Column]
    declared: Mapping[str, Declared] = field(default_factory=dict[str, Declared])
    typed: Mapping[str, Kind] = field(default_factory=dict[str, Kind])

    def declared_at(self, path: tuple[str, ...]) -> Declared | None:
        return self.declared.get(_dotted(path))

    def typed_at(self, path: tuple[str, ...]) -> Kind | None:
        return self.typed.get(_dotted(path))

    def column_at(self, path: tuple[str, ...]) -> tuple[Column, tuple[str, ...]] | None:
        """The column that `path` leads to, and the keys that are left to go inside it."""
        for length in range(len(path), 0, -1):
            column = self.columns.get(_dotted(path[:length]))
            if column and len(path) - length <= _KEYS_INSIDE.get(column.kind, 0):
                return column, path[length:]
        return None


_KEYS_INSIDE = {Kind.MAP: 1, Kind.DYNAMIC: 1_000_000}


def _dotted(path: tuple[str, ...]) -> str:
    # A quoted key may hold a dot itself; it must not pass for the two keys beside that dot.
    return ".".join(key.replace(".", "\0") for key in path)


# The one place where these expressions stand: filters and index definitions both fill them in.
_DECLARED: Mapping[Kind, LiteralString] = {
    Kind.STRING: """({fields} ->> {key}) collate "C\"""",
    Kind.NUMBER: "({fields} -> {key})::float8",
    Kind.BOOL: "({fields} -> {key})::bool",
    Kind.TIMESTAMP: "({fields} -> {key})::float8",
    Kind.STRING_LIST: "({fields} -> {key})",
}


def declared_expression(kind: Kind) -> LiteralString:
    """The SQL of a declared field on the vector row `v`, with `{key}` for the key's parameter."""
    return _DECLARED[kind].replace("{fields}", "v.fields")


def index_expression(kind: Kind) -> LiteralString:
    """What to index for a declared field, with `{key}` for the key as a quoted SQL literal:

    `create index … using <index_method(kind)> (<index_expression(kind)>)`. Searches use it only
    with `plan_cache_mode = force_custom_plan`, since they bind the key.
    """
    expression = "(" + _DECLARED[kind].replace("{fields}", "fields") + ")"
    return expression + " jsonb_path_ops" if kind is Kind.STRING_LIST else expression


def index_method(kind: Kind) -> LiteralString:
    return "gin" if kind is Kind.STRING_LIST else "btree"


def stored_value(kind: Kind, value: object) -> str | float | bool | list[str] | None:
    """What the vector row's `fields` keeps of a metadata value; None: leave the key out.

    A value that is not of the declared kind has no place in `fields`: its index casts every row.
    Nor has a string over 2,048 bytes of UTF-8.
    Timestamps become seconds since 1970, exact to the microsecond from 1697 to 2242.
    """
    match kind, value:
        case Kind.STRING, str():
            return value if len(value.encode()) <= LONGEST_DECLARED_STRING else None
        case Kind.BOOL, bool():
            return value
        case Kind.NUMBER, int() | float() if not isinstance(value, bool):
            return float(value) if math.isfinite(value) else None
        case Kind.TIMESTAMP, str() | datetime():
            found = instant(value) if isinstance(value, str) else value
            return found.timestamp() if found else None
        case Kind.STRING_LIST, list():
            members = cast("list[object]", value)
            strings = [member for member in members if isinstance(member, str)]
            return strings if len(strings) == len(members) else None
        case _:
            return None


def column_operand(column: Column, value: Scalar, position: int) -> object:
    """The value as a column of this kind is compared with; Fault where it does not fit."""
    converted = _converted(column, value)
    if converted is None:
        names = ", ".join(column.names)
        expected = f"one of {names}" if column.kind is Kind.ENUM else column.kind.value
        raise Fault(f"{expected} is expected", position)
    return converted


def declared_operand(kind: Kind, value: Scalar, position: int) -> object:
    """The value as a declared field of this kind is compared with; Fault where it does not fit."""
    stored = stored_value(kind, [value] if kind is Kind.STRING_LIST else value)
    if stored is None:
        limit = f" of at most {LONGEST_DECLARED_STRING} bytes" if kind is Kind.STRING else ""
        raise Fault(f"{kind.value}{limit} is expected", position)
    return stored[0] if isinstance(stored, list) else stored


def _converted(column: Column, value: Scalar) -> object:
    match column.kind, value:
        case (Kind.STRING | Kind.STRING_LIST | Kind.MAP, str()) | (Kind.BOOL, bool()):
            return value
        case (Kind.NUMBER, float()) | (Kind.TIMESTAMP, datetime()) | (Kind.DYNAMIC, _):
            return value
        case Kind.TIMESTAMP, str():
            return instant(value)
        case Kind.UUID, str():
            return UUID(value) if _UUID.fullmatch(value) else None
        case Kind.ENUM, str():
            return column.names.get(value)
        case _:
            return None


_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
