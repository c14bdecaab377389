"""Compiles a parsed filter to a condition of SQL: text from constants, all else as parameters.

Three-valued logic ends at every NOT and !=: both say `is not true`, so that what is missing fails
the positive question and passes its negation. Positive comparisons stay bare, for indexes.
"""

from dataclasses import dataclass
from typing import LiteralString

from knowledged.filters.language import And, Comparison, Expression, Filter, Has, Not, Or, Present
from knowledged.filters.values import Fault
from knowledged.store.filter_fields import (
    Column,
    Declared,
    Fields,
    Kind,
    index_expression,
    index_method,
    stored_value,
)
from knowledged.store.filter_targets import Parameters, Target, target

__all__ = [
    "Column",
    "Condition",
    "Declared",
    "Fields",
    "Kind",
    "compile",
    "index_expression",
    "index_method",
    "stored_value",
]


@dataclass(frozen=True, slots=True)
class Condition:
    """For a WHERE: `sql` is one parenthesised boolean, in which NULL counts as false."""

    sql: str
    parameters: list[object]

    @property
    def always(self) -> bool:
        """Whether it lets everything pass: no filter was given."""
        return self.sql == "true"


def compile(filter: Filter | None, fields: Fields, first_parameter: int) -> Condition:
    """The condition of `filter`, with parameters numbered from `first_parameter`.

    No filter is `true`. Raises Invalid, with the position, for an unknown field, an operator that
    the field does not take, and a value that is not of its kind.
    """
    if filter is None:
        return Condition("true", [])
    bound = Parameters(first_parameter)
    try:
        sql = _Compiler(fields, bound).expression(filter.expression)
    except Fault as fault:
        raise fault.invalid(filter.field) from None
    return Condition(sql, bound.values)


@dataclass(frozen=True, slots=True)
class _Compiler:
    fields: Fields
    bound: Parameters

    def expression(self, node: Expression) -> str:
        match node:
            case And(parts):
                return self._joined(parts, " and ")
            case Or(parts):
                return self._joined(parts, " or ")
            case Not(part):
                return f"({self.expression(part)} is not true)"
            case Comparison():
                return self._comparison(node)
            case Has():
                return self._target(node).has(node.value, node.value_position)
            case Present():
                return self._target(node).present()

    def _joined(self, parts: tuple[Expression, ...], joint: LiteralString) -> str:
        return f"({joint.join(self.expression(part) for part in parts)})"

    def _target(self, node: Comparison | Has | Present) -> Target:
        return target(self.fields, node.path, node.position, self.bound)

    def _comparison(self, node: Comparison) -> str:
        found = self._target(node)
        value, position = node.value, node.value_position
        if node.operator == "=":
            return found.absent() if value is None else found.equals(value, position)
        if node.operator == "!=":
            equal = found.absent() if value is None else found.equals(value, position)
            return f"({equal} is not true)"
        if value is None or isinstance(value, tuple):
            raise Fault("null and lists take only = and !=", position)
        return found.compares(node.operator, value, position)
