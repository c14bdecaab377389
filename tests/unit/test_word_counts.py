"""Tokens counted word by word are those that the tokenizer itself makes."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from knowledged.embedding import bundled
from knowledged.embedding.tokenizer import TextTokenizer
from knowledged.embedding.word_counts import WordCounts

ASCII = st.text(st.characters(max_codepoint=127), max_size=200)
PIECES = st.lists(
    st.sampled_from(
        ["E11.9", "[MASK]", "[mask]", "un-", "x" * 101, "\x07", "\t", " ", "(HP:1)", "é"]
    )
).map("".join)


@pytest.fixture(scope="module")
def file() -> Path:
    return bundled.locate().tokenizer


@pytest.fixture(scope="module")
def plain(file: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@pytest.fixture(scope="module")
def counting(file: Path) -> TextTokenizer:
    return TextTokenizer(file)


@given(text=ASCII | PIECES | st.text(max_size=60))
@example(text="Hypertension, systemic: it's >140/90 mmHg; see HP:0000822.")
def test_a_count_is_the_tokenizers_own(
    counting: TextTokenizer, plain: Tokenizer, text: str
) -> None:
    expected = len(plain.encode(text, add_special_tokens=False).ids)
    assert counting.count([text, text]) == [expected, expected]


def test_words_alone_are_counted_without_tokenizing_the_text(plain: Tokenizer) -> None:
    counts = WordCounts(plain)
    assert counts.count("high blood pressure") == 3
    assert counts.count("pressure é") is None
    assert counts.count("pressure [SEP]") is None


def test_another_kind_of_tokenizer_is_asked_itself(plain: Tokenizer) -> None:
    other = Tokenizer(plain.model)
    assert WordCounts(other).count("high blood pressure") is None
