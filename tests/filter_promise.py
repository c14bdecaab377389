"""What the filter language promises, in Python, over the fields of a resource."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from knowledged.filters.instants import instant
from knowledged.filters.syntax import (
    And,
    Comparison,
    Expression,
    Has,
    HasPrefix,
    Not,
    Or,
    Present,
    Term,
)
from knowledged.store.filter_sql import Column, Declared, Fields, Kind, stored_value

# An imaginary resource, with a field of every kind.
COLUMNS = {
    "title": Column("d.title", Kind.STRING),
    "size": Column("d.size", Kind.NUMBER),
    "reviewed": Column("d.reviewed", Kind.BOOL),
    "create_time": Column("d.create_time", Kind.TIMESTAMP),
    "uid": Column("d.uid", Kind.UUID),
    "state": Column("d.state", Kind.ENUM, {"PENDING": 1, "ACTIVE": 2}),
    "subject_ids": Column("d.subject_ids", Kind.STRING_LIST),
    "labels": Column("d.labels", Kind.MAP),
    "metadata": Column("d.metadata", Kind.DYNAMIC),
}
DECLARED_KEYS = {
    "name": Kind.STRING,
    "year": Kind.NUMBER,
    "open": Kind.BOOL,
    "seen": Kind.TIMESTAMP,
    "codes": Kind.STRING_LIST,
}
KINDS = {f"metadata.{key}": kind for key, kind in DECLARED_KEYS.items()}
FIELDS = Fields(
    COLUMNS,
    declared={path: Declared(kind, path[len("metadata.") :]) for path, kind in KINDS.items()},
)
TYPED_FIELDS = Fields(COLUMNS, typed=KINDS)


def indexed_fields(row: Mapping[str, Any]) -> dict[str, Any]:
    metadata = row.get("metadata") or {}
    stored = {key: stored_value(kind, metadata.get(key)) for key, kind in DECLARED_KEYS.items()}
    return {key: value for key, value in stored.items() if value is not None}


MISSING = object()
ORDER: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def same(found: Any, wanted: Any) -> bool:
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    return found == wanted


def any_of(wanted: Any) -> tuple[Any, ...]:
    return wanted if isinstance(wanted, tuple) else (wanted,)


@dataclass(frozen=True, slots=True)
class Promise:
    """Evaluates filters on rows: a dict each, instants as RFC 3339 texts, enums as numbers."""

    columns: Mapping[str, Column]
    declared: Mapping[str, Kind]

    def holds(self, row: Mapping[str, Any], node: Expression) -> bool:
        match node:
            case And(parts):
                return all(self.holds(row, part) for part in parts)
            case Or(parts):
                return any(self.holds(row, part) for part in parts)
            case Not(part):
                return not self.holds(row, part)
            case _:
                return self._term(row, node)

    def _term(self, row: Mapping[str, Any], node: Term) -> bool:
        match node:
            case Comparison(operator="=" | "!=" as sign):
                return self._equal(row, node) is (sign == "=")
            case Comparison():
                return self._ordered(row, node)
            case Has():
                return self._has(row, node)
            case HasPrefix():
                found = self._look_up(row, node.path)
                return isinstance(found, str) and found.startswith(node.prefix)
            case Present():
                return self._present(row, node)

    def _kind(self, path: tuple[str, ...]) -> Kind | None:
        column = self.columns.get(path[0]) if len(path) == 1 else None
        return column.kind if column else self.declared.get(".".join(path))

    def _look_up(self, row: Mapping[str, Any], path: tuple[str, ...]) -> Any:
        """The value at a path; null and a value not of a declared kind count as missing."""
        here: Any = row
        for key in path:
            here = here.get(key) if isinstance(here, dict) else None
        declared = self.declared.get(".".join(path))
        if declared and stored_value(declared, here) is None:
            return MISSING
        return MISSING if here is None else here

    def _comparable(self, path: tuple[str, ...], value: Any, *, as_instant: bool = False) -> Any:
        """An instant where the field is one, or the filter asks for it; an enum's number."""
        if isinstance(value, str) and (as_instant or self._kind(path) is Kind.TIMESTAMP):
            return instant(value) or MISSING
        if isinstance(value, str) and self._kind(path) is Kind.ENUM:
            return self.columns[path[0]].names[value]
        return value

    def _equal(self, row: Mapping[str, Any], node: Comparison) -> bool:
        found = self._look_up(row, node.path)
        if node.value is None:
            return found is MISSING
        as_instant = isinstance(node.value, datetime)
        found = self._comparable(node.path, found, as_instant=as_instant)
        wanted = [self._comparable(node.path, value) for value in any_of(node.value)]
        return any(same(found, value) for value in wanted)

    def _ordered(self, row: Mapping[str, Any], node: Comparison) -> bool:
        as_instant = isinstance(node.value, datetime)
        found = self._look_up(row, node.path)
        found = self._comparable(node.path, found, as_instant=as_instant)
        wanted = self._comparable(node.path, node.value)
        numbers = {int, float}
        if type(found) is not type(wanted) and not {type(found), type(wanted)} <= numbers:
            return False
        return ORDER[node.operator](found, wanted)

    def _has(self, row: Mapping[str, Any], node: Has) -> bool:
        found = self._look_up(row, node.path)
        if isinstance(found, list):
            return any(same(element, value) for element in found for value in any_of(node.value))
        if isinstance(found, dict):
            keys = [key for key in any_of(node.value) if isinstance(key, str)]
            return any(found.get(key) is not None for key in keys)
        found = self._comparable(node.path, found)
        wanted = [self._comparable(node.path, value) for value in any_of(node.value)]
        return any(same(found, value) for value in wanted)

    def _present(self, row: Mapping[str, Any], node: Present) -> bool:
        found = self._look_up(row, node.path)
        if self._kind(node.path) in (Kind.STRING_LIST, Kind.MAP, Kind.DYNAMIC):
            return found not in (MISSING, [], {})
        return found is not MISSING


PROMISE = Promise(COLUMNS, KINDS)


def promised(row: Mapping[str, Any], node: Expression) -> bool:
    return PROMISE.holds(row, node)
