"""Checks of a request's fields: every fault is kept, so that the caller reads all of them at once.

A fault names the field, the rule and the value's size; never the value.
"""

import math
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

import orjson
from google.protobuf.timestamp_pb2 import Timestamp

from knowledged.errors import Invalid, Violation
from knowledged.names import id_fault

T = TypeVar("T")

LARGEST_EXACT_INTEGER = 2**53
DEEPEST_METADATA = 16


class Checks:
    """Collects violations; `done` raises them."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []

    def fault(self, field: str, description: str) -> None:
        self.violations.append(Violation(field, description))

    def done(self) -> None:
        """Raises Invalid with every violation found, if there is any."""
        if self.violations:
            raise Invalid(*self.violations)

    def adopt(self, at: str, item: "Checks") -> None:
        """Takes over the faults of one item of a list, which is found at `at`."""
        self.violations += [Violation(f"{at}.{v.field}", v.description) for v in item.violations]

    def name(self, field: str, value: str, parse: Callable[[str], T | None], shape: str) -> T:
        """The parts of a resource name of the shape given; ends the checks when it is none."""
        parts = parse(value)
        if parts is None:
            self.fault(field, f"must be {shape}; has {len(value)} characters")
            raise Invalid(*self.violations)
        return parts

    def id(self, field: str, value: str) -> None:
        if fault := id_fault(value):
            self.fault(field, fault)

    def text(self, field: str, value: str, longest: int, *, required: bool = False) -> None:
        """At most `longest` characters, none of them NUL, which PostgreSQL cannot store."""
        if required and not value.strip():
            self.fault(field, "is required and must not be blank")
        if len(value) > longest:
            self.fault(field, f"{len(value)} characters; at most {longest} are allowed")
        if "\0" in value:
            self.fault(field, "holds a NUL character")

    def number(self, field: str, value: float, lowest: float, highest: float) -> None:
        if not lowest <= value <= highest:
            self.fault(field, f"must be {lowest} to {highest}")

    def count(self, field: str, number: int, most: int, *, least: int = 0) -> None:
        if not least <= number <= most:
            self.fault(field, f"{number} items; {least} to {most} are allowed")

    def choice(self, field: str, value: int, known: Collection[int]) -> None:
        if value not in known:
            self.fault(field, "is not a value of its enum")

    def request_id(self, value: str) -> UUID | None:
        if not value:
            return None
        try:
            return UUID(value)
        except ValueError:
            self.fault("request_id", f"must be a UUID; has {len(value)} characters")
            return None

    def past(self, field: str, value: Timestamp) -> datetime | None:
        """An instant that is over; None, and a fault, for another."""
        try:
            instant = value.ToDatetime(UTC)
        except ValueError:
            self.fault(field, "is no timestamp")
            return None
        if instant > datetime.now(UTC):
            self.fault(field, "is in the future")
        return instant

    def labels(self, field: str, labels: Mapping[str, str]) -> None:
        self.count(field, len(labels), 64)
        for key, value in labels.items():
            self.text(f"{field} key", key, 63, required=True)
            self.text(f"{field} value", value, 256)

    def subject_ids(self, field: str, subject_ids: Collection[str]) -> None:
        self.count(field, len(subject_ids), 100)
        for place, subject_id in enumerate(subject_ids):
            self.text(f"{field}[{place}]", subject_id, 128, required=True)

    def json(self, field: str, value: Mapping[str, object], most_bytes: int) -> None:
        """A JSON object within size and depth, without NUL and without numbers that are none."""
        if fault := _json_fault(value, 1):
            self.fault(field, fault)
        elif (size := len(orjson.dumps(value))) > most_bytes:
            self.fault(field, f"{size} bytes as JSON; at most {most_bytes} are allowed")


def _json_fault(value: object, depth: int) -> str | None:
    match value:
        case str():
            return "holds a NUL character" if "\0" in value else None
        case float():
            return None if math.isfinite(value) else "holds a number that is not finite"
        case dict() | list() if depth > DEEPEST_METADATA:
            return f"is nested deeper than {DEEPEST_METADATA} levels"
        case dict():
            return _first_fault([*value.keys(), *value.values()], depth)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        case list():
            return _first_fault(value, depth)  # pyright: ignore[reportUnknownArgumentType]
        case _:
            return None


def _first_fault(members: list[object], depth: int) -> str | None:
    faults = (_json_fault(member, depth + 1) for member in members)
    return next((fault for fault in faults if fault), None)
