"""What must hold of every line of the log, one check a class: the list is the verifier.

A check sees the entries in the order of the log and says what is wrong with one, or nothing.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import zip_longest
from typing import Any, ClassVar, Protocol

from knowledged.audit_leaf import Leaf, MalformedEvent, Payload, commit, leaf_hash
from knowledged.ledger.entry import Entry, readable
from knowledged.ledger.pruning import Gone, announced, month_of
from knowledged.ledger.tiles import HEIGHT, WIDTH, Tile, grow, open_tiles, split

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong: which check found it, where, and why.

    `log_index` is the first bad index; None where what is wrong has no place in the tree. With
    `until` it is only known that some leaf in [log_index, until) is bad.
    """

    check: str
    log_index: int | None
    what: str
    until: int | None = None


class Check(Protocol):
    """One rule. `leaf` is the entry's leaf read back, None where there is none or it is none."""

    name: ClassVar[str]

    def see(self, entry: Entry, leaf: Leaf | None) -> Fault | None: ...


class OneRule(ABC):
    """A check of each entry for itself."""

    name: ClassVar[str]

    def see(self, entry: Entry, leaf: Leaf | None) -> Fault | None:
        what = self.fault(entry, leaf)
        return Fault(self.name, entry.log_index, what) if what else None

    @abstractmethod
    def fault(self, entry: Entry, leaf: Leaf | None) -> str | None:
        """What is wrong with the entry."""


class Indices:
    """Indices go up by one: nothing is missing, twice, or out of order."""

    name: ClassVar[str] = "indices"

    def __init__(self, first: int = 0) -> None:
        self._due = first

    def see(self, entry: Entry, leaf: Leaf | None) -> Fault | None:
        due, self._due = self._due, entry.log_index + 1
        if entry.log_index == due:
            return None
        at = min(due, entry.log_index)
        return Fault(self.name, at, f"index {due} is due, {entry.log_index} follows")


class Presence:
    """Each leaf has its event, but where the log says that the month was pruned: then what is gone
    of it is exactly what was announced. What begins later than the log is told by month alone."""

    name: ClassVar[str] = "presence"

    def __init__(self, first: int = 0) -> None:
        self._whole = first == 0
        self._gone: dict[str, Gone] = {}
        self._announced: dict[str, set[str]] = {}

    def see(self, entry: Entry, leaf: Leaf | None) -> Fault | None:
        if leaf is not None and (told := announced(leaf)):
            self._announced.setdefault(told[0], set()).add(told[1])
        if entry.leaf is None and not entry.hidden:
            of_month = Gone(entry.event_id, entry.log_index)
            self._gone.setdefault(month_of(entry.event_id), of_month).add(entry.log_index)
        return None

    def end(self) -> Iterator[Fault]:
        """The months' faults, once all entries are seen; the first comes first."""
        for month, gone in sorted(self._gone.items(), key=lambda each: each[1].begin):
            digests = self._announced.get(month)
            if digests is None:
                yield Fault(self.name, gone.begin, f"the event {gone.first} is gone")
            elif self._whole and gone.digest not in digests:
                what = f"other events of {month} are gone than were pruned"
                yield Fault(self.name, gone.begin, what, gone.end)


class LeafHash(OneRule):
    """The tree's leaf hash is that of the leaf's bytes."""

    name: ClassVar[str] = "leaf hash"

    def fault(self, entry: Entry, leaf: Leaf | None) -> str | None:
        if entry.leaf is None or leaf_hash(entry.leaf) == entry.leaf_hash:
            return None
        return "the leaf's bytes have another hash than the tree"


class LeafBytes(OneRule):
    """The leaf's bytes are a leaf, and that of the event at this index."""

    name: ClassVar[str] = "leaf"

    def fault(self, entry: Entry, leaf: Leaf | None) -> str | None:
        if entry.leaf is None:
            return None
        if leaf is None:
            return "the leaf's bytes are malformed"
        if leaf.event_id != entry.event_id:
            return f"the leaf is of the event {leaf.event_id}, not of {entry.event_id}"
        return None


