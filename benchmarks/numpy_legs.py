"""The legs of a search in numpy, to hold the service's against: each compares with everything."""

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.corpus import Corpus, Vectors

TOP = 10
_WORD = re.compile(r"[\w.]*\w")
# The usual ones.
_K1, _B = 1.2, 0.75


def nearest(corpus: Corpus, vectors: Vectors) -> list[list[str]]:
    """The highest inner products."""
    return _best(corpus, vectors @ corpus.vectors.T)


class Bm25:
    """BM25 (Robertson and Zaragoza 2009) over words as they are written, in lower case."""

    def __init__(self, texts: Sequence[str]) -> None:
        counts = [Counter(_words(text)) for text in texts]
        lengths = np.array([sum(count.values()) for count in counts], float)
        self._norms = _K1 * (1 - _B + _B * lengths / lengths.mean())
        self._places: dict[str, list[int]] = {}
        self._times: dict[str, list[int]] = {}
        for place, count in enumerate(counts):
            for word, times in count.items():
                self._places.setdefault(word, []).append(place)
                self._times.setdefault(word, []).append(times)

    def scores(self, text: str) -> NDArray[np.float64]:
        found = np.zeros(len(self._norms))
        for word in set(_words(text)) & self._places.keys():
            places, times = self._places[word], np.array(self._times[word])
            idf = math.log(1 + (len(found) - len(places) + 0.5) / (len(places) + 0.5))
            found[places] += idf * times * (_K1 + 1) / (times + self._norms[places])
        return found


def by_words(corpus: Corpus, texts: Sequence[str]) -> list[list[str]]:
    index = Bm25(corpus.texts)
    # What shares no word with the question is no hit.
    return [_best(corpus, index.scores(text)[None], above=0)[0] for text in texts]


def by_ranks(*legs: Sequence[Sequence[str]]) -> list[list[str]]:
    """Reciprocal rank fusion (Cormack et al. 2009) of each leg's first hundred, k = 60."""
    fused: list[list[str]] = []
    for lists in zip(*legs, strict=True):
        scores: Counter[str] = Counter()
        for found in lists:
            scores.update({each: 1 / (61 + rank) for rank, each in enumerate(found)})  # pyright: ignore[reportArgumentType]
        fused.append([each for each, _ in scores.most_common(TOP)])
    return fused


def _best(
    corpus: Corpus, scores: NDArray[np.float64] | Vectors, above: float = -math.inf
) -> list[list[str]]:
    order = np.argsort(-scores, axis=1, kind="stable")[:, :100]
    return [
        [corpus.ids[place] for place in places if row[place] > above]
        for places, row in zip(order, scores, strict=True)
    ]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
