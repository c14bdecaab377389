"""Sees every outcome, refusals too: metrics and one log line per RPC."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import structlog

from knowledged.call import Call, Method
from knowledged.errors import Code, status_of
from knowledged.interceptors.hall import Handler
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
            outcome = _OK
            try:
                answer = await handler(call, request)
                if not method.server_streams:
                    series.answered()
                return answer
            except (Exception, asyncio.CancelledError) as error:
                outcome = _outcome(call, error)
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


@dataclass(frozen=True, slots=True)
class _Outcome:
    code: Code
    reason: str = ""
    error: str = ""


_OK = _Outcome(Code.OK)


def _outcome(call: Call, error: BaseException) -> _Outcome:
    """gRPC cancels a call whose deadline passes; the caller then reads DEADLINE_EXCEEDED."""
    name = type(error.__cause__ or error).__name__
    late = call.deadline is not None and call.deadline <= time.monotonic()
    if late and isinstance(error, asyncio.CancelledError):
        return _Outcome(Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", name)
    status = status_of(error)
    return _Outcome(status.code, status.reason, name)


def _log(log: Any, call: Call, outcome: _Outcome, seconds: float) -> None:
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


def _present(call: Call, outcome: _Outcome) -> dict[str, str]:
    fields = {"reason": outcome.reason, "error": outcome.error, "traceparent": call.traceparent}
    return {key: value for key, value in fields.items() if value}