class Columns(OneRule):
    """The columns beside the leaf say what the leaf says."""

    name: ClassVar[str] = "columns"

    def fault(self, entry: Entry, leaf: Leaf | None) -> str | None:
        if leaf is None or entry.columns is None or leaf == entry.columns:
            return None
        return f"columns differ from the leaf: {_differing(leaf, entry.columns)}"


class Commitment(OneRule):
    """The payload, where it is not erased, is the one that the leaf commits to."""

    name: ClassVar[str] = "payload"

    def fault(self, entry: Entry, leaf: Leaf | None) -> str | None:
        if entry.payload is None or leaf is None:
            return None
        if commit(entry.salt or b"", entry.payload) == leaf.payload_commit:
            return None
        return "the payload is not the one that the leaf commits to"


class PayloadColumns(OneRule):
    """The columns beside the payload say what the payload says."""

    name: ClassVar[str] = "payload columns"

    def fault(self, entry: Entry, leaf: Leaf | None) -> str | None:
        if entry.payload is None or entry.payload_columns is None:
            return None
        try:
            payload = Payload.decode(entry.payload)
        except MalformedEvent as error:
            return f"the payload is malformed: {error}"
        if payload == entry.payload_columns:
            return None
        return f"columns differ from the payload: {_differing(payload, entry.payload_columns)}"


class Shown(OneRule):
    """What an export shows for people is what its bytes say."""

    name: ClassVar[str] = "shown"

    def fault(self, entry: Entry, leaf: Leaf | None) -> str | None:
        if leaf is None or entry.shown is None:
            return None
        try:
            payload = Payload.decode(entry.payload) if entry.payload is not None else None
        except MalformedEvent as error:
            return f"the payload is malformed: {error}"
        due, shown = readable(leaf, payload), entry.shown
        keys = sorted(due.keys() | shown.keys())
        wrong = [key for key in keys if due.get(key, _ABSENT) != shown.get(key, _ABSENT)]
        return f"what is shown is not what the bytes say: {', '.join(wrong)}" if wrong else None


@dataclass(slots=True)
class StoredTiles:
    """The stored tiles hold the hashes that follow from the leaves."""

    name: ClassVar[str] = "tiles"
    _size: int = 0
    _partial: dict[Tile, bytes] = field(default_factory=dict[Tile, bytes])
    _new: list[bytes] = field(default_factory=list[bytes])

    def see(self, entry: Entry, leaf: Leaf | None) -> Fault | None:
        self._new.append(entry.leaf_hash)
        return None

    def due(self) -> dict[Tile, bytes]:
        """What the tiles must begin with that the entries since the last call go to."""
        grown = grow(self._size, self._partial, self._new)
        self._size += len(self._new)
        self._new = []
        before = self._partial | grown
        self._partial = {tile: before[tile] for tile in open_tiles(self._size)}
        return grown

    def compare(self, due: Mapping[Tile, bytes], stored: Mapping[Tile, bytes]) -> Fault | None:
        """The first leaf below a hash that is not what it must be."""
        differing = [
            (tile[0], place)
            for tile, data in due.items()
            if (place := _first_difference(tile, data, stored.get(tile, b""))) is not None
        ]
        if not differing:
            return None
        level, place = min(differing)
        until = place + (1 << HEIGHT * level) if level else None
        return Fault(self.name, place, "a stored tile is not what its leaves make it", until)


def _first_difference(tile: Tile, due: bytes, stored: bytes) -> int | None:
    """The first leaf below the first hash that differs; a stored tile may have grown meanwhile."""
    if stored[: len(due)] == due:
        return None
    pairs = zip_longest(split(due), split(stored[: len(due)]))
    place = next(place for place, (one, other) in enumerate(pairs) if one != other)
    level, n = tile
    return (n * WIDTH + place) << (HEIGHT * level)


def entry_checks(first: int = 0) -> list[Check]:
    """All that look at entries alone, for one run."""
    rules = (LeafHash, LeafBytes, Columns, Commitment, PayloadColumns)
    return [Indices(first), Presence(first), *(rule() for rule in rules)]


def _differing(one: Any, other: Any) -> str:
    """The names of the fields that differ; never what stands in them."""
    names: Sequence[str] = [each.name for each in fields(one)]
    return ", ".join(name for name in names if getattr(one, name) != getattr(other, name))
