"""Messages of any type, filled with what callers should not send; the same ones for a seed."""

import random
import struct
import uuid
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

_DEEPEST = 6
_INTEGERS = (0, 1, 2, 3, -1, 384, 1000, 1001, 2**31 - 1, -(2**31))
_LARGE_INTEGERS = (*_INTEGERS, 2**53 + 1, 2**63 - 1, -(2**63))
_NUMBERS = (0.0, -0.0, 1.0, 0.5, -1.0, 7e4, 3e38, 1e-50, float("nan"), float("inf"))
_TEXTS = (
    *("", " ", "a", "A fever.", "\x00", "a\x00b", "\u202e", "\ufeff", "\uffff", "\U0010ffff"),
    *("'", '"', "\\", "%s", "{}", "$1", "../..", "*", "-", "9" * 400, "é" * 300, "a" * 9_000),
    *("text/markdown", "metadata.a", "title", "content", "english", "2026-01-01T00:00:00Z"),
    *("00000000-0000-0000-0000-000000000000", "not-a-uuid", "kd_abc_def", "\n# A\n\n\tb\r"),
)
_FILTERS = (
    *("title = 'a'", "metadata.a = 1", "metadata.a = @v", "title = @nobody", "NOT", "AND AND"),
    *("(" * 40, "a = 'b'" * 300, "metadata.a:*", "state = NOWHERE", "create_time > 'never'"),
    *("metadata.a = 1e999", "-title = 'a' OR (labels.x:y)", "title = '\x00'", "a.b.c.d = 1"),
    *("create_time > '9999-12-31T23:59:59.999999999Z'", "revision = 99999999999999999999"),
    *("has_prefix(title, 'a')", "has_prefix()", "1 = 1", "title = 'a", "metadata = 'a'"),
)


# Without these a request gets nowhere.
_NEEDED = ("name", "parent", "collection")


_BAD = {"filter": _FILTERS}
_GOOD = {
    "filter": ("", "title = 'a'", "metadata.a = 1 OR labels.v:'a'", "create_time > @v"),
    "page_token": ("",),
    "order_by": ("", "create_time desc", "update_time"),
    "etag": ("",),
    "mime_type": ("text/plain", "text/markdown"),
    "embedding_model": ("",),
    "language": ("english", "german"),
    "paths": ("title", "content", "metadata", "metadata.a"),
    "path": ("metadata.a", "chunk_metadata.v"),
}

_T = TypeVar("_T")


class Nasty:
    """Makes messages; `names` are those of resources that are there, by the requests they fit."""

    def __init__(self, chance: random.Random, names: dict[str, str]) -> None:
        self._chance = chance
        self._names = names
        self._nastiness = 1.0
        self._scalars: dict[int, Callable[[], Any]] = {
            FieldDescriptor.TYPE_BOOL: lambda: chance.random() < 0.5,
            FieldDescriptor.TYPE_BYTES: self._bytes,
            FieldDescriptor.TYPE_DOUBLE: lambda: self._one_of((0.0, 0.5, 1.0), _NUMBERS),
            FieldDescriptor.TYPE_FLOAT: lambda: self._one_of((0.0, 0.5, 1.0), _NUMBERS),
            FieldDescriptor.TYPE_ENUM: lambda: self._one_of((0, 1, 2), (3, 99, -1)),
            FieldDescriptor.TYPE_INT32: lambda: self._one_of((1, 5, 64, 384), _INTEGERS),
            FieldDescriptor.TYPE_INT64: lambda: self._one_of((0, 1), _LARGE_INTEGERS),
        }

    def request(self, descriptor: Descriptor) -> Message:
        """Some are wrong in many ways; some in few, and get further."""
        self._nastiness = self._chance.choice((0.02, 0.1, 0.9))
        return self.message(descriptor)

    def message(self, descriptor: Descriptor, depth: int = 0) -> Message:
        made, share = GetMessageClass(descriptor)(), self._chance.choice((0.2, 0.5, 0.9))
        for field in descriptor.fields:
            if field.name in _NEEDED or self._chance.random() < share:
                self._fill(made, field, depth)
        return made

    def garbled(self, message: Message) -> bytes:
        """Its bytes, of which some are cut off or changed."""
        encoded = bytearray(message.SerializeToString())
        for _ in range(self._chance.randint(1, 4)):
            if encoded:
                encoded[self._chance.randrange(len(encoded))] = self._chance.randrange(256)
        return bytes(encoded[: self._chance.randint(0, len(encoded))])

    def noise(self) -> bytes:
        return self._chance.randbytes(self._chance.randint(1, 200))

    def _fill(self, made: Message, field: FieldDescriptor, depth: int) -> None:
        target = getattr(made, field.name)
        if field.message_type is None:
            self._fill_scalars(made, field, target)
        elif depth >= _DEEPEST:
            return
        elif field.message_type.GetOptions().map_entry:
            self._fill_map(field.message_type, target, depth)
        elif field.is_repeated:
            for _ in range(self._chance.randint(1, 3)):
                target.append(self.message(field.message_type, depth + 1))
        else:
            target.CopyFrom(self.message(field.message_type, depth + 1))

    def _fill_scalars(self, made: Message, field: FieldDescriptor, target: Any) -> None:
        if field.is_repeated:
            target.extend(self._scalar(field) for _ in range(self._chance.randint(1, 4)))
        else:
            setattr(made, field.name, self._scalar(field))

    def _fill_map(self, entry: Descriptor, target: Any, depth: int) -> None:
        value = entry.fields_by_name["value"]
        for key in self._chance.sample(("v", "a", "", "\x00", "k" * 300), 2):
            if value.message_type is None:
                target[key] = self._scalar(value)
            else:
                target[key].CopyFrom(self.message(value.message_type, depth + 1))

    def _scalar(self, field: FieldDescriptor) -> Any:
        return self._scalars.get(field.type, lambda: self._text(field))()

    def _text(self, field: FieldDescriptor) -> str:
        """Of the sort the field takes, or not."""
        if field.name in _NEEDED:
            return self._name(field.containing_type)
        if field.name == "request_id":
            fresh = str(uuid.UUID(int=self._chance.getrandbits(128), version=4))
            return self._one_of((fresh,), _TEXTS)
        return self._one_of(_GOOD.get(field.name, ("a", "A fever.")), _BAD.get(field.name, _TEXTS))

    def _name(self, owner: Descriptor) -> str:
        """That of a resource which fits the request, of another one, or of none."""
        fitting = [name for kind, name in self._names.items() if owner.name.startswith(kind)]
        return self._one_of(fitting or ("",), [*self._names.values(), *_TEXTS])

    def _bytes(self) -> bytes:
        length = self._one_of((384,), (0, 1, 4, 1900))
        numbers = [self._one_of((0.25, -0.5), _NUMBERS) for _ in range(length)]
        return struct.pack(f"<{length}f", *numbers)

    def _one_of(self, good: Sequence[_T], bad: Sequence[_T]) -> _T:
        return self._chance.choice(bad if self._chance.random() < self._nastiness else good)
