"""The texts that are measured on, embedded once with the project's own model and kept."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from knowledged.commands import hpo
from knowledged.embedding import bundled
from knowledged.embedding.local import LocalEmbedder
from knowledged.embedding.tokenizer import TextTokenizer

CACHE = Path(__file__).parent / ".cache"
_AT_ONCE = 1_024

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Texts with their ids, and a vector of length 1 for each: shape (texts, dimension)."""

    ids: list[str]
    texts: list[str]
    vectors: Vectors


def open_embedder(threads: int | None = None) -> LocalEmbedder:
    files = bundled.locate()
    return LocalEmbedder(files, TextTokenizer(files.tokenizer), threads=threads)


def hpo_terms() -> list[hpo.Term]:
    return hpo.read_terms(hpo.locate())


async def hpo_corpus() -> Corpus:
    """Names and definitions of the Human Phenotype Ontology.

    The first time takes some three minutes on 2 cores.
    """
    return await _corpus_of(hpo_terms())


async def hpo_corpus_now(most: int) -> Corpus:
    """All of them if they were embedded before, else the first of them, at most so many."""
    terms = hpo_terms()
    known = _file(bundled.locate().model_sha256, [term.text for term in terms]).exists()
    return await _corpus_of(terms if known else terms[:most])


async def _corpus_of(terms: Sequence[hpo.Term]) -> Corpus:
    texts = [term.text for term in terms]
    return Corpus([term.term_id for term in terms], texts, await embedded(texts))


async def embedded(texts: Sequence[str]) -> Vectors:
    """The vectors of the texts, from the cache if the same texts were embedded before."""
    embedder = open_embedder()
    try:
        file = _file(embedder.model_digest, texts)
        if not file.exists():
            _write(file, await _embed(embedder, texts))
    finally:
        await embedder.close()
    with np.load(file) as stored:
        return stored["vectors"]


async def _embed(embedder: LocalEmbedder, texts: Sequence[str]) -> Vectors:
    parts: list[Vectors] = []
    for first in range(0, len(texts), _AT_ONCE):
        print(f"\rembedding {first} of {len(texts)} texts, once", end="", flush=True)
        parts.append(await embedder.embed(texts[first : first + _AT_ONCE]))
    print()
    return np.concatenate(parts)


def _write(file: Path, vectors: Vectors) -> None:
    """Whole or not at all."""
    CACHE.mkdir(exist_ok=True)
    draft = file.with_suffix(".draft.npz")
    np.savez(draft, vectors=vectors)
    draft.replace(file)


def _file(model_digest: str, texts: Sequence[str]) -> Path:
    digest = hashlib.sha256(model_digest.encode())
    for text in texts:
        digest.update(hashlib.sha256(text.encode()).digest())
    return CACHE / f"{digest.hexdigest()[:24]}.npz"
