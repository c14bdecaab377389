"""The threads that run the model: urgent texts first, in batches small enough to wait for."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from knowledged.embedding.tokenizer import TokenIds
from knowledged.errors import Unavailable

Vectors: TypeAlias = NDArray[np.float32]

# Texts among which like lengths are looked for.
_WINDOW = 128


@dataclass(slots=True, eq=False)
class Job:
    """The texts of one caller: `done` gives their vectors when the last row is filled."""

    vectors: Vectors
    missing: int
    done: Future[Vectors] = field(default_factory=Future[Vectors])

    def fill(self, row: int, vector: Vectors) -> None:
        self.vectors[row] = vector
        self.missing -= 1
        if not self.missing and self._waited_for():
            self.done.set_result(self.vectors)

    def fail(self, error: Exception) -> None:
        if self._waited_for():
            self.done.set_exception(error)

    def _waited_for(self) -> bool:
        return not self.done.done() and self.done.set_running_or_notify_cancel()


@dataclass(frozen=True, slots=True)
class Text:
    """One text that waits for its turn, and the row of its job that it fills."""

    job: Job
    row: int
    tokens: TokenIds


# Encodes one batch; `alone` says that no other is encoded or waits at the same time.
Encode = Callable[[Sequence[TokenIds], bool], Vectors]


class EncodingThreads:
    """Run `encode` over batches of at most `batch_tokens` tokens, padding included.

    A longer text is a batch of its own. Texts of several callers share a batch, those of like
    length: of 64 short texts in their own order 30 % of the batches was padding, so 4 %. The one
    that waits longest is always in the next batch. Others wait as long as urgent ones do.
    """

    def __init__(
        self,
        encode: Encode,
        *,
        dimension: int,
        batch_tokens: int,
        threads: int = 1,
    ) -> None:
        self._encode = encode
        self._dimension = dimension
        self._batch_tokens = batch_tokens
        self._urgent: deque[Text] = deque()
        self._bulk: deque[Text] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._at_work = 0
        self._threads = [
            threading.Thread(target=self._work, name="encoding", daemon=True)
            for _ in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, texts: Sequence[TokenIds], *, urgent: bool) -> Job:
        """Queue at least one text. Raises Unavailable after close()."""
        job = Job(np.empty((len(texts), self._dimension), dtype=np.float32), len(texts))
        waiting = [Text(job, row, tokens) for row, tokens in enumerate(texts)]
        # Neighbours of like length need little padding.
        waiting.sort(key=lambda text: len(text.tokens), reverse=True)
        with self._changed:
            if self._closed:
                raise _closed()
            (self._urgent if urgent else self._bulk).extend(waiting)
            self._changed.notify(len(waiting))
        return job

    def withdraw(self, job: Job) -> None:
        """Forget what still waits of a job."""
        with self._changed:
            self._urgent = deque(text for text in self._urgent if text.job is not job)
            self._bulk = deque(text for text in self._bulk if text.job is not job)

    def close(self) -> None:
        """End the threads after their present batches; jobs that wait fail with Unavailable."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        for job in {text.job for text in (*self._urgent, *self._bulk)}:
            self.withdraw(job)
            job.fail(_closed())

    def _work(self) -> None:
        while batch := self._next_batch():
            self._run(*batch)

    def _next_batch(self) -> tuple[list[Text], bool] | None:
        """Wait for a batch, and whether it is alone; None means that the thread ends."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._urgent or self._bulk)
            if self._closed:
                return None
            batch = _take(self._urgent or self._bulk, self._batch_tokens)
            alone = not (self._at_work or self._urgent or self._bulk)
            self._at_work += 1
            return batch, alone

    def _run(self, batch: list[Text], alone: bool) -> None:
        try:
            vectors = self._encode([text.tokens for text in batch], alone)
        except Exception as error:
            self._fail({text.job for text in batch}, error)
        else:
            self._fill(batch, vectors)

    def _fail(self, jobs: set[Job], error: Exception) -> None:
        with self._changed:
            self._at_work -= 1
            for job in jobs:
                self.withdraw(job)
                job.fail(error)

    def _fill(self, batch: list[Text], vectors: Vectors) -> None:
        with self._changed:
            self._at_work -= 1
            for text, vector in zip(batch, vectors, strict=True):
                text.job.fill(text.row, vector)


def _take(waiting: deque[Text], batch_tokens: int) -> list[Text]:
    """The next text and, of those after it, the ones nearest to it in length.

    As many as stay within `batch_tokens` when padded to the longest.
    """
    window = [waiting.popleft() for _ in range(min(_WINDOW, len(waiting)))]
    chosen = _alike([len(text.tokens) for text in window], batch_tokens)
    left = [text for place, text in enumerate(window) if place not in chosen]
    waiting.extendleft(reversed(left))
    return [window[place] for place in sorted(chosen)]


def _alike(lengths: Sequence[int], batch_tokens: int) -> set[int]:
    """The places of the first length and of those nearest to it."""
    chosen, longest = {0}, lengths[0]
    nearest = sorted(range(1, len(lengths)), key=lambda place: abs(lengths[place] - lengths[0]))
    for place in nearest:
        longest = max(longest, lengths[place])
        if longest * (len(chosen) + 1) > batch_tokens:
            break
        chosen.add(place)
    return chosen


def _closed() -> Unavailable:
    return Unavailable("the embedding model is closed", reason="MODEL_UNAVAILABLE")
