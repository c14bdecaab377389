"""Choosing among hits: diversity, and hits by document."""

from typing import Any

import numpy as np
import pytest

from knowledged.services.choosing import Chosen, diverse, grouped
from knowledged.services.search_answer import ranges


def hit(uid: str, score: float, vector: Any = (1, 0), document: str = "d") -> Chosen:
    row: Any = {
        "chunk_uid": uid,
        "score": score,
        "embedding": np.asarray(vector, "<f4").tobytes(),
        "document_uid": document,
    }
    return Chosen(row, "c")


def uids(hits: list[Chosen]) -> list[str]:
    return [each.row["chunk_uid"] for each in hits]


def test_a_repetition_comes_after_what_is_new() -> None:
    hits = [hit("a", 0.9), hit("a2", 0.89), hit("b", 0.6, (0, 1))]
    assert uids(diverse(hits, 0.5, 2)) == ["a", "b"]
    assert uids(diverse(hits, 0.0, 3)) == ["a", "a2", "b"]


def test_the_score_by_diversity_is_the_documented_one() -> None:
    first, second = diverse([hit("a", 0.8), hit("b", 0.6, (1, 1))], 0.25, 2)
    assert first.diversity == pytest.approx(0.75 * 0.8)
    assert second.diversity == pytest.approx(0.75 * 0.6 - 0.25 * 2**-0.5)


def test_the_zero_vector_repeats_nothing() -> None:
    assert uids(diverse([hit("a", 0.9), hit("z", 0.1, (0, 0))], 0.5, 2)) == ["a", "z"]
    assert diverse([], 0.5, 3) == []


def test_documents_come_in_the_order_of_their_best_hits() -> None:
    hits = [hit("a", 0.9, document="x"), hit("b", 0.8, document="y"), hit("c", 0.7, document="x")]
    assert (uids(grouped(hits, 2, 2)[0]), grouped(hits, 2, 2)[1]) == (["a", "c", "b"], 2)
    assert uids(grouped(hits, 5, 1)[0]) == ["a", "b"]
    assert uids(grouped(hits, 1, 1)[0]) == ["a"]


@pytest.mark.parametrize(
    ("content", "marked", "found"),
    [
        ("a heart", "a \ue000heart\ue001", [(2, 7)]),
        ("heart heart", "\ue000heart\ue001 \ue000heart\ue001", [(0, 5), (6, 11)]),
        ("ein Herz 𝒳", "ein \ue000Herz\ue001 𝒳", [(4, 8)]),
        ("nothing", "nothing", []),
        ("cut", "\ue000cu\ue001", []),
        ("odd \ue000x", "odd \ue000\ue000x\ue001", []),
    ],
)
def test_ranges_are_those_of_the_marks(
    content: str, marked: str, found: list[tuple[int, int]]
) -> None:
    assert [(each.start, each.end) for each in ranges(content, marked)] == found
