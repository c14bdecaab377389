"""Embedding by a provider: in batches, several in flight, tried again where that helps."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import SystemRandom
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knowledged.credentials.keys import Held, Keys
from knowledged.embedding.breaker import Breaker, Condition
from knowledged.embedding.hugging_face import HuggingFaceClient, RemoteModel
from knowledged.embedding.provider_faults import (
    MISSING,
    OF_THE_KEY,
    SLOW,
    ProviderAway,
    ProviderRefuses,
    cause_of,
)
from knowledged.embedding.tokenizer import TextTokenizer
from knowledged.errors import DomainError, Overloaded

Vectors = NDArray[np.float32]

TRIES = 4
FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 20.0
REQUEST_SECONDS = 30.0
# A caller who waits for less than this finds out nothing of the provider.
FAIR_SECONDS = 1.0
# TEI takes 2 MB at once; a character is up to four bytes.
MOST_CHARACTERS = 400_000
# Of searches, which somebody waits for, and of texts to store: neither waits for the other's.
IN_FLIGHT = 4


@dataclass(frozen=True, slots=True)
class Observer:
    """Who hears of the model's condition, and of each request: its outcome, seconds and texts."""

    changed: Callable[[Condition], None]
    asked: Callable[[str, float, int], None]


class RemoteEmbedder:
    """An Embedder whose texts leave this machine. Tokens are counted by a local tokenizer."""

    def __init__(
        self,
        model: RemoteModel,
        client: HuggingFaceClient,
        keys: Keys,
        tokenizer: TextTokenizer,
        observer: Observer,
        *,
        max_waiting: int = 4_096,
    ) -> None:
        self.model_id = model.model_id
        self.model_digest = model.revision
        self.dimension = model.dimension
        self.max_tokens = model.max_tokens
        self.breaker = Breaker(observer.changed)
        self.needs_key = client.needs_key
        self._client = client
        self._keys = keys
        self._tokenizer = tokenizer
        self._observer = observer
        self._lanes = {urgent: asyncio.Semaphore(IN_FLIGHT) for urgent in (True, False)}
        self._under_way = {True: 0, False: 0}
        self._max_waiting = max_waiting
        self._identified = False
        self._fingerprint = ""

    async def embed(
        self, texts: Sequence[str], *, urgent: bool = False, seconds_left: float | None = None
    ) -> Vectors:
        """See Embedder.embed. Also raises ProviderRefuses and TextRefused."""
        if not texts:
            return np.empty((0, self.dimension), dtype=np.float32)
        until = time.monotonic() + _seconds(seconds_left)
        with self._admitted(len(texts), urgent=urgent):
            parts = self._batches(texts)
            vectors = await _together([self._batch(part, until, urgent) for part in parts])
            return np.concatenate(vectors)

    def count_tokens(self, text: str) -> int:
        """See Embedder.count_tokens; by the local tokenizer, so roughly for another vocabulary."""
        return self._tokenizer.count_one(text)

    @property
    def seconds_away(self) -> float:
        """How long it need not be asked; 0 when it can be tried, such as with a new key."""
        self._notice_new_key()
        return self.breaker.seconds_shut

    async def probe(self, held: Held | None, seconds: float) -> None:
        """One request with this key, of a text that is nobody's. Raises as `embed`."""
        key = self._client.takes(held.key) if held else None
        await self._client.embed(["knowledged"], key, seconds)

    async def close(self) -> None:
        """See Embedder.close."""
        await self._client.close()

    def _batches(self, texts: Sequence[str]) -> list[Sequence[str]]:
        batches: list[Sequence[str]] = []
        start = characters = 0
        for place, text in enumerate(texts):
            full = place - start == self._client.most_texts
            if full or (place > start and characters + len(text) > MOST_CHARACTERS):
                batches.append(texts[start:place])
                start, characters = place, 0
            characters += len(text)
        return [*batches, texts[start:]]

    async def _batch(self, texts: Sequence[str], until: float, urgent: bool) -> Vectors:
        async with self._lanes[urgent]:
            for left in reversed(range(TRIES)):
                self._notice_new_key()
                self.breaker.admit()
                try:
                    return await self._once(texts, until)
                except ProviderAway as away:
                    pause = _pause(TRIES - 1 - left, away)
                    too_late = time.monotonic() + pause >= until
                    if not left or too_late or pause > LONGEST_PAUSE_SECONDS:
                        raise
                await asyncio.sleep(pause)
            raise AssertionError("the last try returns or raises")

    async def _once(self, texts: Sequence[str], until: float) -> Vectors:
        """One request, seen by the breaker and by whoever counts."""
        began, outcome = time.monotonic(), "given up"
        try:
            vectors = await self._with_key(texts, until)
            outcome = "ok"
        except (ProviderAway, ProviderRefuses) as error:
            outcome = error.reason
            if outcome != SLOW.reason or until - began >= FAIR_SECONDS:
                self._identified = False
                self.breaker.failed(error)
            raise
        except DomainError as error:
            outcome = error.reason
            raise
        finally:
            self._observer.asked(outcome, time.monotonic() - began, len(texts))
        self.breaker.succeeded()
        return vectors

    async def _with_key(self, texts: Sequence[str], until: float) -> Vectors:
        """With the key in use. One that is refused makes room for the last good one, at once."""
        held = self._keys.current
        key = self._client.takes(held.key) if held else None
        if key is None and self._client.needs_key:
            raise MISSING.error()
        seconds = min(REQUEST_SECONDS, until - time.monotonic())
        if seconds <= 0:
            raise SLOW.error()
        try:
            if not self._identified:
                await self._client.check_identity(key, seconds)
                self._identified = True
            vectors = await self._client.embed(texts, key, seconds)
        except ProviderRefuses as error:
            if held is None or key is None or error.reason not in OF_THE_KEY:
                raise
            reason = self._keys.refused(held, error.reason)
            other = self._keys.current
            if other is None or other.key == held.key:
                raise cause_of(reason).error() from None
            return await self._with_key(texts, until)
        if held and key:
            self._keys.accepted(held)
        return vectors

    def _notice_new_key(self) -> None:
        """What another key was refused for need not hold for this one."""
        held = self._keys.current
        fingerprint = held.key.fingerprint if held else ""
        if fingerprint != self._fingerprint:
            self._fingerprint = fingerprint
            self.breaker.reset()

    @contextmanager
    def _admitted(self, texts: int, *, urgent: bool) -> Generator[None]:
        under_way = self._under_way[urgent]
        if under_way and under_way + texts > self._max_waiting:
            message = f"{under_way} texts wait for the provider"
            raise Overloaded(message, reason="EMBEDDING_QUEUE_FULL")
        self._under_way[urgent] += texts
        try:
            yield
        finally:
            self._under_way[urgent] -= texts


def _seconds(left: float | None) -> float:
    """A tenth is kept for the answer, so that the caller reads what was slow."""
    return REQUEST_SECONDS * TRIES if left is None else left - min(0.5, left / 10)


def _pause(failures: int, away: ProviderAway) -> float:
    """Longer each time, never shorter than the provider asks, and by chance: not all at once."""
    longest = min(FIRST_PAUSE_SECONDS * 2**failures, LONGEST_PAUSE_SECONDS)
    asked = (away.retry_after_seconds or 0.0) if away.asked else 0.0
    return asked + SystemRandom().uniform(longest / 2, longest)


async def _together(batches: Sequence[Coroutine[Any, Any, Vectors]]) -> list[Vectors]:
    """All of them; the first one's error ends the others and is raised as it is."""
    tasks = [asyncio.create_task(batch) for batch in batches]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
