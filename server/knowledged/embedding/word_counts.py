"""Tokens counted word by word, for tokenizers that cut words apart before anything else."""

import json
import re
from typing import Any

from tokenizers import Tokenizer

# What a BERT tokenizer takes for a word of printable ASCII: letters and digits, or one sign.
_WORDS = re.compile(r"[0-9A-Za-z]+|[!-/:-@\[-`{-~]")
_CONTROL = re.compile(r"[^\t\n\r -~]")
_PARTS = ("normalizer", "pre_tokenizer", "model")
_BERT = ["BertNormalizer", "BertPreTokenizer", "WordPiece"]
_MOST_WORDS = 65_536
_LONGEST_WORD = 40


class WordCounts:
    """How many tokens the words of a text have, each asked of the tokenizer once.

    What stands between spaces is known by itself, too, since nothing splits a text as fast as
    they do: together that takes a fifteenth of tokenizing the whole text.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._tokens: dict[str, int] = {}
        self._added = _added_tokens(tokenizer)

    def count(self, text: str) -> int | None:
        """The tokens of the text; None where only the tokenizer itself can tell."""
        if self._tells_not(text):
            return None
        parts = text.split()
        try:
            return sum(map(self._tokens.__getitem__, parts))
        except KeyError:
            return sum(map(self._of_part, parts))

    def _tells_not(self, text: str) -> bool:
        if self._added is None or not text.isascii():
            return True
        # Whether all is printable is known faster than what is not.
        if not text.isprintable() and _CONTROL.search(text):
            return True
        return "[" in text and any(added in text for added in self._added)

    def _of_part(self, part: str) -> int:
        count = self._tokens.get(part)
        if count is None:
            count = sum(map(self._of_word, _WORDS.findall(part)))
            self._keep(part, count)
        return count

    def _of_word(self, word: str) -> int:
        count = self._tokens.get(word)
        if count is None:
            count = len(self._tokenizer.encode(word, add_special_tokens=False).ids)
            self._keep(word, count)
        return count

    def _keep(self, word: str, count: int) -> None:
        if len(self._tokens) >= _MOST_WORDS:
            self._tokens.clear()
        if len(word) <= _LONGEST_WORD:
            self._tokens[word] = count


def _added_tokens(tokenizer: Tokenizer) -> list[str] | None:
    """Texts that are one token wherever they stand; None if words do not stand for themselves."""
    parts: dict[str, Any] = json.loads(tokenizer.to_str())
    kinds = [parts[part] and parts[part]["type"] for part in _PARTS]
    added = parts["added_tokens"]
    if kinds != _BERT:
        return None
    plain = all(a["content"].startswith("[") and not a["normalized"] for a in added)
    return [a["content"] for a in added] if plain else None
