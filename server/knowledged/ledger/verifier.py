"""Runs checks over the log's entries and keeps the first fault of each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from knowledged.audit_leaf import Leaf, MalformedEvent
from knowledged.ledger.checks import Check, Fault, Presence
from knowledged.ledger.entry import Entry


@dataclass(frozen=True, slots=True)
class Report:
    """How it ended. Good when `faults` is empty; they come in the order of the log."""

    origin: str
    tree_size: int
    root: bytes
    entries: int
    erased: int
    hidden: int
    checkpoints: int
    faults: list[Fault] = field(default_factory=list[Fault])
    first_bad_index: int | None = None


@dataclass(slots=True)
class Findings:
    """The first fault that each check found. Others than `checks` do not count; None: all do."""

    checks: frozenset[str] | None = None
    by_check: dict[str, Fault] = field(default_factory=dict[str, Fault])

    def add(self, fault: Fault | None) -> None:
        if fault is not None and (self.checks is None or fault.check in self.checks):
            self.by_check.setdefault(fault.check, fault)

    def extend(self, faults: Iterable[Fault | None]) -> None:
        for fault in faults:
            self.add(fault)

    def ordered(self) -> list[Fault]:
        """The lowest index first; what has no index comes last."""
        return sorted(self.by_check.values(), key=_place)

    @property
    def first_bad_index(self) -> int | None:
        """Up to this one the log is what it says; None when no fault has a place in it.

        Where only a range is known to be bad, and no exact place in it, that is where it begins.
        """
        placed = [f for f in self.by_check.values() if f.log_index is not None]
        exact = [f.log_index or 0 for f in placed if f.until is None]
        ranges = [(f.log_index or 0, f.until) for f in placed if f.until is not None]
        open_ranges = [
            begin for begin, end in ranges if not any(begin <= place < end for place in exact)
        ]
        return min([*exact, *open_ranges], default=None)


@dataclass(slots=True)
class Verifier:
    """Sees every entry once, in the order of the log."""

    checks: Sequence[Check]
    findings: Findings = field(default_factory=Findings)
    entries: int = 0
    erased: int = 0
    hidden: int = 0

    def see(self, entry: Entry) -> None:
        leaf = _leaf(entry)
        self.entries += 1
        self.hidden += entry.hidden
        self.erased += entry.leaf is not None and entry.payload is None
        for check in self.checks:
            self.findings.add(check.see(entry, leaf))

    def end(self) -> None:
        """Once all entries are seen: what can only be told then."""
        for check in self.checks:
            if isinstance(check, Presence):
                self.findings.extend(check.end())


def _leaf(entry: Entry) -> Leaf | None:
    try:
        return Leaf.decode(entry.leaf) if entry.leaf is not None else None
    except MalformedEvent:
        return None


def _place(fault: Fault) -> tuple[bool, int, str]:
    return fault.log_index is None, fault.log_index or 0, fault.check
