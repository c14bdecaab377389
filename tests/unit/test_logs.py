"""Log lines as they are written: JSON, one a line, and no exception text in any of them."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from knowledged.logs import configure, on_loop_error, outline


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root, ours = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    output = io.StringIO()
    yield output
    structlog.configure(**ours)
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def fail() -> None:
    try:
        raise KeyError("patient Smith")
    except KeyError as error:
        raise ValueError("patient Smith") from error


def caught() -> ValueError:
    try:
        fail()
    except ValueError as error:
        return error
    raise AssertionError


def test_an_event_is_one_line_of_json(stream: io.StringIO) -> None:
    configure("info", stream)
    structlog.get_logger().info("document_stored", chunks=3, text="a\nb")
    (line,) = lines(stream)
    assert (line["event"], line["level"], line["chunks"]) == ("document_stored", "info", 3)
    assert line["time"].endswith("Z")


def test_levels_below_the_set_one_are_silent(stream: io.StringIO) -> None:
    configure("warning", stream)
    structlog.get_logger().info("unheard")
    logging.getLogger("httpx").info("unheard")
    assert stream.getvalue() == ""


def test_an_exception_is_outlined_without_its_text() -> None:
    fields = outline(caught())
    assert fields["error"] == "ValueError"
    assert fields["causes"] == ["KeyError"]
    assert fields["where"][-1].endswith(":fail")
    assert fields["where"][-1].startswith("unit/test_logs.py:")
    assert "Smith" not in str(fields)


def test_our_own_exceptions_are_logged_without_their_text(stream: io.StringIO) -> None:
    configure("info", stream)
    try:
        fail()
    except ValueError:
        structlog.get_logger().exception("import_failed")
    structlog.get_logger().error("import_failed", exc_info=caught())
    assert [line["error"] for line in lines(stream)] == ["ValueError", "ValueError"]
    assert "Smith" not in stream.getvalue()


def test_a_librarys_record_keeps_its_first_line_alone(stream: io.StringIO) -> None:
    configure("info", stream)
    error = caught()
    exc_info = (type(error), error, error.__traceback__)
    message = "Task exception was never retrieved\nfuture: <Task exception=ValueError('Smith')>"
    logging.getLogger("asyncio").error(message, exc_info=exc_info)
    (line,) = lines(stream)
    assert line["event"] == "library_message"
    assert (line["logger"], line["level"]) == ("asyncio", "error")
    assert line["message"] == "Task exception was never retrieved"
    assert line["error"] == "ValueError"
    assert "Smith" not in stream.getvalue()


async def test_a_lost_tasks_exception_is_logged_without_its_text(stream: io.StringIO) -> None:
    configure("info", stream)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(on_loop_error)
    loop.call_soon(fail)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    loop.set_exception_handler(None)
    (line,) = lines(stream)
    assert (line["event"], line["error"]) == ("loop_error", "ValueError")
    assert "Smith" not in stream.getvalue()


def test_a_value_that_json_does_not_know_is_named_by_its_type(stream: io.StringIO) -> None:
    configure("info", stream)
    structlog.get_logger().info("odd_value", value=b"patient Smith")
    assert lines(stream)[0]["value"] == "<bytes>"


def test_a_terminal_gets_lines_to_read(stream: io.StringIO) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    configure("info", terminal)
    structlog.get_logger().info("serving", port=50051)
    structlog.get_logger().error("failed", exc_info=caught())
    logging.getLogger("grpc").warning("beware")
    assert "serving" in terminal.getvalue()
    assert "beware" in terminal.getvalue()
    assert "{" not in terminal.getvalue()
    assert "Smith" not in terminal.getvalue()


def test_a_line_that_cannot_be_written_fails_nobody(stream: io.StringIO) -> None:
    configure("info", stream)
    log = structlog.get_logger()
    stream.close()
    assert log.info("lost") is None
