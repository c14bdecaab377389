"""A collection's filter fields: where they lie in a document's or chunk's metadata, and what the
vector row keeps of them, under the field's key."""

from collections.abc import Iterable

from knowledged.errors import Violation
from knowledged.store.collections import FilterField, Space
from knowledged.store.filter_sql import Declared, Fields, Kind, stored_value
from knowledged.store.search import SEARCH_COLUMNS

KINDS = {
    1: Kind.STRING,
    2: Kind.NUMBER,
    3: Kind.BOOL,
    4: Kind.TIMESTAMP,
    5: Kind.STRING_LIST,
}
DOCUMENT, CHUNK = "metadata", "chunk_metadata"
MOST_FIELDS = 16


def own_keys(fields: Iterable[FilterField], root: str) -> tuple[str, ...]:
    """The keys of the fields that lie in one root: DOCUMENT or CHUNK."""
    return tuple(field.key for field in fields if field.path.split(".")[0] == root)


def stored_fields(
    fields: Iterable[FilterField], root: str, metadata: dict[str, object]
) -> dict[str, object]:
    """What the vector row keeps of this metadata; values of another type have no place there."""
    found: dict[str, object] = {}
    for field in fields:
        value = _value(field, root, metadata)
        stored = None if value is None else stored_value(KINDS[field.kind], value)
        if stored is not None:
            found[field.key] = stored
    return found


def type_faults(
    fields: Iterable[FilterField], root: str, metadata: dict[str, object], at: str
) -> list[Violation]:
    """A violation for each value that is not of its declared type; `at` is the request's field."""
    return [
        Violation(f"{at}.{field.path}", f"the collection declares it as {KINDS[field.kind].value}")
        for field in fields
        if (value := _value(field, root, metadata)) is not None
        and stored_value(KINDS[field.kind], value) is None
    ]


def declared(fields: Iterable[FilterField]) -> dict[str, Declared]:
    """What the filter compiler may look up on the vector row."""
    return {field.path: Declared(KINDS[field.kind], field.key) for field in fields}


def typed(fields: Iterable[FilterField]) -> dict[str, Kind]:
    """The same fields for the filter compiler where no vector row is at hand."""
    return {field.path: KINDS[field.kind] for field in fields}


def search_fields(space: Space) -> Fields:
    """What a search's filter may name: by the vector row's own fields where every row has them."""
    return Fields(
        SEARCH_COLUMNS, declared(space.ready_fields), typed(space.collection.filter_fields)
    )


def only_declared(fields: Iterable[FilterField]) -> Fields:
    return Fields({}, declared(fields))


def _value(field: FilterField, root: str, metadata: dict[str, object]) -> object:
    first, *keys = field.path.split(".")
    value: object = metadata if first == root else None
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return value  # pyright: ignore[reportUnknownVariableType]
