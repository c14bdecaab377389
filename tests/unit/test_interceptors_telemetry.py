"""Metrics and log lines of calls through the telemetry interceptor, and their HTTP exposition."""

import asyncio
import time
from urllib.request import urlopen

import pytest
from structlog.testing import capture_logs

from knowledged.call import AuditClass, Call, Method, Principal
from knowledged.errors import Code, NotFound
from knowledged.interceptors import compose
from knowledged.interceptors.errors import Refusal, errors
from knowledged.interceptors.telemetry import Telemetry
from knowledged.metrics import Metrics, serve_metrics

METHOD = Method("/knowledge.v1.VectorService/Search", "search", AuditClass.READ)
LABELS = {
    "grpc_type": "unary",
    "grpc_service": "knowledge.v1.VectorService",
    "grpc_method": "Search",
}
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def call_of(deadline: float | None = None) -> Call:
    call = Call(METHOD, "call-1", "ipv4:127.0.0.1:1", {}, deadline, TRACE)
    call.principal = Principal("importer", frozenset())
    return call


async def through(metrics: Metrics, error: BaseException | None, call: Call) -> bytes:
    async def handle(call: Call, request: bytes) -> bytes:
        if error:
            raise error
        return request

    return await compose(METHOD, handle, [errors, Telemetry(metrics)])(call, b"x")


def handled(metrics: Metrics, code: str) -> float | None:
    labels = {**LABELS, "grpc_code": code}
    return metrics.registry.get_sample_value("grpc_server_handled_total", labels)


async def test_an_answered_call_is_counted_under_the_known_names() -> None:
    metrics = Metrics()
    await through(metrics, None, call_of())
    value = metrics.registry.get_sample_value
    assert handled(metrics, "OK") == 1
    for name in ("started", "msg_received", "msg_sent"):
        assert value(f"grpc_server_{name}_total", LABELS) == 1
    assert value("grpc_server_handling_seconds_count", LABELS) == 1


@pytest.mark.parametrize(
    ("error", "code"), [(NotFound("gone"), "NotFound"), (KeyError("k"), "Internal")]
)
async def test_a_refusal_is_counted_with_its_code_and_sends_no_message(
    error: Exception, code: str
) -> None:
    metrics = Metrics()
    with pytest.raises(Refusal):
        await through(metrics, error, call_of())
    assert handled(metrics, code) == 1
    assert metrics.registry.get_sample_value("grpc_server_msg_sent_total", LABELS) == 0


@pytest.mark.parametrize(("deadline", "code"), [(9.0, "Canceled"), (-1.0, "DeadlineExceeded")])
async def test_a_cancelled_call_is_told_from_one_out_of_time(deadline: float, code: str) -> None:
    metrics = Metrics()
    call = call_of(time.monotonic() + deadline)
    with pytest.raises(Refusal):
        await through(metrics, asyncio.CancelledError(), call)
    assert handled(metrics, code) == 1


async def test_every_code_has_a_series_from_the_start() -> None:
    metrics = Metrics()
    metrics.of_method(METHOD)
    names = {
        sample.labels["grpc_code"]
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "grpc_server_handled_total"
    }
    assert len(names) == len(Code)
    assert {"OK", "Canceled", "InvalidArgument", "Unauthenticated"} <= names


async def test_one_log_line_tells_who_called_what_and_how_it_ended() -> None:
    with capture_logs() as lines:
        await through(Metrics(), None, call_of())
    (line,) = lines
    assert line["event"] == "rpc_handled"
    assert line["method"] == METHOD.path
    assert line["code"] == "OK"
    assert line["call_id"] == "call-1"
    assert line["traceparent"] == TRACE
    assert line["subject"] == "importer"
    assert line["duration_ms"] >= 0


async def test_the_log_names_an_errors_class_and_place_but_never_its_text() -> None:
    with capture_logs() as lines, pytest.raises(Refusal):
        await through(Metrics(), ValueError("patient Smith"), call_of())
    bug = next(line for line in lines if line["event"] == "rpc_bug")
    outcome = next(line for line in lines if line["event"] == "rpc_handled")
    assert bug["error"] == "ValueError"
    assert bug["where"][-1].endswith(":handle")
    assert bug["call_id"] == "call-1"
    assert (outcome["code"], outcome["reason"]) == ("INTERNAL", "INTERNAL")
    assert "Smith" not in str(lines)


async def test_the_metrics_are_served_over_http_until_stopped() -> None:
    metrics = Metrics()
    await through(metrics, None, call_of())
    server = serve_metrics("127.0.0.1", 0, metrics.registry)
    url = f"http://127.0.0.1:{server.port}/metrics"
    text = await asyncio.to_thread(lambda: urlopen(url, timeout=5).read().decode())
    await asyncio.to_thread(server.stop)
    assert 'grpc_server_handled_total{grpc_code="OK"' in text
    assert "process_cpu_seconds_total" in text
    assert "python_info" in text
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(urlopen, url, timeout=5)
