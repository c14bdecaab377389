"""A provider outside on loopback, and what asks it."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from hugging_face_server import HuggingFaceServer, hugging_face
from knowledged.embedding import bundled
from knowledged.embedding.encoder import SentenceEncoder
from knowledged.embedding.tokenizer import TextTokenizer


@pytest.fixture(scope="session")
def encode() -> Any:
    """Texts to vectors of the bundled model, cut at 256 tokens, each text by itself."""
    files = bundled.locate()
    tokenizer, encoder = TextTokenizer(files.tokenizer), SentenceEncoder(files.model, 1)

    def encoded(texts: Sequence[str]) -> Any:
        return np.concatenate([encoder.encode([t]) for t in tokenizer.encode(texts, 256)])

    return encoded


@pytest.fixture
def outside(encode: Any) -> Iterator[HuggingFaceServer]:
    with hugging_face(encode) as server:
        yield server
