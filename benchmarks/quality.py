"""How well searches find: nDCG@10 and recall@10 on questions whose answers are known."""

import asyncio
import math
from collections.abc import Collection, Mapping, Sequence
from statistics import fmean

from benchmarks import numpy_legs, service_jobs
from benchmarks.apart import Apart
from benchmarks.corpus import embedded
from benchmarks.loading import COLLECTION
from benchmarks.numpy_legs import TOP
from benchmarks.question_sets import Questions, Set
from benchmarks.report import Row, row
from benchmarks.service_jobs import Target
from knowledge.v1.vector_service_pb2 import HybridQuery, SearchRequest

Lists = Sequence[Sequence[str]]
LEGS = ("dense", "text", "hybrid")
# Hybrid may be so much below its better leg.
_SLACK = 0.01


def ndcg(found: Sequence[str], gains: Mapping[str, float]) -> float:
    """nDCG@10 with linear gains (Järvelin and Kekäläinen 2002), 0 to 1."""
    got = _dcg([gains.get(each, 0.0) for each in found[:TOP]])
    best = _dcg(sorted(gains.values(), reverse=True)[:TOP])
    return got / best if best else 0.0


def recall(found: Sequence[str], relevant: Collection[str]) -> float:
    """The share of what is relevant that is among the first ten; of ten, where there is more."""
    return len(set(found[:TOP]) & set(relevant)) / min(TOP, len(relevant)) if relevant else 0.0


def _dcg(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(place + 2) for place, gain in enumerate(gains))


def measured(apart: Apart, target: Target, asked: Set) -> list[Row]:
    """The service's three legs, and the same in numpy beside."""
    return [
        line
        for name, questions in asked.questions.items()
        for line in _measured(apart, target, asked, name, questions)
    ]


def mean_rows(rows: Sequence[Row]) -> list[Row]:
    """Each leg's mean over several sets; hybrid's must be the highest."""
    means = {
        leg: fmean(r.median for r in rows if r.name.endswith(f"nDCG@10, {leg}, service"))
        for leg in LEGS
    }
    best = max(means["dense"], means["text"])
    return [
        row(f"mean nDCG@10, {leg}, service", [mean], f"> {best:.3f}" if leg == "hybrid" else "")
        for leg, mean in means.items()
    ]


def _measured(
    apart: Apart, target: Target, asked: Set, name: str, questions: Questions
) -> list[Row]:
    found = _in_numpy(asked, questions)
    for leg in LEGS:
        requests = [_request(leg, text) for text in questions.texts]
        found[f"{leg}, service"], _ = apart.run(service_jobs.found, target, requests)
    least = max(_ndcgs(found[f"{leg}, service"], questions) for leg in LEGS[:2]) - _SLACK
    return [line for leg in found for line in _lines_of(asked, name, questions, leg, found, least)]


def _in_numpy(asked: Set, questions: Questions) -> dict[str, Lists]:
    vectors = asyncio.run(embedded(questions.texts))
    dense = numpy_legs.nearest(asked.corpus, vectors)
    text = numpy_legs.by_words(asked.corpus, questions.texts)
    return {
        "dense, numpy": dense,
        "text, numpy BM25": text,
        "hybrid, numpy RRF": numpy_legs.by_ranks(dense, text),
    }


def _request(leg: str, text: str) -> SearchRequest:
    """The service embeds the questions itself, and answers as it does by default."""
    if leg == "dense":
        return SearchRequest(collection=COLLECTION, text=text)
    query = HybridQuery(text=text)
    if leg == "text":
        query.vector_weight, query.text_weight = 0, 1
    return SearchRequest(collection=COLLECTION, hybrid=query)


def _lines_of(
    asked: Set, name: str, questions: Questions, leg: str, found: Mapping[str, Lists], least: float
) -> list[Row]:
    pairs = list(zip(found[leg], questions.answers, strict=True))
    recalls = fmean(recall(f, [each for each, gain in gains.items() if gain]) for f, gains in pairs)
    details = f"{len(pairs)} questions, {len(asked.corpus.ids)} texts"
    must = f"≥ {least:.3f}" if leg == "hybrid, service" else ""
    return [
        row(f"{name}: nDCG@10, {leg}", [_ndcgs(found[leg], questions)], must, details),
        row(f"{name}: recall@10, {leg}", [recalls], "", details),
    ]


def _ndcgs(found: Lists, questions: Questions) -> float:
    return fmean(ndcg(f, gains) for f, gains in zip(found, questions.answers, strict=True))
