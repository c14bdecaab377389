"""What is told of vector indexes."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

_LABELS = ("space_uid",)


class IndexMetrics:
    """Recall and ef of each index, and how often an ef was changed."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._recall = Gauge(
            "knowledged_index_recall",
            "Share of the truly nearest that a vector index finds, of a sample of its vectors.",
            _LABELS,
            registry=registry,
        )
        self._ef = Gauge(
            "knowledged_index_ef",
            "Candidates that a search by the index looks at.",
            _LABELS,
            registry=registry,
        )
        changes = Counter(
            "knowledged_index_ef_changes",
            "Changes of an ef that a measurement asked for, by this replica.",
            ("direction",),
            registry=registry,
        )
        self._raised, self._lowered = changes.labels("raised"), changes.labels("lowered")
        self._known: set[str] = set()

    def tell(self, found: Mapping[str, tuple[float | None, int]]) -> None:
        """Of all there are; what is told no more is gone."""
        for space_uid in self._known - found.keys():
            self._ef.remove(space_uid)
            self._recall.remove(space_uid)
        for space_uid, (recall, ef) in found.items():
            self._ef.labels(space_uid).set(ef)
            if recall is not None:
                self._recall.labels(space_uid).set(recall)
        self._known = set(found)

    def ef_changed(self, *, raised: bool) -> None:
        (self._raised if raised else self._lowered).inc()
