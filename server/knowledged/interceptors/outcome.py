"""How a call ended, as telemetry and the audit log tell it."""

import asyncio
import time
from dataclasses import dataclass

from knowledged.call import Call
from knowledged.errors import Code, status_of


@dataclass(frozen=True, slots=True)
class Outcome:
    """The status that the caller reads, its reason, and the name of the exception behind it."""

    code: Code
    reason: str = ""
    error: str = ""


OK = Outcome(Code.OK)


def outcome_of(call: Call, error: BaseException) -> Outcome:
    """gRPC cancels a call whose deadline passes; the caller then reads DEADLINE_EXCEEDED."""
    name = type(error.__cause__ or error).__name__
    late = call.deadline is not None and call.deadline <= time.monotonic()
    if late and isinstance(error, asyncio.CancelledError):
        return Outcome(Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", name)
    status = status_of(error)
    return Outcome(status.code, status.reason, name)
