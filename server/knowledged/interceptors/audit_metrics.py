"""What is counted of the audit log's writing."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from knowledged.errors import Code

_BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class AuditMetrics:
    """Of one server, in its registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._refusals = Counter(
            "knowledged_audit_refusals",
            "Calls refused or failed, each an audit event or counted in one.",
            ["grpc_code"],
            registry=registry,
        )
        self.failed = Counter(
            "knowledged_audit_failed_writes",
            "Audited calls whose event could not be written.",
            registry=registry,
        )
        self.waiting = Gauge(
            "knowledged_audit_queue_length",
            "Audited calls that wait for their event to be written.",
            registry=registry,
        )
        self.together = Histogram(
            "knowledged_audit_events_together",
            "Audit events committed together.",
            registry=registry,
            buckets=_BATCH,
        )

    def refused(self, code: Code) -> None:
        """A call was not answered as it asked."""
        self._refusals.labels(code.name).inc()
