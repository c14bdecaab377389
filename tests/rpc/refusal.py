"""Reading what the server answers when it refuses."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import grpc.aio
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

T = TypeVar("T")

CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class Refusal:
    """A failed call: `fields` are the violations of BadRequest, `raw` every byte of the answer."""

    code: grpc.StatusCode
    message: str
    reason: str
    fields: dict[str, str]
    retry_seconds: float | None
    call_id: str
    raw: str


async def refused(call: Awaitable[Any]) -> Refusal:
    """The refusal of a call that must fail, with everything our errors promise checked."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return refusal_of(caught.value)


async def told_by_the_server(ask: Callable[[], Awaitable[T]]) -> T:
    """Asks once more where grpc.aio has lost the answer: if a write of its own meets the end of the
    call, it forgets the status that came, and makes up another (grpc#36066)."""
    while True:
        try:
            return await ask()
        except grpc.aio.AioRpcError as error:
            if "SendMessageOperation" not in (error.debug_error_string() or ""):
                raise


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    trailing = dict(error.trailing_metadata() or ())
    assert error.code() is not grpc.StatusCode.UNKNOWN
    status = Status.FromString(trailing["grpc-status-details-bin"])
    assert CODES[status.code] is error.code()
    assert status.message == error.details()
    (info,) = _details(status, ErrorInfo)
    assert info.domain == "knowledge.v1"
    violations = [v for bad in _details(status, BadRequest) for v in bad.field_violations]
    retries = [r.retry_delay.ToTimedelta().total_seconds() for r in _details(status, RetryInfo)]
    return Refusal(
        code=error.code(),
        message=status.message,
        reason=info.reason,
        fields={v.field: v.description for v in violations},
        retry_seconds=retries[0] if retries else None,
        call_id=str(trailing["x-call-id"]),
        raw=f"{error.details()}{status}{trailing}",
    )


def _details(status: Status, kind: type[Any]) -> list[Any]:
    found: list[Any] = []
    for packed in status.details:
        if packed.Is(kind.DESCRIPTOR):
            detail = kind()
            packed.Unpack(detail)
            found.append(detail)
    return found
