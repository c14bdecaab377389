import asyncio
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowledged.embedding import bundled
from knowledged.embedding.chunker import Chunker, ChunkingPolicy
from knowledged.embedding.tokenizer import TextTokenizer

TOKENIZER = TextTokenizer(bundled.locate().tokenizer)
CHUNKER = Chunker(TOKENIZER)
SMALL = ChunkingPolicy(max_tokens=16, overlap_tokens=4)
PROSE = "The cough began in May. It is dry and worse at night. No fever was seen since then. " * 40

words = st.sampled_from(["pain", "naïve", "🤒", "👩‍⚕️", "e\u0301", "漢字", "#", "-", "\u200b", "𝛼"])
gaps = st.sampled_from([" ", "\n", "\n\n", "\r\n", ". ", "\t", "\u00a0", "\n\n## ", "\n    ", ""])
texts = st.lists(st.tuples(words, gaps), max_size=80).map(
    lambda pairs: "".join(word + gap for word, gap in pairs)
) | st.text(max_size=200)


@settings(max_examples=150, deadline=None)
@given(text=texts, mime_type=st.sampled_from(["text/plain", "text/markdown"]))
def test_offsets_are_code_points_into_the_text(text: str, mime_type: str):
    pieces = CHUNKER.split(text, SMALL, mime_type)
    for piece in pieces:
        assert text[piece.start_offset : piece.end_offset] == piece.text
        assert piece.text.strip()
        assert piece.tokens <= SMALL.max_tokens
    assert [p.start_offset for p in pieces] == sorted(p.start_offset for p in pieces)


@settings(max_examples=100, deadline=None)
@given(text=texts, mime_type=st.sampled_from(["text/plain", "text/markdown"]))
def test_the_pieces_leave_out_white_space_only(text: str, mime_type: str):
    covered = bytearray(len(text))
    for piece in CHUNKER.split(text, SMALL, mime_type):
        covered[piece.start_offset : piece.end_offset] = b"\1" * len(piece.text)
    assert not "".join(c for c, seen in zip(text, covered, strict=True) if not seen).strip()


@pytest.mark.parametrize("text", ["", " ", "\n\t \u00a0\r\n", "\x1f"])
@pytest.mark.parametrize("mime_type", ["text/plain", "text/markdown"])
def test_white_space_alone_has_no_pieces(text: str, mime_type: str):
    assert CHUNKER.split(text, ChunkingPolicy(), mime_type) == []


def test_a_short_text_is_one_piece():
    (piece,) = CHUNKER.split("  high blood pressure\n", ChunkingPolicy(), "text/plain")
    assert (piece.text, piece.start_offset, piece.end_offset) == ("high blood pressure", 2, 21)
    assert piece.tokens == 3


def test_pieces_fit_the_model_and_are_well_filled():
    pieces = CHUNKER.split(PROSE, ChunkingPolicy(), "text/plain")
    assert all(piece.tokens == TOKENIZER.count([piece.text])[0] for piece in pieces)
    assert all(200 < piece.tokens <= 254 for piece in pieces[:-1])


def test_neighbours_overlap_by_at_most_the_policy():
    pieces = CHUNKER.split(PROSE, ChunkingPolicy(254, 32), "text/plain")
    for left, right in pairwise(pieces):
        shared = PROSE[right.start_offset : left.end_offset]
        assert 0 < TOKENIZER.count([shared])[0] <= 32


def test_without_overlap_pieces_do_not_meet():
    pieces = CHUNKER.split(PROSE, ChunkingPolicy(254, 0), "text/plain")
    for left, right in pairwise(pieces):
        assert left.end_offset <= right.start_offset


MARKDOWN = (
    "# Asthma\n\nNarrow airways that swell.\n\n"
    "## Signs\n\nWheezing, cough and shortness of breath.\n\n"
    "## Care\n\nInhaled steroids every day.\n"
)


@pytest.mark.parametrize("mime_type", ["text/markdown", "Text/Markdown; charset=utf-8"])
def test_markdown_is_cut_at_its_headings(mime_type: str):
    pieces = CHUNKER.split(MARKDOWN, ChunkingPolicy(20, 0), mime_type)
    assert [p.text.splitlines()[0] for p in pieces] == ["# Asthma", "## Signs", "## Care"]


def test_plain_text_knows_no_headings():
    pieces = CHUNKER.split(MARKDOWN, ChunkingPolicy(20, 0), "text/plain")
    assert [p.text.splitlines()[0] for p in pieces] != ["# Asthma", "## Signs", "## Care"]


def test_a_blob_that_is_one_token_is_cut_by_length():
    pieces = CHUNKER.split("x" * 50_000, ChunkingPolicy(), "text/plain")
    assert "".join(piece.text for piece in pieces) == "x" * 50_000
    assert max(len(piece.text) for piece in pieces) <= 254 * 16


async def test_a_long_text_leaves_the_event_loop_free():
    task = asyncio.create_task(CHUNKER.split_async(PROSE * 10, ChunkingPolicy(), "text/plain"))
    turns = 0
    while not task.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 20
    assert await task == CHUNKER.split(PROSE * 10, ChunkingPolicy(), "text/plain")


async def test_a_short_text_is_split_the_same_way():
    short = await CHUNKER.split_async(MARKDOWN, SMALL, "text/markdown")
    assert short == CHUNKER.split(MARKDOWN, SMALL, "text/markdown")


def test_threads_may_share_a_chunker():
    expected = CHUNKER.split(PROSE, SMALL, "text/plain")
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(lambda _: CHUNKER.split(PROSE, SMALL, "text/plain"), range(8))
    assert all(result == expected for result in results)


@pytest.mark.parametrize(
    ("policy", "fields"),
    [
        (ChunkingPolicy(), []),
        (ChunkingPolicy(16, 8), []),
        (ChunkingPolicy(15, 0), ["policy.max_tokens"]),
        (ChunkingPolicy(255, 0), ["policy.max_tokens"]),
        (ChunkingPolicy(100, 51), ["policy.overlap_tokens"]),
        (ChunkingPolicy(0, -1), ["policy.max_tokens", "policy.overlap_tokens"]),
    ],
)
def test_a_policy_names_every_broken_rule(policy: ChunkingPolicy, fields: list[str]):
    assert [v.field for v in policy.violations("policy", model_max_tokens=254)] == fields
