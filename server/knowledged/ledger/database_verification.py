"""Verifies the whole log where it is stored: what an export shows, and what it cannot show.

It needs no snapshot of its own, so it may take hours: what stands in the tree below the size that
it begins with never changes, and every rule between tables is one statement.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from asyncpg import Record

from knowledged.audit_leaf import Leaf, Payload
from knowledged.connection import Connection
from knowledged.ledger.checkpoints import Kept, Origins, Roots, Signatures, Trusted
from knowledged.ledger.checks import Fault, StoredTiles, entry_checks
from knowledged.ledger.entry import Entry
from knowledged.ledger.verifier import Findings, Report, Verifier
from knowledged.store import ledger, ledger_checks, ledger_entries

Read = Callable[[], AbstractAsyncContextManager[Connection]]

STATE = "state"
CHECKS = (
    *(check.name for check in entry_checks()),
    Roots.name,
    StoredTiles.name,
    Signatures.name,
    Origins.name,
    Kept.name,
    STATE,
    *ledger_checks.RULES,
)
"""The names of all checks, as faults carry them."""

_PAGE = 1_024
_CHECKPOINTS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Progress:
    """So many entries are seen, of so many; the first bad index so far."""

    entries: int
    tree_size: int
    first_bad_index: int | None


class DatabaseVerification:
    """One run: `read` gives connections, `kept` are notes from outside, `checks` is what counts."""

    def __init__(
        self,
        read: Read,
        trusted: Trusted,
        kept: Sequence[str] = (),
        checks: Sequence[str] = CHECKS,
    ) -> None:
        self._read = read
        self._checks = frozenset(checks)
        self._roots, self._origins, self._tiles = Roots(), Origins(), StoredTiles()
        self._signatures = Signatures(trusted)
        self._kept = Kept.open(kept, trusted)
        self._checkpoints = 0
        beside = (self._roots, self._origins, self._tiles)
        chosen = [check for check in entry_checks() if check.name in self._checks]
        self._verifier = Verifier([*chosen, *beside], Findings(self._checks))
        self._head: Record | None = None

    @property
    def findings(self) -> Findings:
        return self._verifier.findings

    async def run(self) -> AsyncGenerator[Progress]:
        """Sees everything once; tells how far it is after each page, and at the end."""
        async with self._read() as conn:
            self._head = await ledger_entries.head(conn)
        size = self._head["tree_size"] if self._head else 0
        self._roots.want([*self._kept.sizes])
        for begin in range(0, size, _PAGE):
            end = min(begin + _PAGE, size)
            async with self._read() as conn:
                await self._page(conn, begin, end)
            yield self._progress(end, size)
        self._end(size)
        for rule in ledger_checks.RULES:
            if rule in self._checks:
                async with self._read() as conn:
                    what = await ledger_checks.broken(conn, rule)
                self.findings.add(Fault(rule, None, what) if what else None)
        yield self._progress(size, size)

    def report(self) -> Report:
        """What was found; once `run` has ended."""
        head, verifier = self._head, self._verifier
        return Report(
            origin=head["origin"] if head else "",
            tree_size=head["tree_size"] if head else 0,
            root=self._roots.tree.root(),
            entries=verifier.entries,
            erased=verifier.erased,
            hidden=0,
            checkpoints=self._checkpoints,
            faults=self.findings.ordered(),
            first_bad_index=self.findings.first_bad_index,
        )

    def _progress(self, entries: int, size: int) -> Progress:
        return Progress(entries, size, self.findings.first_bad_index)

    async def _page(self, conn: Connection, begin: int, end: int) -> None:
        stored = [kept async for kept in _checkpoints(conn, begin, end)]
        rows = await ledger_entries.entries(conn, None, begin, end)
        # Beside the event loop: a page is some milliseconds of hashing.
        due = await asyncio.to_thread(self._see, stored, rows)
        self.findings.add(self._tiles.compare(due, await ledger.tiles(conn, due)))

    def _see(
        self, stored: Sequence[ledger.KeptCheckpoint], rows: Sequence[Record]
    ) -> dict[tuple[int, int], bytes]:
        opened = [self._signatures.see(kept.note, kept.tree_size, kept.root) for kept in stored]
        self._checkpoints += len(stored)
        self.findings.extend(fault for _, fault in opened)
        checkpoints = [checkpoint for checkpoint, _ in opened if checkpoint]
        self.findings.extend(self._roots.expect(kept.tree_size, kept.root) for kept in stored)
        for entry in map(entry_of, rows):
            self._verifier.see(entry)
        self.findings.extend(self._origins.next(checkpoint) for checkpoint in checkpoints)
        return self._tiles.due()

    def _end(self, size: int) -> None:
        self._verifier.end()
        origin = self._head["origin"] if self._head else ""
        self.findings.extend(self._kept.faults(origin, size, self._roots.found, self._origins))
        self.findings.extend(_state_faults(self._head, self._roots))


def _state_faults(head: Record | None, roots: Roots) -> Iterator[Fault]:
    """What the state says against the leaves and the checkpoints that are there."""
    if head is None:
        yield Fault(STATE, None, "the row of knowledge.audit_state is gone")
        return
    size, end = head["tree_size"], head["leaf_end"]
    if end != size:
        yield Fault(STATE, min(size, end), f"the state counts {size} leaves; they end at {end}")
    elif head["compact_range"] != roots.tree.encode():
        yield Fault(STATE, None, "the state's hashes do not follow from the leaves")
    if head["signed_size"] != head["checkpoint_size"]:
        what = "the state says {} leaves are signed; the last checkpoint has {}"
        told = what.format(head["signed_size"], head["checkpoint_size"])
        yield Fault(STATE, min(head["signed_size"], head["checkpoint_size"]), told)


async def _checkpoints(
    conn: Connection, begin: int, end: int
) -> AsyncGenerator[ledger.KeptCheckpoint]:
    """Those of more than `begin` leaves and at most `end`; with the first leaf also of none."""
    begin = begin or -1
    while page := await ledger.checkpoints(conn, begin, _CHECKPOINTS_AT_ONCE):
        for kept in page:
            if kept.tree_size > end:
                return
            yield kept
        begin = page[-1].tree_size


def entry_of(row: Record) -> Entry:
    """A row of store.ledger_entries as an entry."""
    return Entry(
        row["log_index"],
        row["event_id"],
        row["leaf_hash"],
        row["leaf"],
        row["salt"],
        row["payload"],
        _columns(row) if row["found"] else None,
        _payload_columns(row) if row["payload"] is not None else None,
    )


def _columns(row: Record) -> Leaf:
    return Leaf(
        row["found"],
        row["occurred_at"],
        row["audit_class"],
        row["outcome"],
        row["grpc_code"],
        row["collection_uid"],
        row["result_count"],
        row["rpc"],
        row["action"],
        row["payload_commit"],
    )


def _payload_columns(row: Record) -> Payload:
    return Payload(
        row["actor"],
        row["on_behalf_of"],
        row["purpose"],
        row["peer"],
        row["call_id"],
        tuple(row["resources"]),
        tuple(row["subject_ids"]),
        tuple(row["returned_uids"]),
    )
