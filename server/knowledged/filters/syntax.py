"""The syntax tree of the filter language."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from knowledged.filters.values import Scalar, Value

Operator: TypeAlias = Literal["=", "!=", "<", "<=", ">", ">="]


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: "Expression"


@dataclass(frozen=True, slots=True)
class Comparison:
    """`path operator value`. A tuple means any of its members and comes with = and != only;
    so do true, false and null. Positions are 1-based characters of the filter."""

    path: tuple[str, ...]
    operator: Operator
    value: Value
    position: int
    value_position: int


@dataclass(frozen=True, slots=True)
class Has:
    """`path:value`. A tuple means any of its members."""

    path: tuple[str, ...]
    value: Scalar | tuple[Scalar, ...]
    position: int
    value_position: int


@dataclass(frozen=True, slots=True)
class Present:
    """`path:*`."""

    path: tuple[str, ...]
    position: int


@dataclass(frozen=True, slots=True)
class HasPrefix:
    """`has_prefix(path, "text")`."""

    path: tuple[str, ...]
    prefix: str
    position: int
    value_position: int


Term: TypeAlias = Comparison | Has | HasPrefix | Present
Expression: TypeAlias = And | Or | Not | Term


@dataclass(frozen=True, slots=True)
class Filter:
    """A parsed filter; `field` is the request field that faults found later are reported for."""

    expression: Expression
    field: str
