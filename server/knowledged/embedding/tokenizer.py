"""Text to token ids, the way a model was trained."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from knowledged.embedding.word_counts import WordCounts

TokenIds: TypeAlias = NDArray[np.int64]
"""The ids of one text, the special tokens included: shape (n,)."""

# An encoding weighs some 50 bytes a token, the ids kept of it 8: so only a few live at a time.
_TEXTS_AT_A_TIME = 64


class TextTokenizer:
    """A Hugging Face tokenizer.json, free of the truncation and padding written into it.

    Threads may share it. Long texts release the GIL while they are worked on.
    """

    def __init__(self, path: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.special_tokens = self._tokenizer.num_special_tokens_to_add(False)
        self._words = WordCounts(self._tokenizer)

    def count(self, texts: Sequence[str]) -> list[int]:
        """The tokens of each text, without special ones and without truncation."""
        counts = [self._words.count(text) for text in texts]
        unsure = [text for text, count in zip(texts, counts, strict=True) if count is None]
        told = (len(encoding) for encoding in self._encodings(unsure))
        return [next(told) if count is None else count for count in counts]

    def count_one(self, text: str) -> int:
        """As `count`, of one text."""
        count = self._words.count(text)
        return self.count([text])[0] if count is None else count

    def encode(self, texts: Sequence[str], max_length: int) -> list[TokenIds]:
        """The ids of each text, special ones included, at most `max_length` of them."""
        return [self._ids(encoding, max_length) for encoding in self._encodings(texts)]

    def json(self) -> str:
        """The tokenizer.json in effect."""
        return self._tokenizer.to_str()

    def _ids(self, encoding: Encoding, max_length: int) -> TokenIds:
        encoding.truncate(max_length - self.special_tokens)
        return np.array(self._tokenizer.post_process(encoding).ids, dtype=np.int64)

    def _encodings(self, texts: Sequence[str]) -> Iterator[Encoding]:
        # Only the batch call releases the GIL, and the fast one leaves out offsets we do not use.
        for start in range(0, len(texts), _TEXTS_AT_A_TIME):
            some = list(texts[start : start + _TEXTS_AT_A_TIME])
            yield from self._tokenizer.encode_batch_fast(some, add_special_tokens=False)
