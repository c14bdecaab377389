"""The audit interceptor for tests of the hall."""

from prometheus_client import CollectorRegistry

from knowledged.interceptors.asked import Asked
from knowledged.interceptors.audit import Auditing
from knowledged.interceptors.audit_metrics import AuditMetrics
from knowledged.interceptors.recorder import MOST_WAITING, Recorder
from knowledged.interceptors.refusal_counts import RefusalCounts


def auditing(dsn: str = "", *, durable: bool = False, most_waiting: int = MOST_WAITING) -> Auditing:
    """As the server has it. Without its `recorder.run()` what is eventual stays in the queue."""
    metrics = AuditMetrics(CollectorRegistry())
    recorder = Recorder(dsn, metrics, RefusalCounts(), durable=durable, most_waiting=most_waiting)
    return Auditing(recorder, Asked(b"a key for tests"))
