"""What is counted of the audit log."""

import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge


class LedgerMetrics:
    """The audit log's metrics, in the server's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"knowledged_audit_{name}", text, registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"knowledged_audit_{name}", text, labels, registry=registry)

        self.waiting = gauge("unsequenced_events", "Events that wait for their place in the tree.")
        self.waiting_seconds = gauge(
            "unsequenced_age_seconds", "Age of the event that waits longest; 0 if none waits."
        )
        self.tree_size = gauge("tree_size", "Leaves in the tree.")
        self.unsigned = gauge("unsigned_leaves", "Leaves that no checkpoint covers yet.")
        self._signed_at = 0.0
        age = gauge(
            "checkpoint_age_seconds", "Age of the latest checkpoint; -1 while there is none."
        )
        age.set_function(self._checkpoint_age)
        self.sequenced = counter("sequenced_events", "Events given their place by this process.")
        self.failures: Any = counter("ledger_failures", "Rounds that failed.", "worker")
        self.missing = gauge("missing_events", "Events that were gone when their turn came.")
        self.refused = counter("checkpoints_refused", "Checkpoints that were not signed.")
        self.unpublished: Any = counter("publish_failures", "Checkpoints not delivered.", "where")
        for worker in ("sequencer", "publisher"):
            self.failures.labels(worker)
        for where in ("folder", "http"):
            self.unpublished.labels(where)

    def signed_at(self, unix_seconds: float) -> None:
        """When the latest checkpoint was signed."""
        self._signed_at = unix_seconds

    def _checkpoint_age(self) -> float:
        return max(0.0, time.time() - self._signed_at) if self._signed_at else -1.0
