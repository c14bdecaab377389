"""What the filter language promises, in Python, over the fields of an imaginary resource."""

import operator
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from knowledged.filters.language import And, Comparison, Expression, Has, Not, Or, Present
from knowledged.store.filter_sql import Column, Declared, Fields, Kind, stored_value

FIELDS = Fields(
    columns={
        "title": Column("d.title", Kind.STRING),
        "size": Column("d.size", Kind.NUMBER),
        "reviewed": Column("d.reviewed", Kind.BOOL),
        "create_time": Column("d.create_time", Kind.TIMESTAMP),
        "uid": Column("d.uid", Kind.UUID),
        "state": Column("d.state", Kind.ENUM, {"PENDING": 1, "ACTIVE": 2}),
        "subject_ids": Column("d.subject_ids", Kind.STRING_LIST),
        "labels": Column("d.labels", Kind.MAP),
        "metadata": Column("d.metadata", Kind.DYNAMIC),
    },
    declared={
        "metadata.name": Declared(Kind.STRING, "name"),
        "metadata.year": Declared(Kind.NUMBER, "year"),
        "metadata.open": Declared(Kind.BOOL, "open"),
        "metadata.seen": Declared(Kind.TIMESTAMP, "seen"),
        "metadata.codes": Declared(Kind.STRING_LIST, "codes"),
    },
)
DECLARED_KEYS = {name.removeprefix("metadata."): d.kind for name, d in FIELDS.declared.items()}


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
INSTANTS = ("create_time", "metadata.seen")


def look_up(row: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """The value at a path; null and a value that is not of a declared kind count as missing."""
    here: Any = row
    for key in path:
        here = here.get(key) if isinstance(here, dict) else None
    declared = FIELDS.declared_at(path)
    if declared and stored_value(declared.kind, here) is None:
        return MISSING
    return MISSING if here is None else here


def comparable(path: tuple[str, ...], value: Any) -> Any:
    if value is not MISSING and ".".join(path) in INSTANTS:
        return datetime.fromisoformat(value)
    if path == ("state",) and isinstance(value, str):
        return FIELDS.columns["state"].names[value]
    return value


def same(found: Any, wanted: Any) -> bool:
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    return found == wanted


def any_of(wanted: Any) -> tuple[Any, ...]:
    return wanted if isinstance(wanted, tuple) else (wanted,)


def equal(row: Mapping[str, Any], node: Comparison) -> bool:
    found = look_up(row, node.path)
    if node.value is None:
        return found is MISSING
    found = comparable(node.path, found)
    return any(same(found, comparable(node.path, wanted)) for wanted in any_of(node.value))


def ordered(row: Mapping[str, Any], node: Comparison) -> bool:
    found = comparable(node.path, look_up(row, node.path))
    wanted = comparable(node.path, node.value)
    numbers = {int, float}
    if type(found) is not type(wanted) and not {type(found), type(wanted)} <= numbers:
        return False
    return ORDER[node.operator](found, wanted)


def has(row: Mapping[str, Any], node: Has) -> bool:
    found = look_up(row, node.path)
    if isinstance(found, list):
        return any(same(element, wanted) for element in found for wanted in any_of(node.value))
    if isinstance(found, dict):
        return any(
            isinstance(key, str) and found.get(key) is not None for key in any_of(node.value)
        )
    found = comparable(node.path, found)
    return any(same(found, comparable(node.path, wanted)) for wanted in any_of(node.value))


def present(row: Mapping[str, Any], node: Present) -> bool:
    found = look_up(row, node.path)
    collection = node.path[0] in ("subject_ids", "labels", "metadata") and len(node.path) == 1
    if collection or FIELDS.declared_at(node.path) == FIELDS.declared["metadata.codes"]:
        return found not in (MISSING, [], {})
    return found is not MISSING


def promised(row: Mapping[str, Any], node: Expression) -> bool:
    match node:
        case And(parts):
            return all(promised(row, part) for part in parts)
        case Or(parts):
            return any(promised(row, part) for part in parts)
        case Not(part):
            return not promised(row, part)
        case _:
            return term_promised(row, node)


def term_promised(row: Mapping[str, Any], node: Comparison | Has | Present) -> bool:
    match node:
        case Comparison(operator="=" | "!=" as sign):
            return equal(row, node) is (sign == "=")
        case Comparison():
            return ordered(row, node)
        case Has():
            return has(row, node)
        case Present():
            return present(row, node)
