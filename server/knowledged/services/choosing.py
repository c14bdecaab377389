"""Of the hits of a search's collections those that are shown, and why there are not more."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from asyncpg import Record
from numpy.typing import NDArray

from knowledge.v1 import vector_service_pb2 as pb
from knowledged.services.search_arguments import MOST_CANDIDATES, Asked
from knowledged.services.search_legs import Leg


@dataclass(frozen=True, slots=True)
class Chosen:
    """A hit, the id of its collection and, where that was asked for, its score by diversity."""

    row: Record
    collection_id: str
    diversity: float | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """What is shown, best first. `short` says that more candidates might give more."""

    hits: list[Chosen]
    reason: pb.IncompleteReason.ValueType
    short: bool


def choose(asked: Asked, legs: Sequence[Leg]) -> Choice:
    """At most `asked.limit` hits, or documents of them."""
    found = _merged(asked, legs)
    good = [each for each in found if _good_enough(asked, each.row)]
    hits = good if asked.strength is None else diverse(good, asked.strength, len(good))
    if asked.per_document is None:
        shown, units = hits[: asked.limit], min(len(hits), asked.limit)
    else:
        shown, units = grouped(hits, asked.limit, asked.per_document)
    short = units < asked.limit and len(good) == len(found) and any(leg.full for leg in legs)
    missing = units < asked.limit
    reason = _reason(asked, cut=len(good) < len(found), full=short) if missing else 0
    return Choice(shown, reason, short and asked.candidates < MOST_CANDIDATES)  # pyright: ignore[reportArgumentType]


def diverse(hits: Sequence[Chosen], strength: float, most: int) -> list[Chosen]:
    """Maximal marginal relevance: `most` of the hits, each with the score it was chosen by."""
    if not hits:
        return []
    units = _unit_vectors(hits)
    scores = np.array([each.row["score"] for each in hits])
    nearest = np.zeros(len(hits))
    left, chosen = np.ones(len(hits), bool), list[Chosen]()
    for _ in range(min(most, len(hits))):
        worth = np.where(left, (1 - strength) * scores - strength * nearest, -np.inf)
        place = int(worth.argmax())
        chosen.append(Chosen(hits[place].row, hits[place].collection_id, float(worth[place])))
        left[place] = False
        alike = units @ units[place]
        nearest = alike if len(chosen) == 1 else np.maximum(nearest, alike)
    return chosen


def grouped(
    hits: Sequence[Chosen], most_documents: int, per_document: int
) -> tuple[list[Chosen], int]:
    """The hits by document, in the order of their best; how many documents there are."""
    documents: dict[str, list[Chosen]] = {}
    for each in hits:
        documents.setdefault(each.row["document_uid"], []).append(each)
    shown = list(documents.values())[:most_documents]
    return [each for group in shown for each in group[:per_document]], len(shown)


def _merged(asked: Asked, legs: Sequence[Leg]) -> list[Chosen]:
    found = [Chosen(row, leg.space.collection.collection_id) for leg in legs for row in leg.hits]
    if len(legs) > 1:
        found.sort(key=lambda each: (-each.row["score"], each.row["chunk_uid"]))
    return found[: asked.candidates]


def _good_enough(asked: Asked, row: Record) -> bool:
    return asked.min_score is None or row["score"] >= asked.min_score


def _unit_vectors(hits: Sequence[Chosen]) -> NDArray[np.float32]:
    vectors = np.stack([np.frombuffer(each.row["embedding"], "<f4") for each in hits])
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)


def _reason(asked: Asked, *, cut: bool, full: bool) -> pb.IncompleteReason.ValueType:
    if cut:
        return pb.INCOMPLETE_REASON_MIN_SCORE
    if full:
        return pb.INCOMPLETE_REASON_CANDIDATES_EXHAUSTED
    if asked.hybrid and (asked.hybrid.vector_weight == 0 or asked.hybrid.phrases):
        return pb.INCOMPLETE_REASON_TEXT_EXHAUSTED
    if asked.filter is not None:
        return pb.INCOMPLETE_REASON_FILTER_EXHAUSTED
    return pb.INCOMPLETE_REASON_COLLECTION_EXHAUSTED
