"""Every reason that the server gives for an error is in the proto."""

import ast
from collections.abc import Iterator
from pathlib import Path

import knowledged
from knowledge.v1.error_reason_pb2 import ErrorReason

SERVER = Path(knowledged.__file__).parent


def test_every_reason_that_the_server_gives_is_in_the_proto() -> None:
    names = [value.name for value in ErrorReason.DESCRIPTOR.values]
    known = {name.removeprefix("ERROR_REASON_") for name in names}
    given = {
        reason
        for file in SERVER.rglob("*.py")
        if not file.is_relative_to(SERVER / "commands")  # what runs at a client
        for node in ast.walk(ast.parse(file.read_text()))
        for reason in reasons_in(node)
    }
    assert {"INVALID_FIELD", "QUOTA_EXHAUSTED", "DATABASE_READ_ONLY", "MODEL_MISMATCH"} <= given
    assert given <= known


def reasons_in(node: ast.AST) -> Iterator[str]:
    """`reason="X"` in a call, `reason = "X"` in a class, and the second argument of Status."""
    match node:
        case ast.keyword(arg="reason", value=ast.Constant(value=str(reason))):
            yield reason
        case ast.Assign(targets=[ast.Name(id="reason")], value=ast.Constant(value=str(reason))):
            yield reason
        case ast.Call(func=ast.Name(id="Status"), args=[_, ast.Constant(value=str(reason)), *_]):
            yield reason
        case _:
            return
