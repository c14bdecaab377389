"""Long text to pieces that a model can read whole, cut where the text itself pauses."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from semantic_text_splitter import MarkdownSplitter, TextSplitter

from knowledged.embedding.tokenizer import TextTokenizer
from knowledged.errors import Violation

# Some 5 ms of splitting: more than that blocks the event loop for too long.
_CHARACTERS_AT_ONCE = 1_500
# WordPiece reads a run of 100 letters and more as one token: a blob would be one endless piece.
_CHARACTERS_PER_TOKEN = 16
# A splitter holds a copy of the vocabulary, 6 MB.
_SPLITTERS_KEPT = 4


@dataclass(frozen=True, slots=True)
class ChunkingPolicy:
    """How text is cut; in tokens of the model, its special ones not counted.

    The default fills the bundled model's 256 tokens, two of which are special.
    """

    max_tokens: int = 254
    overlap_tokens: int = 32

    def violations(self, field: str, model_max_tokens: int) -> list[Violation]:
        """What is wrong with this policy for a model that reads `model_max_tokens`."""
        found: list[Violation] = []
        if not 16 <= self.max_tokens <= model_max_tokens:
            rule = f"must be from 16 to {model_max_tokens}, is {self.max_tokens}"
            found.append(Violation(f"{field}.max_tokens", rule))
        if not 0 <= self.overlap_tokens <= self.max_tokens // 2:
            rule = f"must be from 0 to half of max_tokens, is {self.overlap_tokens}"
            found.append(Violation(f"{field}.overlap_tokens", rule))
        return found


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text: `text[start_offset:end_offset]`, offsets in Unicode code points."""

    text: str
    start_offset: int
    end_offset: int
    tokens: int


class Chunker:
    """Cuts text for the model of one tokenizer. Threads may share it."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self.tokenizer = tokenizer
        self._splitter = lru_cache(_SPLITTERS_KEPT)(self._new_splitter)

    def split(self, text: str, policy: ChunkingPolicy, mime_type: str) -> list[Piece]:
        """The pieces in order, each of at most `policy.max_tokens`, without white space around.

        `text/markdown` is cut by its headings and blocks, any other text by paragraphs and
        sentences. Text of white space alone has no pieces. Takes about 4 µs a character, with the
        GIL released: see `split_async`.
        """
        # The splitter does not take the separators U+001C to U+001F for white space.
        spans = [span for span in self._spans(text, policy, mime_type) if span[1].strip()]
        counts = self.tokenizer.count([part for _, part in spans])
        return [
            Piece(part, start, start + len(part), tokens)
            for (start, part), tokens in zip(spans, counts, strict=True)
        ]

    async def split_async(self, text: str, policy: ChunkingPolicy, mime_type: str) -> list[Piece]:
        """The same as `split`, in a thread when the text is long."""
        if len(text) <= _CHARACTERS_AT_ONCE:
            return self.split(text, policy, mime_type)
        return await asyncio.to_thread(self.split, text, policy, mime_type)

    def _spans(
        self, text: str, policy: ChunkingPolicy, mime_type: str
    ) -> Iterator[tuple[int, str]]:
        splitter = self._splitter(policy, _is_markdown(mime_type))
        longest = policy.max_tokens * _CHARACTERS_PER_TOKEN
        for start, part in splitter.chunk_indices(text):
            if len(part) <= longest:
                yield start, part
                continue
            for offset, piece in TextSplitter(longest).chunk_indices(part):
                yield start + offset, piece

    def _new_splitter(
        self, policy: ChunkingPolicy, markdown: bool
    ) -> TextSplitter | MarkdownSplitter:
        kind = MarkdownSplitter if markdown else TextSplitter
        return kind.from_huggingface_tokenizer_str(
            self.tokenizer.json(), policy.max_tokens, policy.overlap_tokens
        )


def _is_markdown(mime_type: str) -> bool:
    return mime_type.partition(";")[0].strip().lower() == "text/markdown"
