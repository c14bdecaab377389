"""A status as it goes over the wire: `google.rpc.Status` with details, as large as may be.

Details follow google.rpc (https://google.aip.dev/193): exactly one ErrorInfo, a BadRequest where
fields are at fault, a RetryInfo where a retry may help.
"""

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status as StatusMessage

from knowledged.errors import Code, Status, Violation

DOMAIN = "knowledge.v1"

# Clients refuse trailing metadata over 8 KiB. A message goes twice, once percent-encoded (up to
# three bytes each); details may be sent as base64 (a third more): together they stay below.
MESSAGE_BYTES = 600
VIOLATION_BYTES = 2_400

AbortArguments = tuple[grpc.StatusCode, str, tuple[tuple[str, str | bytes], ...]]

_GRPC_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def abort_arguments(status: Status, call_id: str) -> AbortArguments:
    """What `ServicerContext.abort` takes: code, message and trailing metadata."""
    message = _cut(status.message)
    details = StatusMessage(code=status.code, message=message, details=_details(status))
    trailing = (
        ("x-call-id", call_id),
        ("grpc-status-details-bin", details.SerializeToString()),
        *_pushback(status),
    )
    return _GRPC_CODES[status.code], message, trailing


def _details(status: Status) -> list[Any]:
    metadata = {key: _cut(value) for key, value in status.metadata.items()}
    details = [_any(ErrorInfo(reason=status.reason, domain=DOMAIN, metadata=metadata))]
    if status.violations:
        details.append(_any(_bad_request(status.violations)))
    if status.retry_after_seconds is not None:
        details.append(_any(_retry_info(status.retry_after_seconds)))
    return details


def _bad_request(violations: tuple[Violation, ...]) -> BadRequest:
    """As many violations as there is room for; the last one then counts those left out."""
    message, room = BadRequest(), VIOLATION_BYTES
    for index, violation in enumerate(violations):
        entry = BadRequest.FieldViolation(
            field=_cut(violation.field), description=_cut(violation.description)
        )
        room -= entry.ByteSize() + 3
        if room < 0:
            more = f"{len(violations) - index} more fields break rules"
            message.field_violations.add(field="...", description=more)
            break
        message.field_violations.append(entry)
    return message


def _retry_info(seconds: float) -> RetryInfo:
    info = RetryInfo()
    info.retry_delay.FromMilliseconds(round(seconds * 1000))
    return info


def _pushback(status: Status) -> tuple[tuple[str, str], ...]:
    """gRPC clients with a retry policy wait as long as this tells them (gRFC A6)."""
    if status.code is not Code.RESOURCE_EXHAUSTED or status.retry_after_seconds is None:
        return ()
    return (("grpc-retry-pushback-ms", str(round(status.retry_after_seconds * 1000))),)


def _cut(text: str) -> str:
    """At most `MESSAGE_BYTES` of UTF-8; a lone surrogate becomes `?`."""
    encoded = text.encode("utf-8", "replace")
    return encoded[:MESSAGE_BYTES].decode("utf-8", "ignore")


def _any(detail: Message) -> Any:
    packed = Any()
    packed.Pack(detail)
    return packed
