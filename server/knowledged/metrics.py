"""What is counted, under the names of go-grpc-prometheus, so that its dashboards fit.

Names, labels and buckets: https://github.com/grpc-ecosystem/go-grpc-middleware/tree/main/providers/prometheus
"""

from collections.abc import Mapping
from dataclasses import dataclass
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)

from knowledged.call import Method
from knowledged.errors import Code
from knowledged.index_metrics import IndexMetrics
from knowledged.provider_metrics import ModelCounters, ProviderMetrics

_METHOD = ("grpc_type", "grpc_service", "grpc_method")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

# By whether the client streams, and whether the server does.
_TYPES = {
    (False, False): "unary",
    (True, False): "client_stream",
    (False, True): "server_stream",
    (True, True): "bidi_stream",
}

# The spellings of Go's codes.Code.String(), which dashboards and alerts select by.
_GO_NAMES = {
    Code.OK: "OK",
    Code.CANCELLED: "Canceled",
    **{code: code.name.title().replace("_", "") for code in Code if code > Code.CANCELLED},
}


@dataclass(frozen=True, slots=True)
class MethodMetrics:
    """The series of one method, each a child that is ready to count."""

    _started: Counter
    _received: Counter
    _sent: Counter
    _handled: dict[Code, Counter]
    _seconds: Histogram

    def started(self) -> None:
        """A call has begun."""
        self._started.inc()

    def received(self) -> None:
        """A message has come in."""
        self._received.inc()

    def answered(self) -> None:
        """A message goes out."""
        self._sent.inc()

    def handled(self, code: Code, seconds: float) -> None:
        """A call has ended, `seconds` after it began."""
        self._handled[code].inc()
        self._seconds.observe(seconds)


class Metrics:
    """Every metric of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._providers = ProviderMetrics(self.registry)
        self._started = self._counter("grpc_server_started", "RPCs begun.")
        self._received = self._counter("grpc_server_msg_received", "Messages received.")
        self._sent = self._counter("grpc_server_msg_sent", "Messages sent.")
        self._handled = self._counter("grpc_server_handled", "RPCs ended, by code.", "grpc_code")
        self._indexes = IndexMetrics(self.registry)
        self._seconds = Histogram(
            "grpc_server_handling_seconds",
            "Seconds from the arrival of an RPC to its end.",
            _METHOD,
            registry=self.registry,
            buckets=_SECONDS,
        )

    def indexes(self, found: Mapping[str, tuple[float | None, int]]) -> None:
        """All vector indexes there are, by the uids of their spaces: the recall that was measured
        last, and the ef."""
        self._indexes.tell(found)

    def index_ef_changed(self, *, raised: bool) -> None:
        """A measurement changed the ef of an index."""
        self._indexes.ef_changed(raised=raised)

    def of_method(self, method: Method) -> MethodMetrics:
        """The series of `method`. All codes start at 0: a rate needs a point before the first."""
        labels = (_TYPES[method.client_streams, method.server_streams], method.service, method.name)
        return MethodMetrics(
            self._started.labels(*labels),
            self._received.labels(*labels),
            self._sent.labels(*labels),
            {code: self._handled.labels(*labels, name) for code, name in _GO_NAMES.items()},
            self._seconds.labels(*labels),
        )

    def of_provider(self, provider: str, model: str) -> ModelCounters:
        """The series of a remote model."""
        return self._providers.of_model(provider, model)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, (*_METHOD, *labels), registry=self.registry)


@dataclass(frozen=True, slots=True)
class MetricsServer:
    """The exposition over HTTP, on a thread of its own."""

    _server: WSGIServer
    _thread: Thread

    @property
    def port(self) -> int:
        """The port it listens on; the one it was given, unless that was 0."""
        return self._server.server_port

    def stop(self) -> None:
        """Blocks until the port is free again, half a second at most."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def serve_metrics(host: str, port: int, registry: CollectorRegistry) -> MetricsServer:
    """Serves `registry` at http://host:port/metrics; OSError when the port is taken."""
    return MetricsServer(*start_http_server(port, host, registry))
