"""Outermost: turns every exception into what the caller may read of it. Nothing else leaks."""

import asyncio

import structlog

from knowledged.call import Call, Method
from knowledged.errors import Status, status_of
from knowledged.interceptors.hall import Handler
from knowledged.logs import outline


class Refusal(Exception):
    """The public status of a failed call, on its way to the wire."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.reason)
        self.status = status


def errors(method: Method, handler: Handler) -> Handler:
    """Raises `Refusal` for any failure. A cancelled call passes: gRPC has answered it itself."""

    async def handle(call: Call, request: bytes) -> bytes:
        try:
            return await handler(call, request)
        except Exception as error:
            raise Refusal(_public(call, error)) from None
        except asyncio.CancelledError as error:
            if _this_call_was_cancelled():
                raise
            # Something inside was cancelled alone: gRPC would leave the caller without an answer.
            _log_own_bug(call, error)
            raise Refusal(status_of(error)) from None

    return handle


def _public(call: Call, error: Exception) -> Status:
    status = status_of(error)
    if not status.known:
        _log_own_bug(call, error)
    return status


def _this_call_was_cancelled() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _log_own_bug(call: Call, error: BaseException) -> None:
    log = structlog.get_logger()
    log.error("rpc_bug", method=call.method.path, call_id=call.call_id, **outline(error))
