"""What a request asks for, as the audit log may keep it: resource names as they are, and the text
or vector of a query, and a subject, as keyed hashes, by which equal ones are known but none can be
read.

It is read from the message by the names of its fields, so that no service can forget it.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from typing import cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from knowledged.names import LONGEST_ID
from knowledged.subject_name import subject_name

# Fields that hold names of resources, and those that hold an id of a resource to be made.
_NAMES = {"name", "names", "parent", "collection", "collections", "document", "documents"}
_IDS = {"collection_id": "collections", "document_id": "documents", "legal_hold_id": "legalHolds"}
_QUERIES = {"text", "texts", "vector"}
# Of anything else that a caller calls a name nothing is kept: it might be content.
_NAME = re.compile(
    "(collections(/[^/]+/(documents|chunks))*|auditEvents|legalHolds|providers)/[^/]+"
)
_LONGEST_NAME = 3 * (LONGEST_ID + 16)
_SUBJECT = "subject_id"
_DEEPEST = 3

# Of every call: lists, since a generator takes longer to start than most have names.
Getter = Callable[[Message], Sequence[str]]
Value = str | Message


class Asked:
    """Reads messages; finds out once for each type which fields to look at."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._getters: dict[Descriptor, list[Getter]] = {}

    def __call__(self, message: Message | None, *, queries: bool) -> tuple[str, ...]:
        """The names in the order of the fields, each once; `queries`: and what it searches for."""
        if message is None:
            return ()
        kind = cast("Descriptor", message.DESCRIPTOR)
        if kind not in self._getters:
            self._getters[kind] = self._of(kind, _DEEPEST, queries=queries)
        found = (name for getter in self._getters[kind] for name in getter(message))
        return tuple(dict.fromkeys(found))

    def _of(self, kind: Descriptor, depth: int, *, queries: bool) -> list[Getter]:
        getters: list[Getter] = []
        for field in kind.fields:
            if field.name in _IDS:
                getters.append(_made(field.name, "parent" in kind.fields_by_name))
            elif field.name == _SUBJECT:
                getters.append(self._subject(field))
            elif queries and field.name in _QUERIES:
                getters.append(self._query(field))
            elif field.type == FieldDescriptor.TYPE_STRING and field.name in _NAMES:
                getters.append(_names(field))
            elif field.message_type and _is_ours(field.message_type) and depth > 1:
                getters += _within(field, self._of(field.message_type, depth - 1, queries=queries))
        return getters

    def _query(self, field: FieldDescriptor) -> Getter:
        values = _values(field)
        return lambda message: [self._hashed(value) for value in values(message)]

    def _subject(self, field: FieldDescriptor) -> Getter:
        values = _values(field)
        return lambda message: [subject_name(self._key, str(v)) for v in values(message)]

    def _hashed(self, value: Value) -> str:
        """`queries/{32 hex digits}/{length}`: characters of a text, bytes of a vector."""
        raw = value.encode() if isinstance(value, str) else value.SerializeToString()
        digest = hmac.digest(self._key, raw, hashlib.sha256)[:16].hex()
        return f"queries/{digest}/{len(value) if isinstance(value, str) else len(raw)}"


def _is_ours(kind: Descriptor) -> bool:
    return not kind.full_name.startswith("google.") and not kind.GetOptions().map_entry


def _values(field: FieldDescriptor) -> Callable[[Message], Sequence[Value]]:
    """How to get those that are set."""
    name = field.name
    if field.is_repeated:
        return lambda message: getattr(message, name)
    if field.has_presence:
        return lambda message: (getattr(message, name),) if message.HasField(name) else ()
    return lambda message: (value,) if (value := getattr(message, name)) else ()


def _names(field: FieldDescriptor) -> Getter:
    values = _values(field)
    return lambda message: [str(v) for v in values(message) if _is_name(str(v))]


def _made(id_field: str, has_parent: bool) -> Getter:
    """The name of a resource under an id that the caller chose."""

    def get(message: Message) -> Sequence[str]:
        identifier = getattr(message, id_field)
        name = f"{_IDS[id_field]}/{identifier}"
        name = f"{getattr(message, 'parent')}/{name}" if has_parent else name  # noqa: B009
        return (name,) if identifier and _is_name(name) else ()

    return get


def _within(field: FieldDescriptor, getters: list[Getter]) -> list[Getter]:
    parts = _values(field)

    def get(message: Message) -> Sequence[str]:
        return [
            name
            for part in parts(message)
            for getter in getters
            for name in getter(part)  # pyright: ignore[reportArgumentType]
        ]

    return [get] if getters else []


def _is_name(text: str) -> bool:
    return len(text) <= _LONGEST_NAME and text.isprintable() and bool(_NAME.fullmatch(text))
