"""Compiles a parsed filter to a condition of SQL: text from constants, all else as parameters.

Three-valued logic ends at every NOT and !=: both say `is not true`, so that what is missing fails
the positive question and passes its negation. Positive comparisons stay bare, for indexes.
"""

from dataclasses import dataclass
from typing import LiteralString

from knowledged.filters.syntax import (
    And,
    Comparison,
    Expression,
    Filter,
    Has,
    HasPrefix,
    Not,
    Or,
    Present,
    Term,
)
from knowledged.filters.values import Fault, Scalar
from knowledged.store.filter_documents import Document, typed_target
from knowledged.store.filter_fields import (
    Column,
    Declared,
    Fields,
    Kind,
    column_operand,
    declared_expression,
    declared_operand,
    index_expression,
    index_method,
    stored_value,
)
from knowledged.store.filter_targets import SQL_TYPES, Parameters, Single, StringList, Target

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
            case _:
                return self._term(node)

    def _term(self, node: Term) -> str:
        match node:
            case Comparison():
                return self._comparison(node)
            case Has():
                return self._target(node).has(node.value, node.value_position)
            case HasPrefix():
                return self._target(node).begins(node.prefix, node.value_position)
            case Present():
                return self._target(node).present()

    def _joined(self, parts: tuple[Expression, ...], joint: LiteralString) -> str:
        return f"({joint.join(self.expression(part) for part in parts)})"

    def _target(self, node: Term) -> Target:
        return _target(self.fields, node.path, node.position, self.bound)

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


def _target(fields: Fields, path: tuple[str, ...], position: int, bound: Parameters) -> Target:
    """What `path` leads to; Fault where it leads nowhere."""
    if declared := fields.declared_at(path):
        return _declared_target(declared, bound)
    found = fields.column_at(path)
    if found is None:
        raise Fault("unknown field", position)
    column, keys = found
    if column.kind in (Kind.MAP, Kind.DYNAMIC):
        inside, kind = Document(column, keys, bound), fields.typed_at(path)
        return typed_target(inside, kind) if kind else inside
    return _column_target(column, bound)


def _column_target(column: Column, bound: Parameters) -> Target:
    def operand(value: Scalar, at: int) -> object:
        return column_operand(column, value, at)

    if column.kind is Kind.STRING_LIST:
        return StringList(column.sql, "&&", "'{}'::text[]", operand, bound.bind_texts)
    return Single(column.sql, column.kind, SQL_TYPES[column.kind], operand, bound)


def _declared_target(declared: Declared, bound: Parameters) -> Target:
    def operand(value: Scalar, at: int) -> object:
        return declared_operand(kind, value, at)

    kind = declared.kind
    sql = declared_expression(kind).format(key=bound.bind(declared.key, "text"))
    if kind is Kind.STRING_LIST:
        return StringList(sql, "@>", "'[]'::jsonb", operand, bound.bind_json)
    sql_type = "float8" if kind is Kind.TIMESTAMP else SQL_TYPES[kind]
    return Single(f"({sql})", kind, sql_type, operand, bound)
