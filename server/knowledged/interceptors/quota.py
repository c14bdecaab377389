"""One subject cannot take the whole server: calls in flight and calls a second, per subject."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from knowledged.call import Call, Method
from knowledged.errors import Overloaded
from knowledged.interceptors.hall import Handler

_SUBJECTS_REMEMBERED = 10_000


@dataclass(slots=True)
class _Usage:
    tokens: float
    refilled_at: float
    in_flight: int = 0


class Quota:
    """Refuses what passes `max_concurrent_calls` or `calls_per_second` (0: no rate) of a subject.

    The rate is a token bucket that holds one second's worth, at least one call.
    """

    def __init__(
        self,
        max_concurrent_calls: int,
        calls_per_second: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = max_concurrent_calls
        self._rate = calls_per_second
        self._burst = max(1.0, calls_per_second)
        self._clock = clock
        self._usages: dict[str, _Usage] = {}

    def __call__(self, method: Method, handler: Handler) -> Handler:
        async def handle(call: Call, request: bytes) -> bytes:
            subject = call.principal.subject
            usage = self._enter(subject)
            try:
                return await handler(call, request)
            finally:
                usage.in_flight -= 1
                if not self._rate and not usage.in_flight:
                    del self._usages[subject]

        return handle

    def _enter(self, subject: str) -> _Usage:
        usage = self._usages.get(subject) or self._remember(subject)
        if usage.in_flight >= self._limit:
            raise _exhausted(f"{self._limit} calls of this subject are in flight already", 0.2)
        if self._rate:
            self._spend(usage)
        usage.in_flight += 1
        return usage

    def _remember(self, subject: str) -> _Usage:
        if len(self._usages) >= _SUBJECTS_REMEMBERED:
            self._forget_idle()
        usage = self._usages[subject] = _Usage(self._burst, self._clock())
        return usage

    def _forget_idle(self) -> None:
        # A subject idle for a whole refill starts with a full bucket either way.
        before = self._clock() - self._burst / (self._rate or 1.0)
        idle = [s for s, u in self._usages.items() if not u.in_flight and u.refilled_at <= before]
        for subject in idle:
            del self._usages[subject]

    def _spend(self, usage: _Usage) -> None:
        now = self._clock()
        refill = (now - usage.refilled_at) * self._rate
        usage.tokens, usage.refilled_at = min(self._burst, usage.tokens + refill), now
        if usage.tokens < 1.0:
            wait = (1.0 - usage.tokens) / self._rate
            raise _exhausted(f"more than {self._rate:g} calls a second of this subject", wait)
        usage.tokens -= 1.0


def _exhausted(message: str, retry_after_seconds: float) -> Overloaded:
    error = Overloaded(f"{message}; retry later", reason="QUOTA_EXHAUSTED")
    error.retry_after_seconds = retry_after_seconds
    return error
