"""How much waits for the sequencer, as this process last saw it; past a limit writes stop."""

from dataclasses import dataclass

from knowledged.errors import Overloaded

_RETRY_SECONDS = 2.0


class BacklogFull(Overloaded):
    """More events wait for their place in the audit log than are allowed to."""

    reason = "AUDIT_BACKLOG_FULL"
    retry_after_seconds = _RETRY_SECONDS


@dataclass(slots=True)
class Backlog:
    """Set by the sequencer of every replica, read by every write: no round trip."""

    limit: int
    waiting: int = 0

    def check(self) -> None:
        """Raises BacklogFull past the limit."""
        if self.waiting > self.limit:
            raise BacklogFull(
                f"more than {self.limit} events wait for their place in the audit log"
            )
