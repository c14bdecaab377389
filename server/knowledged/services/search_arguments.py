"""What a search asks, read from its request and checked but for what its collections decide."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from knowledge.v1 import vector_service_pb2 as pb
from knowledge.v1.vector_pb2 import Vector
from knowledged.checks import Checks
from knowledged.filters.language import Filter
from knowledged.names import chunk_of, collection_of, document_of
from knowledged.services.listing import parsed_filter
from knowledged.store.search import MAX_EF

LONGEST_TEXT = 8_192
DEFAULT_LIMIT = 10
MOST_COLLECTIONS = 16
MOST_EXAMPLES = 10
MOST_CANDIDATES = 1_000
MOST_NEIGHBOURS = 10
# Fixed by experiment: docs/decisions/0016-hybrid-search.md.
VECTOR_WEIGHT, TEXT_WEIGHT = 0.7, 0.3
COLLECTION_SHAPE = '"collections/{collection}"'
_EXAMPLE_SHAPE = "must be the name of a document or of a chunk"
_QUOTED = re.compile(r'"([^"]*)"')

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Hybrid:
    """A hybrid query; without `vector` its text is embedded, unless the words are alone."""

    text: str
    phrases: tuple[str, ...]
    vector: Vector | None
    vector_weight: float
    text_weight: float


@dataclass(frozen=True, slots=True)
class ExampleName:
    """The ids of a document or, with `chunk_id`, of a chunk."""

    collection_id: str
    document_id: str
    chunk_id: str | None


@dataclass(frozen=True, slots=True)
class Around:
    """How many chunks before and after each hit."""

    before: int = 0
    after: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """A search. Of its query's kinds one is set: `text`, `vector`, `examples` or `hybrid`.

    `strength` of diversity and `per_document` are None where they were not asked for. `candidates`
    is how many hits each collection is asked for, before any are left out.
    """

    collections: tuple[str, ...]
    text: str | None
    vector: Vector | None
    examples: tuple[ExampleName, ...]
    hybrid: Hybrid | None
    limit: int
    candidates: int
    ef: int | None
    filter: Filter | None
    min_score: float | None
    exact: bool
    include_embedding: bool
    strength: float | None
    per_document: int | None
    around: Around
    highlight: bool
    explain: bool

    @property
    def plain(self) -> bool:
        """Whether it is the nearest of one collection to one vector, and no more."""
        return (
            len(self.collections) == 1
            and not self.examples
            and self.hybrid is None
            and self.filter is None
            and self.strength is None
            and self.per_document is None
            and self.around == Around()
            and not self.highlight
            and not self.explain
        )

    @property
    def embedded_text(self) -> str | None:
        """The text whose vector is searched for; None where no text is embedded."""
        if self.hybrid is None:
            return self.text
        given = self.hybrid.vector is not None or self.hybrid.vector_weight == 0
        return None if given else self.hybrid.text

    @property
    def words(self) -> str | None:
        """The text whose words highlights show."""
        return self.hybrid.text if self.hybrid else self.text


def asked(checks: Checks, request: pb.SearchRequest, most_hits: int) -> Asked:
    """The arguments; faults go to the checks."""
    read = _Reader(checks, request)
    limit = read.limit(most_hits)
    strength, pool = read.diversity(limit)
    per_document = read.per_document()
    wanted = max(limit, min(4 * limit, MOST_CANDIDATES)) if per_document else limit
    return Asked(
        collections=read.collections(),
        text=read.text(),
        vector=request.vector if request.WhichOneof("query") == "vector" else None,
        examples=read.examples(),
        hybrid=read.hybrid(),
        limit=limit,
        candidates=max(wanted, pool),
        ef=read.optional("ef", 1, MAX_EF, None),
        filter=parsed_filter(checks, request),
        min_score=read.min_score(),
        exact=request.exact,
        include_embedding=request.include_embedding,
        strength=strength,
        per_document=per_document,
        around=read.around(),
        highlight=read.highlight(),
        explain=request.explain,
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    checks: Checks
    request: pb.SearchRequest

    def optional(self, field: str, least: int, most: int, default: T) -> int | T:
        """A number that may be absent."""
        if not self.request.HasField(field):  # pyright: ignore[reportArgumentType]
            return default
        value: int = getattr(self.request, field)
        self.checks.number(field, value, least, most)
        return value

    def limit(self, most: int) -> int:
        return self.optional("limit", 1, most, DEFAULT_LIMIT)

    def collections(self) -> tuple[str, ...]:
        """The ids of one or of several collections."""
        one, several = self.request.collection, self.request.collections
        if bool(one) == bool(several):
            self.checks.fault("collection", "either this or collections is required")
            return ()
        if one:
            return self._ids([("collection", one)])
        self.checks.count("collections", len(several), MOST_COLLECTIONS, least=1)
        if len(set(several)) < len(several):
            self.checks.fault("collections", "a name stands in them more than once")
        return self._ids([(f"collections[{i}]", name) for i, name in enumerate(several)])

    def text(self) -> str | None:
        kind = self.request.WhichOneof("query")
        if kind is None:
            self.checks.fault("query", "one of text, vector, example and hybrid is required")
        if kind != "text":
            return None
        self.checks.text("text", self.request.text, LONGEST_TEXT, required=True)
        return self.request.text

    def examples(self) -> tuple[ExampleName, ...]:
        if self.request.WhichOneof("query") != "example":
            return ()
        names = self.request.example.names
        self.checks.count("example.names", len(names), MOST_EXAMPLES, least=1)
        if len(set(names)) < len(names):
            self.checks.fault("example.names", "a name stands in them more than once")
        return tuple(filter(None, map(self._example, range(len(names)))))

    def hybrid(self) -> Hybrid | None:
        if self.request.WhichOneof("query") != "hybrid":
            return None
        given = self.request.hybrid
        self.checks.text("hybrid.text", given.text, LONGEST_TEXT, required=True)
        weights = (
            self._weight("vector_weight", VECTOR_WEIGHT),
            self._weight("text_weight", TEXT_WEIGHT),
        )
        if not any(weights):
            self.checks.fault("hybrid.text_weight", "is 0, and so is vector_weight")
        phrases = tuple(filter(str.strip, _QUOTED.findall(given.text)))
        vector = given.vector if given.HasField("vector") else None
        return Hybrid(given.text, phrases, vector, *weights)

    def min_score(self) -> float | None:
        if not self.request.HasField("min_score"):
            return None
        if math.isnan(self.request.min_score):
            self.checks.fault("min_score", "is not a number")
        return self.request.min_score

    def diversity(self, limit: int) -> tuple[float | None, int]:
        """Its strength, and how many hits it chooses from; None and 0 where it is off."""
        if not self.request.HasField("diversity"):
            return None, 0
        given = self.request.diversity
        strength = given.strength if given.HasField("strength") else 0.5
        self._share("diversity.strength", strength)
        default = max(limit, min(4 * limit, MOST_CANDIDATES))
        candidates = given.candidates if given.HasField("candidates") else default
        self.checks.number("diversity.candidates", candidates, limit, MOST_CANDIDATES)
        return strength, candidates

    def per_document(self) -> int | None:
        if not self.request.HasField("group_by_document"):
            return None
        given = self.request.group_by_document
        most = given.chunks_per_document if given.HasField("chunks_per_document") else 1
        self.checks.number("group_by_document.chunks_per_document", most, 1, 10)
        return most

    def around(self) -> Around:
        given = self.request.neighbours
        for side, number in (("before", given.before), ("after", given.after)):
            self.checks.number(f"neighbours.{side}", number, 0, MOST_NEIGHBOURS)
        return Around(given.before, given.after)

    def highlight(self) -> bool:
        if self.request.highlight and self.request.WhichOneof("query") not in ("text", "hybrid"):
            self.checks.fault("highlight", "needs words: a query of text or hybrid")
        return self.request.highlight

    def _weight(self, name: str, default: float) -> float:
        given = self.request.hybrid
        weight: float = getattr(given, name) if given.HasField(name) else default  # pyright: ignore[reportArgumentType]
        self._share(f"hybrid.{name}", weight)
        return weight

    def _share(self, field: str, share: float) -> None:
        if not 0 <= share <= 1:
            self.checks.fault(field, "must be a number from 0 to 1")

    def _example(self, place: int) -> ExampleName | None:
        name = self.request.example.names[place]
        if ids := document_of(name):
            return ExampleName(*ids, None)
        if ids := chunk_of(name):
            return ExampleName(*ids)
        self.checks.fault(f"example.names[{place}]", _EXAMPLE_SHAPE)
        return None

    def _ids(self, names: Sequence[tuple[str, str]]) -> tuple[str, ...]:
        found = [self._id(field, name, collection_of) for field, name in names]
        return tuple(filter(None, found))

    def _id(self, field: str, name: str, parts: Callable[[str], tuple[str] | None]) -> str | None:
        ids = parts(name)
        if ids is None:
            self.checks.fault(field, f"must be of the form {COLLECTION_SHAPE}")
        return ids[0] if ids else None
