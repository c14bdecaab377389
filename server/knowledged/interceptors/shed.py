"""Sheds load before any work is done: what cannot be served soon is refused at once."""

import time

from knowledged.call import Call, Method
from knowledged.errors import DeadlineExceeded, Overloaded
from knowledged.interceptors.hall import Handler


class Shed:
    """At most `max_concurrent_calls` in flight in the whole server, over all methods together."""

    def __init__(self, max_concurrent_calls: int) -> None:
        self._limit = max_concurrent_calls
        self._in_flight = 0

    def __call__(self, method: Method, handler: Handler) -> Handler:
        async def handle(call: Call, request: bytes) -> bytes:
            self._check(call)
            self._in_flight += 1
            try:
                return await handler(call, request)
            finally:
                self._in_flight -= 1

        return handle

    def _check(self, call: Call) -> None:
        if call.deadline is not None and call.deadline <= time.monotonic():
            raise DeadlineExceeded("the deadline had passed when the call arrived")
        if self._in_flight >= self._limit:
            raise Overloaded(f"{self._limit} calls are in flight already; retry later")
