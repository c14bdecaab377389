"""What is counted of remote models. No label tells whose texts or which collections."""

from dataclasses import dataclass
from enum import IntEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_MODEL = ("provider", "model")
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
STATES = ("untried", "ready", "away", "refusing")


@dataclass(frozen=True, slots=True)
class ModelCounters:
    """The series of one remote model."""

    _metrics: "ProviderMetrics"
    _provider: str
    _model: str

    def asked(self, outcome: str, seconds: float, texts: int) -> None:
        """One request ended: `outcome` is "ok", "given up" by its caller, or a reason."""
        labels = self._provider, self._model
        self._metrics.requests.labels(*labels, outcome).inc()
        self._metrics.seconds.labels(*labels).observe(seconds)
        if outcome == "ok":
            self._metrics.texts.labels(*labels).inc(texts)

    def changed(self, state: IntEnum) -> None:
        """Sets the series of this state to 1, the others to 0."""
        for name in STATES:
            on = name == state.name.lower()
            self._metrics.state.labels(self._provider, self._model, name).set(on)


class ProviderMetrics:
    """All series of remote models, in the server's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "knowledged_provider_requests",
            "Requests to a provider, by outcome.",
            (*_MODEL, "outcome"),
            registry=registry,
        )
        self.texts = Counter(
            "knowledged_provider_texts", "Texts embedded there.", _MODEL, registry=registry
        )
        self.seconds = Histogram(
            "knowledged_provider_request_seconds",
            "Seconds a request took.",
            _MODEL,
            registry=registry,
            buckets=_SECONDS,
        )
        self.state = Gauge(
            "knowledged_provider_state",
            "1 for the state a remote model is in.",
            (*_MODEL, "state"),
            registry=registry,
        )

    def of_model(self, provider: str, model: str) -> ModelCounters:
        return ModelCounters(self, provider, model)
