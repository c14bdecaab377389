"""Sees every outcome, refusals too: metrics and one log line per RPC."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import structlog

from knowledged.call import Call, Method
from knowledged.interceptors.hall import Handler
from knowledged.interceptors.outcome import OK, Outcome, outcome_of
from knowledged.metrics import MethodMetrics, Metrics


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Counts and logs each call; the method's metric children are looked up once, not per call."""

    metrics: Metrics

    def __call__(self, method: Method, handler: Handler) -> Handler:
        series = self.metrics.of_method(method)
        log = structlog.get_logger().bind()

        async def handle(call: Call, request: bytes) -> bytes:
            series.started()
            _count(series, call)
            outcome = OK
            try:
                answer = await handler(call, request)
                if not method.server_streams:
                    series.answered()
                return answer
            except (Exception, asyncio.CancelledError) as error:
                outcome = outcome_of(call, error)
                raise
            finally:
                seconds = time.monotonic() - call.started
                series.handled(outcome.code, seconds)
                _log(log, call, outcome, seconds)

        return handle


def _count(series: MethodMetrics, call: Call) -> None:
    """A request's message has come with it; a stream's are counted as they go."""
    if call.stream is not None:
        call.stream.on_received, call.stream.on_sent = series.received, series.answered
    if not call.method.client_streams:
        series.received()


def _log(log: Any, call: Call, outcome: Outcome, seconds: float) -> None:
    log.info(
        "rpc_handled",
        method=call.method.path,
        code=outcome.code.name,
        duration_ms=round(seconds * 1000, 3),
        call_id=call.call_id,
        subject=call.principal.subject,
        peer=call.peer,
        **_present(call, outcome),
    )


def _present(call: Call, outcome: Outcome) -> dict[str, str]:
    fields = {"reason": outcome.reason, "error": outcome.error, "traceparent": call.traceparent}
    return {key: value for key, value in fields.items() if value}
