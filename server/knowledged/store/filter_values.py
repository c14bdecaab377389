"""What a field holds, as jsonb: for counting by it."""

from knowledged.filters.values import Fault
from knowledged.store.filter_documents import Document, typed_value
from knowledged.store.filter_fields import Fields, Kind
from knowledged.store.filter_sql import Condition
from knowledged.store.filter_targets import Parameters

_COUNTED = frozenset({Kind.STRING, Kind.NUMBER, Kind.BOOL, Kind.ENUM, Kind.STRING_LIST})


def compile_value(
    fields: Fields, path: tuple[str, ...], first_parameter: int, field: str
) -> Condition:
    """The field's value as a jsonb expression. Raises Invalid for one that cannot be counted by;
    `field` is the request field that is reported.

    A value that is not of the type which the collection declares is null, as in filters.
    """
    bound = Parameters(first_parameter)
    try:
        return Condition(_value(fields, path, bound), bound.values)
    except Fault as fault:
        raise fault.invalid(field) from None


def _value(fields: Fields, path: tuple[str, ...], bound: Parameters) -> str:
    found = fields.column_at(path)
    if found is None:
        raise Fault("unknown field", 1)
    column, keys = found
    if column.kind in (Kind.MAP, Kind.DYNAMIC):
        return _inside(Document(column, keys, bound), fields.typed_at(path))
    if column.kind not in _COUNTED:
        raise Fault(f"cannot count by {column.kind.value}", 1)
    return f"to_jsonb({column.sql})"


def _inside(document: Document, kind: Kind | None) -> str:
    if kind is None:
        return document.here()
    if kind not in _COUNTED:
        raise Fault(f"cannot count by {kind.value}", 1)
    return f"to_jsonb({typed_value(document, kind)})"
