"""Domain errors: what went wrong, as facts; one table says which status each becomes.

A raised error carries a public message that is safe to send: it names fields, rules and sizes,
never content. Whatever is not in the table is our own bug and leaves as INTERNAL with a fixed text.
"""

import asyncio
from dataclasses import dataclass, field
from enum import IntEnum

import asyncpg


class Code(IntEnum):
    """The gRPC status codes we answer with, by their numbers on the wire."""

    OK = 0
    CANCELLED = 1
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


@dataclass(frozen=True, slots=True)
class Violation:
    """One bad field: its path as in the proto, and the rule it breaks with the value's size."""

    field: str
    description: str


class DomainError(Exception):
    """The root of what callers may read. `reason` is a name of the proto enum ErrorReason."""

    code = Code.INTERNAL
    reason = "INTERNAL"
    retry_after_seconds: float | None = None
    violations: tuple[Violation, ...] = ()

    def __init__(self, message: str, *, reason: str | None = None, **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or type(self).reason
        self.metadata = metadata


class Invalid(DomainError):
    """The request breaks rules of its fields; carries every violation found."""

    code = Code.INVALID_ARGUMENT
    reason = "INVALID_FIELD"

    def __init__(self, *violations: Violation, reason: str | None = None) -> None:
        self.violations = violations
        text = "; ".join(f"{v.field}: {v.description}" for v in violations[:10])
        more = len(violations) - 10
        super().__init__(f"{text}; and {more} more" if more > 0 else text, reason=reason)


class Malformed(DomainError):
    """The bytes of the request are no message of the method's type."""

    code = Code.INVALID_ARGUMENT
    reason = "MALFORMED_MESSAGE"


class NotFound(DomainError):
    """No such resource, or none that this caller may know of."""

    code = Code.NOT_FOUND
    reason = "RESOURCE_NOT_FOUND"


class AlreadyExists(DomainError):
    """The id is taken, or the request_id was used with another body."""

    code = Code.ALREADY_EXISTS
    reason = "RESOURCE_ALREADY_EXISTS"


class Conflict(DomainError):
    """The resource changed meanwhile: the etag is stale. Read again, then retry."""

    code = Code.ABORTED
    reason = "ETAG_MISMATCH"


class SnapshotExpired(DomainError):
    """Reading took longer than we keep one moment of the database for a reader."""

    code = Code.ABORTED
    reason = "SNAPSHOT_EXPIRED"


class WrongState(DomainError):
    """The request is right, but not in the state that the resource is in."""

    code = Code.FAILED_PRECONDITION
    reason = "WRONG_STATE"


class Unauthenticated(DomainError):
    """No identity, or one that does not hold."""

    code = Code.UNAUTHENTICATED
    reason = "CREDENTIALS_MISSING"


class Denied(DomainError):
    """A known caller without the right to do this."""

    code = Code.PERMISSION_DENIED
    reason = "PERMISSION_MISSING"


class Overloaded(DomainError):
    """Too much at once; the same call may succeed after `retry_after_seconds`."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "SERVER_OVERLOADED"
    retry_after_seconds = 0.2


class TooLarge(DomainError):
    """The answer would pass the message limit; says what to ask less of."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "ANSWER_TOO_LARGE"


class Unavailable(DomainError):
    """Something we need is away: the database, a provider, the model."""

    code = Code.UNAVAILABLE
    reason = "DATABASE_UNAVAILABLE"
    retry_after_seconds = 1.0


class DeadlineExceeded(DomainError):
    """The caller's time, or our own limit for a statement, ran out."""

    code = Code.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"


@dataclass(frozen=True, slots=True)
class Status:
    """What the caller reads of an error; `known` is false for our own bugs."""

    code: Code
    reason: str
    message: str
    retry_after_seconds: float | None = None
    violations: tuple[Violation, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    known: bool = True


_DATABASE_AWAY = Status(
    Code.UNAVAILABLE, "DATABASE_UNAVAILABLE", "the database is not reachable", 1.0
)
_READ_ONLY = Status(Code.UNAVAILABLE, "DATABASE_READ_ONLY", "the database is read-only", 1.0)
_TIMED_OUT = Status(Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", "the time for the call ran out")
_CONTENDED = Status(Code.ABORTED, "CONCURRENT_CHANGE", "others changed the same data; retry", 0.1)
_FULL = Status(Code.RESOURCE_EXHAUSTED, "DATABASE_EXHAUSTED", "the database is out of room", 5.0)
_BAD_TEXT = Status(
    Code.INVALID_ARGUMENT, "INVALID_FIELD", "a text holds a character the database cannot store"
)

# Foreign exceptions, found by walking the raised class's MRO: the nearest ancestor here wins.
_FOREIGN: dict[type[BaseException], Status] = {
    asyncio.CancelledError: Status(Code.CANCELLED, "CANCELLED", "the call was cancelled"),
    TimeoutError: _TIMED_OUT,
    ConnectionError: _DATABASE_AWAY,
    OSError: _DATABASE_AWAY,
    asyncpg.InterfaceError: _DATABASE_AWAY,
    asyncpg.InternalClientError: _DATABASE_AWAY,
    asyncpg.PostgresConnectionError: _DATABASE_AWAY,
    asyncpg.CannotConnectNowError: _DATABASE_AWAY,
    asyncpg.AdminShutdownError: _DATABASE_AWAY,
    asyncpg.CrashShutdownError: _DATABASE_AWAY,
    asyncpg.TooManyConnectionsError: _DATABASE_AWAY,
    asyncpg.InvalidPasswordError: _DATABASE_AWAY,
    asyncpg.InvalidAuthorizationSpecificationError: _DATABASE_AWAY,
    asyncpg.ReadOnlySQLTransactionError: _READ_ONLY,
    asyncpg.QueryCanceledError: _TIMED_OUT,
    asyncpg.LockNotAvailableError: _CONTENDED,
    asyncpg.SerializationError: _CONTENDED,
    asyncpg.DeadlockDetectedError: _CONTENDED,
    asyncpg.DiskFullError: _FULL,
    asyncpg.OutOfMemoryError: _FULL,
    asyncpg.CharacterNotInRepertoireError: _BAD_TEXT,
    asyncpg.UntranslatableCharacterError: _BAD_TEXT,
}


def status_of(error: BaseException) -> Status:
    """The public face of any exception; unknown ones become INTERNAL with a fixed text."""
    if isinstance(error, DomainError):
        return Status(
            error.code,
            error.reason,
            error.message,
            error.retry_after_seconds,
            error.violations,
            error.metadata,
        )
    known = (_FOREIGN[cls] for cls in type(error).__mro__ if cls in _FOREIGN)
    return next(known, Status(Code.INTERNAL, "INTERNAL", "internal error", known=False))
