"""How well searches find: nDCG@10 and recall@10 on questions whose answers are known.

The questions are the lay synonyms of the Human Phenotype Ontology; the answers are the terms that
bear them. Any other set in the layout of BEIR (corpus.jsonl, queries.jsonl, qrels/test.tsv) does.
"""

import asyncio
import csv
import json
import math
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from benchmarks import service_jobs
from benchmarks.apart import Apart
from benchmarks.corpus import Corpus, Vectors, embedded, hpo_corpus, hpo_terms
from benchmarks.loading import COLLECTION
from benchmarks.report import Row, row
from benchmarks.service_jobs import Target
from knowledge.v1.vector_service_pb2 import SearchRequest
from knowledged.services.given_chunks import LONGEST_CHUNK

HPO = "HPO lay synonyms"
TOP = 10
_SEED = 7


@dataclass(frozen=True, slots=True)
class Questions:
    """Texts, and for each the ids that answer it, each with its gain."""

    texts: list[str]
    answers: list[Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Set:
    """A corpus and questions about it."""

    name: str
    corpus: Corpus
    questions: Questions


async def hpo_set(most: int = 1_000) -> Set:
    return Set(HPO, await hpo_corpus(), hpo_questions(most))


def hpo_questions(most: int) -> Questions:
    """As many lay synonyms, drawn with a fixed seed; a term's own name is no question."""
    relevant: dict[str, dict[str, float]] = {}
    for term in hpo_terms():
        for synonym in term.synonyms:
            text = synonym.text.lower()
            if synonym.kind == "layperson" and text != term.name.lower():
                relevant.setdefault(text, {})[term.term_id] = 1.0
    texts = sorted(relevant)
    random.Random(_SEED).shuffle(texts)
    return Questions(texts[:most], [relevant[text] for text in texts[:most]])


async def beir_set(folder: Path) -> Set:
    """A set in BEIR's layout, its whole test split."""
    documents = _lines(folder / "corpus.jsonl")
    # Its ids may be none of ours, so the place in the file is the id.
    ids = {document["_id"]: str(place) for place, document in enumerate(documents)}
    texts = [f"{d.get('title', '')}\n\n{d['text']}".strip()[:LONGEST_CHUNK] for d in documents]
    gains: dict[str, dict[str, float]] = {}
    with (folder / "qrels/test.tsv").open(newline="") as file:
        for judged in csv.DictReader(file, delimiter="\t"):
            gain = {ids[judged["corpus-id"]]: float(judged["score"])}
            gains.setdefault(judged["query-id"], {}).update(gain)
    asked = [q for q in _lines(folder / "queries.jsonl") if q["_id"] in gains]
    questions = Questions([q["text"] for q in asked], [gains[q["_id"]] for q in asked])
    return Set(folder.name, Corpus(list(ids.values()), texts, await embedded(texts)), questions)


def _lines(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8") as opened:
        return [json.loads(line) for line in opened if line.strip()]


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


def nearest(corpus: Corpus, vectors: Vectors) -> list[list[str]]:
    """What an exact search finds, in numpy."""
    order = np.argsort(-(vectors @ corpus.vectors.T), axis=1)[:, :TOP]
    return [[corpus.ids[place] for place in places] for places in order]


def measured(apart: Apart, target: Target, asked: Set) -> list[Row]:
    """Exact in numpy; then the service, which embeds the questions itself: by index and exactly."""
    vectors = asyncio.run(embedded(asked.questions.texts))
    found = {"numpy, exact": nearest(asked.corpus, vectors)}
    for leg, exact in (("service", False), ("service, exact", True)):
        requests = [
            SearchRequest(collection=COLLECTION, text=text, exact=exact)
            for text in asked.questions.texts
        ]
        found[leg], _ = apart.run(service_jobs.found, target, requests)
    return [line for leg, lists in found.items() for line in _lines_of(asked, leg, lists)]


def _lines_of(asked: Set, leg: str, found: Sequence[Sequence[str]]) -> list[Row]:
    pairs = list(zip(found, asked.questions.answers, strict=True))
    ndcgs = fmean(ndcg(f, gains) for f, gains in pairs)
    recalls = fmean(recall(f, [each for each, gain in gains.items() if gain]) for f, gains in pairs)
    details = f"{len(pairs)} questions, {len(asked.corpus.ids)} texts"
    must = "≥ 0.47" if asked.name == HPO else ""
    return [
        row(f"{asked.name}: nDCG@10, dense, {leg}", [ndcgs], must, details),
        row(f"{asked.name}: recall@10, dense, {leg}", [recalls], "", details),
    ]
