"""One call on its way through the hall: what is asked, by whom, until when, and its audit trail."""

import time
from dataclasses import dataclass, field
from enum import IntEnum


class AuditClass(IntEnum):
    """How an RPC stands in the audit log; numbers are those of the proto enum and the column."""

    NONE = 1
    READ = 2
    WRITE = 3
    ADMIN = 4


@dataclass(frozen=True, slots=True)
class Method:
    """An RPC as its descriptor declares it: `path` is `/package.Service/Method`."""

    path: str
    permission: str
    audit_class: AuditClass

    @property
    def service(self) -> str:
        return self.path.split("/")[1]

    @property
    def name(self) -> str:
        return self.path.split("/")[2]

    @property
    def mutates(self) -> bool:
        return self.audit_class >= AuditClass.WRITE


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls. `collections` None grants every collection, else only the ids in it."""

    subject: str
    permissions: frozenset[str]
    collections: frozenset[str] | None = None

    def may_see(self, collection_id: str) -> bool:
        return self.collections is None or collection_id in self.collections


NOBODY = Principal("", frozenset(), frozenset())


@dataclass(frozen=True, slots=True)
class Receipt:
    """The proof of a recorded event: its id (uuid text) and its RFC 6962 leaf hash (32 bytes)."""

    event_id: str
    leaf_hash: bytes


@dataclass(slots=True)
class Call:
    """The state of one call; made by the hall, read by services, filled in as the call goes on."""

    method: Method
    call_id: str
    peer: str
    metadata: dict[str, str]
    deadline: float | None = None
    traceparent: str = ""
    principal: Principal = NOBODY
    receipt: Receipt | None = None
    unaudited: bool = False
    started: float = field(default_factory=time.monotonic)

    @property
    def on_behalf_of(self) -> str:
        return self.metadata.get("x-on-behalf-of", "")

    @property
    def purpose(self) -> str:
        return self.metadata.get("x-purpose", "")

    @property
    def left(self) -> float | None:
        """Seconds until the caller's deadline, not below 0; None without one."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def seconds_left(self, otherwise: float) -> float:
        """Until the caller's deadline, but at most `otherwise`."""
        left = self.left
        return otherwise if left is None else min(otherwise, left)
