"""google.protobuf.Struct to and from JSON: whole doubles become integers, exact to 2^53."""

from collections.abc import Mapping
from typing import cast

import orjson
from google.protobuf.struct_pb2 import ListValue, Struct, Value

from knowledged.checks import LARGEST_EXACT_INTEGER

# Of objects that come again and again, such as a source and a year, the wire form is kept by their
# text: at most so many, in some 2 MB.
_MOST_KEPT = 2_048
_LONGEST_KEPT_CHARACTERS = 512
_kept: dict[str, bytes] = {}


def to_json(struct: Struct) -> dict[str, object]:
    return {key: json_value(value) for key, value in struct.fields.items()}


def json_value(value: Value) -> object:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            return _number(value.number_value)
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return to_json(value.struct_value)
        case "list_value":
            return [json_value(item) for item in value.list_value.values]
        case _:
            return None


def json_values(values: Mapping[str, Value]) -> dict[str, object]:
    return {key: json_value(value) for key, value in values.items()}


def fill(struct: Struct, json: Mapping[str, object]) -> None:
    """Writes a JSON object into an empty Struct."""
    fields = struct.fields
    for key, value in json.items():
        # Nearly all are texts or numbers; a hit has some each, so a call for each is felt.
        kind = type(value)
        if kind is str:
            fields[key].string_value = cast("str", value)
        elif kind is int or kind is float:
            fields[key].number_value = cast("float", value)
        else:
            fill_value(fields[key], value)


def fill_from_text(struct: Struct, json: str) -> None:
    """Writes a JSON object, given as its text, into an empty Struct."""
    known = _kept.get(json)
    if known is not None:
        struct.MergeFromString(known)
        return
    fill(struct, orjson.loads(json))
    if len(json) <= _LONGEST_KEPT_CHARACTERS:
        _keep(json, struct.SerializeToString())


def _keep(json: str, wire: bytes) -> None:
    if len(_kept) >= _MOST_KEPT:
        _kept.clear()
    _kept[json] = wire


def _number(number: float) -> object:
    whole = number.is_integer() and abs(number) <= LARGEST_EXACT_INTEGER
    return int(number) if whole else number


def fill_value(target: Value, value: object) -> None:
    """Writes a JSON value into an empty Value."""
    match value:
        case str():
            target.string_value = value
        case bool():
            target.bool_value = value
        case int() | float():
            target.number_value = value
        case dict():
            _set_struct(target.struct_value, cast("dict[str, object]", value))
        case list():
            _set_list(target.list_value, cast("list[object]", value))
        case _:
            target.null_value = 0  # pyright: ignore[reportAttributeAccessIssue]


def _set_struct(target: Struct, value: dict[str, object]) -> None:
    target.SetInParent()
    fill(target, value)


def _set_list(target: ListValue, value: list[object]) -> None:
    target.SetInParent()
    for item in value:
        fill_value(target.values.add(), item)
