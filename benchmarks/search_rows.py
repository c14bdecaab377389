"""The rows about searches of a large collection: plain, filtered, hybrid, in batches."""

from collections.abc import Sequence

import numpy as np

from benchmarks import icd, raw_jobs, service_jobs
from benchmarks.auditing import durable
from benchmarks.corpus import Corpus, embedded, hpo_corpus, hpo_terms
from benchmarks.loading import COLLECTION
from benchmarks.question_sets import hpo_questions
from benchmarks.replicas import replica_rows
from benchmarks.report import Row, row
from benchmarks.rounds import RAW_CONNECTIONS, Bench, Round, qps_rows, timed
from benchmarks.rows import (
    LIMIT,
    check_recall,
    filter_rows,
    search_pairs,
    search_rows,
    with_enough_recall,
)
from knowledge.v1.vector_pb2 import Vector
from knowledge.v1.vector_service_pb2 import BatchSearchRequest, HybridQuery, SearchRequest

BATCH = 16
_TEXTS = 100_000
_BATCH_CALLERS = 4


async def large_corpus() -> Corpus:
    """100,000 terms, codes, clinical synonyms and inclusion terms; lay synonyms are the questions.

    The first time takes a quarter of an hour on 2 cores.
    """
    parts = [
        await hpo_corpus(),
        await _corpus("icd", [icd.text(code) for code in icd.codes()]),
        await _corpus("synonym", _clinical_synonyms()),
        await _corpus("inclusion", sorted({text for text, _ in icd.questions()})),
    ]
    missing = _TEXTS - sum(len(part.ids) for part in parts)
    parts.append(await _corpus("code", [icd.text(code) for code in icd.further_codes(missing)]))
    return Corpus(
        [each for part in parts for each in part.ids],
        [each for part in parts for each in part.texts],
        np.concatenate([part.vectors for part in parts]),
    )


def rows(bench: Bench) -> list[Row]:
    bench = with_enough_recall(bench)
    details = f"{len(bench.corpus.ids)} chunks, {check_recall(bench)}"
    with durable(bench) as waiting:
        audited = search_pairs(bench, waiting)
    return [
        *search_rows(bench, "≥ 0.60"),
        *replica_rows(bench, "≥ 0.60"),
        *qps_rows("Search, reads audited durable", audited, "≥ 0.50"),
        *filter_rows(bench, "chunk_metadata.share", "declared"),
        *filter_rows(bench, "chunk_metadata.lot", "undeclared"),
        *_hybrid_rows(bench, details),
        _batch_row(bench, details),
    ]


def _hybrid_rows(bench: Bench, details: str) -> list[Row]:
    """Both with the vector given, and both with the text to be embedded."""
    texts = hpo_questions(len(bench.vectors)).texts
    given = [
        SearchRequest(
            collection=COLLECTION,
            hybrid=HybridQuery(text=text, vector=Vector(f32_le=query)),
            ef=bench.place.ef,
        )
        for text, query in zip(texts, bench.queries, strict=True)
    ]
    vector_only = bench.requests()
    pairs = [(_alone(bench, given), _alone(bench, vector_only)) for _ in range(bench.rounds)]
    times = ", ".join(f"{1e3 * each.measured.p50:.2f} ms" for each in pairs[0])
    ratios = [ours.measured.p50 / theirs.measured.p50 for ours, theirs in pairs]
    tails = [ours.measured.p99 / ours.measured.p50 for ours, _ in pairs]
    return [
        row("hybrid, vector given, p50 ÷ vector-only", ratios, "≤ 2", f"{times}; {details}"),
        row("hybrid, p99 ÷ p50", tails, "≤ 6"),
    ]


def _batch_row(bench: Bench, details: str) -> Row:
    """Vectors a second of a few callers ÷ the best of raw, one by one."""
    queries, requests = bench.queries, bench.requests()
    batches = [
        BatchSearchRequest(searches=requests[first : first + BATCH])
        for first in range(0, len(requests) - BATCH + 1, BATCH)
    ]
    ratios: list[float] = []
    for _ in range(bench.rounds):
        target = bench.target(_BATCH_CALLERS)
        ours = timed(bench, service_jobs.batch_search, target, batches).measured.qps * BATCH
        theirs = max(
            timed(bench, raw_jobs.search, bench.raw(count), queries, LIMIT).measured.qps
            for count in RAW_CONNECTIONS
        )
        ratios.append(ours / theirs)
    return row(f"BatchSearch({BATCH}), vectors a second ÷ raw one by one", ratios, "≥ 1.0", details)


def _alone(bench: Bench, requests: Sequence[SearchRequest]) -> Round:
    return timed(bench, service_jobs.search, bench.target(1), requests)


def _clinical_synonyms() -> list[str]:
    return sorted({s.text.lower() for t in hpo_terms() for s in t.synonyms if s.kind == ""})


async def _corpus(name: str, texts: list[str]) -> Corpus:
    return Corpus([f"{name}-{i}" for i in range(len(texts))], texts, await embedded(texts))
