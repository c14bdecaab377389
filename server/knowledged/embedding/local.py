"""Embedding on this machine, off the event loop."""

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from knowledged.embedding.encoder import Encoders
from knowledged.embedding.encoding_threads import EncodingThreads
from knowledged.embedding.model_files import ModelFiles
from knowledged.embedding.tokenizer import TextTokenizer, TokenIds
from knowledged.errors import Overloaded

# About 1 ms of tokenizing: less than that is not worth a thread.
_CHARACTERS_AT_ONCE = 2_000


class LocalEmbedder:
    """An Embedder that runs an ONNX model in threads of its own.

    At most `max_waiting` texts, and apart from them `max_urgent` urgent ones, may be under way; a
    call beyond that is refused with Overloaded. A call that finds none of its kind under way is
    always taken, whatever its size.

    `batch_tokens` bounds how long an urgent text waits for the batch that runs: 256 tokens take
    some 50 ms on 2 cores, and larger batches are not faster there.
    """

    def __init__(
        self,
        files: ModelFiles,
        tokenizer: TextTokenizer,
        *,
        threads: int | None = None,
        batch_tokens: int = 256,
        max_waiting: int = 2_048,
        max_urgent: int = 256,
    ) -> None:
        """Load the model (about 0.2 s, blocking). `threads` None takes every core, at most four."""
        encoders = Encoders(files.model, threads, files.pooling)
        self.model_id = files.model_id
        self.model_digest = files.model_sha256
        self.dimension = encoders.dimension
        self.max_tokens = files.max_length - tokenizer.special_tokens
        self._max_length = files.max_length
        self._tokenizer = tokenizer
        self._limits = {True: max_urgent, False: max_waiting}
        self._under_way = {True: 0, False: 0}
        self._threads = EncodingThreads(
            encoders.encode,
            dimension=encoders.dimension,
            batch_tokens=batch_tokens,
            threads=encoders.threads,
        )

    async def embed(
        self, texts: Sequence[str], *, urgent: bool = False, seconds_left: float | None = None
    ) -> NDArray[np.float32]:
        """See Embedder.embed. Cancelled, it leaves at most the running batch behind."""
        if not texts:
            return np.empty((0, self.dimension), dtype=np.float32)
        with self._admitted(len(texts), urgent=urgent):
            job = self._threads.submit(await self._tokenize(texts), urgent=urgent)
            try:
                return await asyncio.wrap_future(job.done)
            except asyncio.CancelledError:
                self._threads.withdraw(job)
                raise

    def count_tokens(self, text: str) -> int:
        """See Embedder.count_tokens. At most 0.4 µs a character, mostly a tenth."""
        return self._tokenizer.count_one(text)

    async def close(self) -> None:
        """See Embedder.close. Waits for the batch that runs."""
        await asyncio.to_thread(self._threads.close)

    async def _tokenize(self, texts: Sequence[str]) -> list[TokenIds]:
        if sum(map(len, texts)) <= _CHARACTERS_AT_ONCE:
            return self._tokenizer.encode(texts, self._max_length)
        return await asyncio.to_thread(self._tokenizer.encode, texts, self._max_length)

    @contextmanager
    def _admitted(self, texts: int, *, urgent: bool) -> Generator[None]:
        under_way, limit = self._under_way[urgent], self._limits[urgent]
        if under_way and under_way + texts > limit:
            raise Overloaded(f"{under_way} texts wait to be embedded, the limit is {limit}")
        self._under_way[urgent] += texts
        try:
            yield
        finally:
            self._under_way[urgent] -= texts
