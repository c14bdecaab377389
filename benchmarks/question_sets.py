"""Texts and questions about them whose answers are known.

HPO lay synonyms: how people call what the Human Phenotype Ontology's terms name. HPO clinical
synonyms: how clinicians do. ICD-10-CM inclusion terms: what its codes include. The answers are the
terms or codes that bear them. Any other set in the layout of BEIR (corpus.jsonl, queries.jsonl,
qrels/test.tsv) does.

Of each the questions of one half were for finding weights and formulas; the others are the unseen
half, which is reported.
"""

import csv
import json
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks import icd
from benchmarks.corpus import Corpus, embedded, hpo_corpus, hpo_terms
from knowledged.services.given_chunks import LONGEST_CHUNK

HPO_LAY = "HPO lay synonyms"
HPO_CLINICAL = "HPO clinical synonyms"
ICD_INCLUSION = "ICD-10-CM inclusion terms"
_SEED = 7
_MOST = 2_000


@dataclass(frozen=True, slots=True)
class Questions:
    """Texts, and for each the ids that answer it, each with its gain."""

    texts: list[str]
    answers: list[Mapping[str, float]]

    @property
    def unseen(self) -> "Questions":
        """Every second one: nothing was chosen by them."""
        return Questions(self.texts[1::2], self.answers[1::2])


@dataclass(frozen=True, slots=True)
class Set:
    """A corpus, and questions about it by the name of each collection of them."""

    corpus: Corpus
    questions: dict[str, Questions]


async def known_sets() -> list[Set]:
    """The unseen halves of the three."""
    hpo = {
        HPO_LAY: hpo_questions(_MOST).unseen,
        HPO_CLINICAL: clinical_questions(_MOST).unseen,
    }
    return [
        Set(await hpo_corpus(), hpo),
        Set(await _icd_corpus(), {ICD_INCLUSION: icd_questions(_MOST).unseen}),
    ]


def hpo_questions(most: int) -> Questions:
    """As many lay synonyms, drawn with a fixed seed; a term's own name is no question."""
    return _of_terms("layperson", str.lower, most)


def clinical_questions(most: int) -> Questions:
    """As many synonyms that are marked neither as lay words nor as anything else."""
    return _of_terms("", str, most)


def icd_questions(most: int) -> Questions:
    return _drawn(icd.questions(), most)


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
    corpus = Corpus(list(ids.values()), texts, await embedded(texts))
    return Set(corpus, {folder.name: questions})


async def _icd_corpus() -> Corpus:
    codes = icd.codes()
    texts = [icd.text(code) for code in codes]
    return Corpus(codes, texts, await embedded(texts))


def _of_terms(kind: str, spelled: Callable[[str], str], most: int) -> Questions:
    return _drawn(
        (
            (spelled(synonym.text), term.term_id)
            for term in hpo_terms()
            for synonym in term.synonyms
            if synonym.kind == kind and synonym.text.lower() != term.name.lower()
        ),
        most,
    )


def _drawn(pairs: Iterable[tuple[str, str]], most: int) -> Questions:
    relevant: dict[str, dict[str, float]] = {}
    for text, answer in pairs:
        relevant.setdefault(text, {})[answer] = 1.0
    texts = sorted(relevant)
    random.Random(_SEED).shuffle(texts)
    return Questions(texts[:most], [relevant[text] for text in texts[:most]])


def _lines(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8") as opened:
        return [json.loads(line) for line in opened if line.strip()]
