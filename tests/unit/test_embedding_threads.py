import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from knowledged.embedding import bundled
from knowledged.embedding.encoder import SentenceEncoder
from knowledged.embedding.encoding_threads import EncodingThreads, Vectors
from knowledged.embedding.tokenizer import TextTokenizer, TokenIds
from knowledged.errors import Unavailable


class Turnstile:
    """The real encoder behind a gate: notes each batch, and lets it pass when told to."""

    def __init__(self, encoder: SentenceEncoder) -> None:
        self._encoder = encoder
        self.batches: list[list[int]] = []
        self.alone: list[bool] = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)

    def encode(self, texts: Sequence[TokenIds], alone: bool) -> Vectors:
        self.batches.append([len(tokens) for tokens in texts])
        self.alone.append(alone)
        self.entered.release()
        assert self.gate.acquire(timeout=10)
        return self._encoder.encode(texts)

    def open(self) -> None:
        self.gate.release(1000)


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return TextTokenizer(bundled.locate().tokenizer)


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return SentenceEncoder(bundled.locate().model)


@pytest.fixture
def turnstile(encoder: SentenceEncoder) -> Turnstile:
    return Turnstile(encoder)


@pytest.fixture
def threads(turnstile: Turnstile) -> Iterator[EncodingThreads]:
    threads = EncodingThreads(turnstile.encode, dimension=384, batch_tokens=40)
    yield threads
    turnstile.open()
    threads.close()


def of_lengths(tokenizer: TextTokenizer, *lengths: int) -> list[TokenIds]:
    texts = [" ".join(["pain"] * (length - tokenizer.special_tokens)) for length in lengths]
    return tokenizer.encode(texts, 256)


def test_bulk_is_cut_into_batches_of_like_length(
    threads: EncodingThreads, turnstile: Turnstile, tokenizer: TextTokenizer
):
    turnstile.open()
    threads.submit(of_lengths(tokenizer, 10, 50, 18, 20, 10, 10, 20), urgent=False).done.result(10)
    assert turnstile.batches == [[50], [20, 20], [18, 10], [10, 10]]


def test_an_urgent_text_waits_for_one_batch_only(
    threads: EncodingThreads, turnstile: Turnstile, tokenizer: TextTokenizer
):
    bulk = threads.submit(of_lengths(tokenizer, 40, 39, 38), urgent=False)
    assert turnstile.entered.acquire(timeout=10)
    urgent = threads.submit(of_lengths(tokenizer, 5), urgent=True)
    turnstile.open()
    bulk.done.result(10)
    assert urgent.done.done()
    assert turnstile.batches == [[40], [5], [39], [38]]


def test_urgent_texts_of_several_callers_share_a_batch(
    threads: EncodingThreads, turnstile: Turnstile, tokenizer: TextTokenizer
):
    threads.submit(of_lengths(tokenizer, 40), urgent=False)
    assert turnstile.entered.acquire(timeout=10)
    jobs = [threads.submit(of_lengths(tokenizer, n), urgent=True) for n in (5, 8, 6)]
    turnstile.open()
    vectors = [job.done.result(10) for job in jobs]
    assert turnstile.batches == [[40], [5, 8, 6]]
    assert [v.shape for v in vectors] == [(1, 384)] * 3


def test_a_withdrawn_job_is_not_encoded(
    threads: EncodingThreads, turnstile: Turnstile, tokenizer: TextTokenizer
):
    gone = threads.submit(of_lengths(tokenizer, 40, 39, 38), urgent=False)
    assert turnstile.entered.acquire(timeout=10)
    threads.withdraw(gone)
    kept = threads.submit(of_lengths(tokenizer, 7), urgent=False)
    turnstile.open()
    kept.done.result(10)
    assert turnstile.batches == [[40], [7]]


def test_a_failing_batch_fails_its_own_job_and_no_other(
    threads: EncodingThreads, turnstile: Turnstile, tokenizer: TextTokenizer
):
    turnstile.open()
    outside_the_vocabulary = np.full(40, 10**6, dtype=np.int64)
    bad = threads.submit([outside_the_vocabulary] * 3, urgent=False)
    good = threads.submit(of_lengths(tokenizer, 7), urgent=False)
    with pytest.raises(Exception, match="indices element out of data bounds"):
        bad.done.result(10)
    assert good.done.result(10).shape == (1, 384)
    assert turnstile.batches == [[40], [7]]


def test_after_closing_nothing_is_taken(turnstile: Turnstile, tokenizer: TextTokenizer):
    threads = EncodingThreads(turnstile.encode, dimension=384, batch_tokens=40)
    threads.close()
    with pytest.raises(Unavailable):
        threads.submit(of_lengths(tokenizer, 7), urgent=True)


def test_several_threads_share_the_batches_of_a_job(turnstile: Turnstile, tokenizer: TextTokenizer):
    threads = EncodingThreads(turnstile.encode, dimension=384, batch_tokens=40, threads=2)
    alone = threads.submit(of_lengths(tokenizer, 40), urgent=False)
    assert turnstile.entered.acquire(timeout=10)
    job = threads.submit(of_lengths(tokenizer, 39, 38, 37), urgent=False)
    assert turnstile.entered.acquire(timeout=10), "the second thread takes one meanwhile"
    turnstile.open()
    vectors = job.done.result(10)
    threads.close()
    assert alone.done.done()
    assert sorted(turnstile.batches) == [[37], [38], [39], [40]]
    assert turnstile.alone[:2] == [True, False]
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_one_failing_batch_of_two_at_work_fails_its_job_once(
    turnstile: Turnstile, tokenizer: TextTokenizer
):
    threads = EncodingThreads(turnstile.encode, dimension=384, batch_tokens=40, threads=2)
    outside_the_vocabulary = np.full(40, 10**6, dtype=np.int64)
    bad = threads.submit([outside_the_vocabulary, *of_lengths(tokenizer, 40)], urgent=False)
    assert turnstile.entered.acquire(timeout=10)
    assert turnstile.entered.acquire(timeout=10)
    turnstile.open()
    with pytest.raises(Exception, match="indices element out of data bounds"):
        bad.done.result(10)
    good = threads.submit(of_lengths(tokenizer, 7), urgent=False)
    assert good.done.result(10).shape == (1, 384)
    threads.close()
