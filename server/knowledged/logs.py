"""Logging: JSON lines for machines, coloured lines in a terminal, and no content in either.

An exception is logged as its class and where it was raised, never by its text, its locals or
its source lines: those may hold what callers sent. That holds for libraries' records too.
"""

import asyncio
import logging
import sys
import traceback
from contextlib import suppress
from typing import Any, TextIO, cast

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_FRAMES = 20
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_ExcInfo = tuple[object, BaseException | None, object]


def outline(error: BaseException) -> dict[str, Any]:
    """An exception without its text: `error` its class, `where` its `file:line:function` calls.

    `causes` names the classes behind it. The innermost call stands last; at most 20 are kept.
    """
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    where = [f"{_short(frame.filename)}:{frame.lineno}:{frame.name}" for frame in frames]
    causes = _causes(error)
    fields = {"error": _qualified(error), "where": where}
    return fields | {"causes": causes} if causes else fields


def configure(level: str = "info", stream: TextIO | None = None) -> None:
    """Sends our own and all libraries' records to `stream` (default: stderr), once per process."""
    output = cast("TextIO", stream or sys.stderr)
    renderer = structlog.dev.ConsoleRenderer(timestamp_key="time") if output.isatty() else _json
    structlog.configure(
        processors=[*_shared(), renderer],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_: _Lines(output),
        cache_logger_on_first_use=True,
    )
    _route_libraries(level, output, renderer)


def on_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """For `loop.set_exception_handler`: asyncio's own one prints tasks, results and exceptions."""
    error = context.get("exception")
    fields = outline(error) if isinstance(error, BaseException) else {}
    structlog.get_logger().error("loop_error", message=context.get("message"), **fields)


def _shared() -> list[Processor]:
    return [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _outline_exceptions,
    ]


def _outline_exceptions(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    raised = event.pop("exc_info", None)
    if raised:
        event.update(outline(_raised(raised) or Exception()))
    return event


def _raised(exc_info: Any) -> BaseException | None:
    if isinstance(exc_info, BaseException):
        return exc_info
    return cast("_ExcInfo", exc_info)[1] if isinstance(exc_info, tuple) else sys.exception()


def _library_record(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """The first line alone: what follows in a library's message is reprs and exception texts."""
    message = str(event["event"]).partition("\n")[0]
    record: logging.LogRecord = event["_record"]
    event.update(event="library_message", message=message, logger=record.name)
    return event


def _json(logger: WrappedLogger, method: str, event: EventDict) -> str:
    return orjson.dumps(event, default=_type_name).decode()


def _type_name(value: object) -> str:
    return f"<{type(value).__name__}>"


class _Lines:
    """Writes finished lines. One that cannot be written is lost: a full disk fails no call."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def info(self, line: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(f"{line}\n")
            self._stream.flush()

    debug = warning = error = critical = exception = info


def _route_libraries(level: str, stream: TextIO, renderer: Processor) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_library_record, *_shared()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    # Libraries tell of requests and statements below WARNING.
    logging.basicConfig(handlers=[handler], level=max(_LEVELS[level], logging.WARNING), force=True)


def _causes(error: BaseException) -> list[str]:
    causes: list[str] = []
    behind = error.__cause__ or error.__context__
    while behind is not None and len(causes) < 5:
        causes.append(_qualified(behind))
        behind = behind.__cause__ or behind.__context__
    return causes


def _qualified(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")


def _short(filename: str) -> str:
    """The file below its package folder: paths of the machine are nobody's business."""
    return "/".join(filename.rsplit("/", 2)[-2:])
