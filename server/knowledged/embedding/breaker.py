"""Whether a remote model may be asked now, and how it was last.

A circuit breaker: after a few failures in a row nobody asks for a while, each time for longer; then
the next ones try. A refusal that only people can mend stops the asking at once, but not for long.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from random import SystemRandom

from knowledged.embedding.provider_faults import cause_of
from knowledged.errors import DomainError, Unavailable

FAILURES_TO_OPEN = 5
# A provider that asks for a longer pause than this gets it at the first failure.
LONG_PAUSE_SECONDS = 2.0
FIRST_REST_SECONDS = 1.0
LONGEST_REST_SECONDS = 30.0
REFUSED_REST_SECONDS = 5.0


class State(IntEnum):
    """How a remote model is; numbers are those of the proto."""

    UNTRIED = 1
    READY = 2
    AWAY = 3
    REFUSING = 4


@dataclass(frozen=True, slots=True)
class Condition:
    """A model's state, why it is not READY (else empty), and since when."""

    state: State
    reason: str
    since: datetime


class Breaker:
    """The breaker of one remote model. `changed` hears of every new condition."""

    def __init__(
        self,
        changed: Callable[[Condition], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.condition = Condition(State.UNTRIED, "", datetime.now(UTC))
        self._changed = changed
        self._clock = clock
        self._failures = 0
        self._opened = 0
        self._closed_until = 0.0

    @property
    def seconds_shut(self) -> float:
        """How long nobody may ask yet; 0 when it may be tried."""
        return max(0.0, self._closed_until - self._clock())

    def admit(self) -> None:
        """Raises what was wrong last, while it is not to be asked again yet."""
        if (left := self.seconds_shut) > 0:
            raise cause_of(self.condition.reason).error(left)

    def succeeded(self) -> None:
        self.reset()
        self._become(State.READY, "")

    def failed(self, error: DomainError) -> None:
        """One request was not served. How long it is not asked again is up to chance, too."""
        if isinstance(error, Unavailable):
            self._count_failure(error)
            self._become(State.AWAY, error.reason)
        else:
            self._closed_until = self._clock() + REFUSED_REST_SECONDS
            self._become(State.REFUSING, error.reason)

    def reset(self) -> None:
        """Lets the next request try: it succeeded, or there is a new key."""
        self._failures = self._opened = 0
        self._closed_until = 0.0

    def _count_failure(self, error: Unavailable) -> None:
        self._failures += 1
        asked = error.retry_after_seconds or 0.0
        enough = self._failures >= FAILURES_TO_OPEN or self._opened or asked > LONG_PAUSE_SECONDS
        if self.seconds_shut or not enough:
            return
        rest = min(FIRST_REST_SECONDS * 2**self._opened, LONGEST_REST_SECONDS)
        self._opened += 1
        rest = max(rest * SystemRandom().uniform(0.5, 1.0), asked)
        self._closed_until = self._clock() + rest

    def _become(self, state: State, reason: str) -> None:
        if (state, reason) != (self.condition.state, self.condition.reason):
            self.condition = Condition(state, reason, datetime.now(UTC))
            self._changed(self.condition)
