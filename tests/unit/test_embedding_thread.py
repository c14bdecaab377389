import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from knowledged.embedding import bundled
from knowledged.embedding.encoder import SentenceEncoder
from knowledged.embedding.encoding_thread import EncodingThread, Vectors
from knowledged.embedding.tokenizer import TextTokenizer, TokenIds
from knowledged.errors import Unavailable


class Turnstile:
    """The real encoder behind a gate: notes each batch, and lets it pass when told to."""

    def __init__(self, encoder: SentenceEncoder) -> None:
        self._encoder = encoder
        self.batches: list[list[int]] = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)

    def encode(self, texts: Sequence[TokenIds]) -> Vectors:
        self.batches.append([len(tokens) for tokens in texts])
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
def thread(turnstile: Turnstile) -> Iterator[EncodingThread]:
    thread = EncodingThread(turnstile.encode, dimension=384, batch_tokens=40)
    yield thread
    turnstile.open()
    thread.close()


def of_lengths(tokenizer: TextTokenizer, *lengths: int) -> list[TokenIds]:
    texts = [" ".join(["pain"] * (length - tokenizer.special_tokens)) for length in lengths]
    return tokenizer.encode(texts, 256)


def test_bulk_is_cut_into_batches_of_like_length(
    thread: EncodingThread, turnstile: Turnstile, tokenizer: TextTokenizer
):
    turnstile.open()
    thread.submit(of_lengths(tokenizer, 10, 50, 18, 20, 10, 10, 20), urgent=False).done.result(10)
    assert turnstile.batches == [[50], [20, 20], [18, 10], [10, 10]]


def test_an_urgent_text_waits_for_one_batch_only(
    thread: EncodingThread, turnstile: Turnstile, tokenizer: TextTokenizer
):
    bulk = thread.submit(of_lengths(tokenizer, 40, 39, 38), urgent=False)
    assert turnstile.entered.acquire(timeout=10)
    urgent = thread.submit(of_lengths(tokenizer, 5), urgent=True)
    turnstile.open()
    bulk.done.result(10)
    assert urgent.done.done()
    assert turnstile.batches == [[40], [5], [39], [38]]


def test_urgent_texts_of_several_callers_share_a_batch(
    thread: EncodingThread, turnstile: Turnstile, tokenizer: TextTokenizer
):
    thread.submit(of_lengths(tokenizer, 40), urgent=False)
    assert turnstile.entered.acquire(timeout=10)
    jobs = [thread.submit(of_lengths(tokenizer, n), urgent=True) for n in (5, 8, 6)]
    turnstile.open()
    vectors = [job.done.result(10) for job in jobs]
    assert turnstile.batches == [[40], [5, 8, 6]]
    assert [v.shape for v in vectors] == [(1, 384)] * 3


def test_a_withdrawn_job_is_not_encoded(
    thread: EncodingThread, turnstile: Turnstile, tokenizer: TextTokenizer
):
    gone = thread.submit(of_lengths(tokenizer, 40, 39, 38), urgent=False)
    assert turnstile.entered.acquire(timeout=10)
    thread.withdraw(gone)
    kept = thread.submit(of_lengths(tokenizer, 7), urgent=False)
    turnstile.open()
    kept.done.result(10)
    assert turnstile.batches == [[40], [7]]


def test_a_failing_batch_fails_its_own_job_and_no_other(
    thread: EncodingThread, turnstile: Turnstile, tokenizer: TextTokenizer
):
    turnstile.open()
    outside_the_vocabulary = np.full(40, 10**6, dtype=np.int64)
    bad = thread.submit([outside_the_vocabulary] * 3, urgent=False)
    good = thread.submit(of_lengths(tokenizer, 7), urgent=False)
    with pytest.raises(Exception, match="indices element out of data bounds"):
        bad.done.result(10)
    assert good.done.result(10).shape == (1, 384)
    assert turnstile.batches == [[40], [7]]


def test_after_closing_nothing_is_taken(turnstile: Turnstile, tokenizer: TextTokenizer):
    thread = EncodingThread(turnstile.encode, dimension=384, batch_tokens=40)
    thread.close()
    with pytest.raises(Unavailable):
        thread.submit(of_lengths(tokenizer, 7), urgent=True)
