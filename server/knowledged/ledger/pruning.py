"""How the log says that it let a month of events go, so that their absence is no fault.

A leaf that is left alone no longer tells its class. So the event that announces a pruning commits
to all that is gone of the month once it is done: SHA-256 over the indices of these leaves in order,
8 bytes each, big-endian. It stands in the action, which the event's own leaf holds.
"""

import hashlib
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from knowledged.audit_leaf import Leaf

RPC = "retention"
NOTHING = hashlib.sha256().hexdigest()
"""The digest of no leaf at all."""

_ADMIN = 4
_END = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
_ACTION = re.compile(r"audit_events\.prune:(read|write|admin):(\d{4}-\d{2}):([0-9a-f]{64})")


def action_of(class_name: str, month: str, digest: str) -> str:
    """`audit_events.prune:{class}:{YYYY-MM}:{digest in hex}`."""
    return f"audit_events.prune:{class_name}:{month}:{digest}"


def announced(leaf: Leaf) -> tuple[str, str] | None:
    """The month and the digest, if the event announces a pruning of a month before its own."""
    parts = _ACTION.fullmatch(leaf.action)
    if parts is None or leaf.rpc != RPC or leaf.audit_class != _ADMIN:
        return None
    return (parts[2], parts[3]) if parts[2] < f"{leaf.occurred_at:%Y-%m}" else None


def month_of(event_id: UUID) -> str:
    """`YYYY-MM`, UTC, of a uuid v7: its first 48 bits are milliseconds since 1970. Empty for one of
    no year that there is: that is none of ours."""
    instant = int.from_bytes(event_id.bytes[:6]) / 1000
    return f"{datetime.fromtimestamp(instant, UTC):%Y-%m}" if instant < _END else ""


@dataclass(slots=True)
class Gone:
    """The leaves of a month whose events are gone, seen in order."""

    first: UUID
    begin: int
    end: int = 0
    _sha256: Any = field(default_factory=hashlib.sha256)

    def add(self, log_index: int) -> None:
        self.end = log_index + 1
        self._sha256.update(log_index.to_bytes(8))

    @property
    def digest(self) -> str:
        return self._sha256.hexdigest()
