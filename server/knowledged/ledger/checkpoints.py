"""What checkpoints say against the tree: those stored beside it, and those kept elsewhere."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from knowledged.audit_leaf import Leaf
from knowledged.ledger.checkpoint import (
    Checkpoint,
    CheckpointError,
    open_checkpoint,
    read_unverified,
)
from knowledged.ledger.checks import Fault
from knowledged.ledger.entry import Entry
from knowledged.ledger.merkle import CompactRange
from knowledged.ledger.note import VerifierKey

Trusted = Callable[[str], Sequence[VerifierKey]]
"""The keys whose signature counts for a log of this origin."""

NEW_ORIGIN = "audit.new_origin:"
"""The action of the event that begins a new origin; the digest of the last checkpoint follows."""


@dataclass(slots=True)
class Signatures:
    """Every stored checkpoint is signed by a known key and says what its columns say."""

    name: ClassVar[str] = "signatures"
    trusted: Trusted
    _good: int = 0

    def see(self, note: str, tree_size: int, root: bytes) -> tuple[Checkpoint | None, Fault | None]:
        """The checkpoint of a row, if it can be trusted, and what is wrong with it."""
        read, fault = self.see_note(note)
        if read is None:
            return None, fault
        if (read.tree_size, read.root) != (tree_size, root):
            what = f"the row of {tree_size} leaves holds a checkpoint of {read.tree_size}"
            return read, Fault(self.name, min(self._good, tree_size), what)
        self._good = read.tree_size
        return read, None

    def see_note(self, note: str) -> tuple[Checkpoint | None, Fault | None]:
        """The same of a note alone."""
        try:
            return open_trusted(note, self.trusted), None
        except CheckpointError as error:
            return None, Fault(self.name, self._good, str(error))


@dataclass(slots=True)
class Roots:
    """The tree has the root of every stored checkpoint when it has grown to its size."""

    name: ClassVar[str] = "roots"
    tree: CompactRange = field(default_factory=CompactRange)
    found: dict[int, bytes] = field(default_factory=dict[int, bytes])
    _due: dict[int, bytes] = field(default_factory=dict[int, bytes])
    _wanted: set[int] = field(default_factory=set[int])
    _good: int = 0

    def expect(self, tree_size: int, root: bytes) -> Fault | None:
        """A checkpoint to come; a fault if it is of the tree as it is now and does not fit."""
        self._due[tree_size] = root
        return self._compare() if tree_size == self.tree.size else None

    def want(self, sizes: Iterable[int]) -> None:
        """The tree's own roots at these sizes will stand in `found`."""
        self._wanted.update(sizes)

    def see(self, entry: Entry, leaf: Leaf | None) -> Fault | None:
        self.tree.append(entry.leaf_hash)
        size = self.tree.size
        if size in self._wanted:
            self.found[size] = self.tree.root()
        return self._compare()

    def _compare(self) -> Fault | None:
        size = self.tree.size
        due = self._due.pop(size, None)
        if due is None:
            return None
        if due == self.tree.root():
            self._good = size
            return None
        return Fault(self.name, self._good, _changed(size, self._good), size)


@dataclass(slots=True)
class Origins:
    """Where the log took a new name: the events that say so, and what they go on from."""

    name: ClassVar[str] = "origins"
    begun: dict[int, str] = field(default_factory=dict[int, str])
    _before: Checkpoint | None = None

    def see(self, entry: Entry, leaf: Leaf | None) -> Fault | None:
        if leaf is not None and leaf.action.startswith(NEW_ORIGIN):
            self.begun[entry.log_index] = leaf.action.removeprefix(NEW_ORIGIN)
        return None

    def next(self, stored: Checkpoint) -> Fault | None:
        """Stored checkpoints, the smallest first, once the entries below them were seen."""
        before, self._before = self._before, stored
        if before is None or before.origin == stored.origin:
            return None
        if any(before.tree_size <= index < stored.tree_size for index in self.begun):
            return None
        what = f"the log is {stored.origin} from here on, and no event says why"
        return Fault(self.name, before.tree_size, what)

    def forked(self, tree_size: int) -> bool:
        """Whether a new origin began below this size: an older log went on differently there."""
        return any(index < tree_size for index in self.begun)


@dataclass(frozen=True, slots=True)
class Kept:
    """Checkpoints that somebody kept outside: the log must go on from every one of them."""

    name: ClassVar[str] = "kept checkpoints"
    checkpoints: tuple[Checkpoint, ...] = ()
    refused: tuple[Fault, ...] = ()

    @classmethod
    def open(cls, notes: Iterable[str], trusted: Trusted) -> "Kept":
        """Those that a known key signed; the others are faults."""
        found: list[Checkpoint] = []
        refused: list[Fault] = []
        for note in notes:
            try:
                found.append(open_trusted(note, trusted))
            except CheckpointError as error:
                refused.append(Fault(cls.name, None, str(error)))
        return cls(tuple(sorted(found, key=lambda c: c.tree_size)), tuple(refused))

    @property
    def sizes(self) -> list[int]:
        return [checkpoint.tree_size for checkpoint in self.checkpoints]

    def faults(
        self, origin: str, tree_size: int, roots: Mapping[int, bytes], origins: Origins
    ) -> list[Fault]:
        """What contradicts a log of this origin and size, which had these roots."""
        found, good = list(self.refused), 0
        for kept in self.checkpoints:
            fault = self._fault(kept, origin, tree_size, roots, origins, good)
            if fault is None:
                good = max(good, kept.tree_size) if kept.origin == origin else good
            else:
                found.append(fault)
        return found

    def _fault(
        self,
        kept: Checkpoint,
        origin: str,
        tree_size: int,
        roots: Mapping[int, bytes],
        origins: Origins,
        good: int,
    ) -> Fault | None:
        if kept.tree_size == 0 or roots.get(kept.tree_size) == kept.root:
            return None
        if kept.origin != origin:
            return self._foreign(kept, origin, origins)
        if kept.tree_size > tree_size:
            what = f"a checkpoint of {kept.tree_size} leaves was kept; the log has {tree_size}"
            return Fault(self.name, tree_size, what)
        return Fault(self.name, good, _changed(kept.tree_size, good), kept.tree_size)

    def _foreign(self, kept: Checkpoint, origin: str, origins: Origins) -> Fault | None:
        """One of an earlier origin must be known to the event that began a new one."""
        known = set(origins.begun.values())
        committed = [c for c in self.checkpoints if c.origin == kept.origin and c.digest() in known]
        if committed and kept.tree_size <= max(c.tree_size for c in committed):
            return None
        if not origins.begun:
            return Fault(self.name, None, f"a checkpoint is of the log {kept.origin}, not {origin}")
        what = (
            f"a checkpoint of {kept.tree_size} leaves of the log {kept.origin} was kept, and no"
            " event that began a new origin knows it"
        )
        return Fault(self.name, min(origins.begun), what)


def open_trusted(note: str, trusted: Trusted) -> Checkpoint:
    """A checkpoint that a key signed which is trusted for its origin; raises CheckpointError."""
    return open_checkpoint(note, trusted(read_unverified(note).origin))


def _changed(size: int, good: int) -> str:
    return (
        f"the first {size} leaves have another root than their checkpoint; the last that fits has"
        f" {good}, so a leaf from {good} on was changed"
    )
