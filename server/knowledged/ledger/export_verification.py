"""Verifies an export, with nothing but it, public keys, and checkpoints that were kept."""

from collections.abc import Callable, Iterable, Sequence

from knowledged.ledger.checkpoints import Kept, Origins, Roots, Signatures, Trusted
from knowledged.ledger.checks import Fault, Shown, entry_checks
from knowledged.ledger.export import ExportError, Header, Reader
from knowledged.ledger.merkle import CompactRange, ProofError
from knowledged.ledger.verifier import Findings, Report, Verifier

FILE = "file"
END = "end"
CHECKS = (
    *(check.name for check in entry_checks()),
    Shown.name,
    Roots.name,
    Signatures.name,
    Kept.name,
    FILE,
    END,
)

_TOLD_EVERY = 1_000


class ExportVerification:
    """One run over the lines of an export. `told` is called with entries seen and due."""

    def __init__(
        self,
        trusted: Trusted,
        kept: Sequence[str] = (),
        checks: Sequence[str] = CHECKS,
        told: Callable[[int, int], None] = lambda seen, due: None,
    ) -> None:
        self._trusted = trusted
        self._kept = Kept.open(kept, trusted)
        self._checks = frozenset(checks)
        self._told = told
        self._findings = Findings(self._checks)
        self._origins = Origins()

    def run(self, lines: Iterable[bytes]) -> Report:
        """The report; raises ExportError when it is no export at all."""
        reader = Reader(lines)
        header = reader.header
        roots = self._roots(header)
        verifier = self._seen(reader, roots)
        self._end(header, roots)
        return Report(
            origin=header.origin,
            tree_size=header.tree_size,
            root=roots.tree.root(),
            entries=verifier.entries,
            erased=verifier.erased,
            hidden=verifier.hidden,
            checkpoints=1 + len(self._kept.checkpoints),
            faults=self._findings.ordered(),
            first_bad_index=self._findings.first_bad_index,
        )

    def _roots(self, header: Header) -> Roots:
        """Begins where the export does, and expects its checkpoint."""
        try:
            roots = Roots(CompactRange.decode(header.start_log_index, header.before))
        except ProofError as error:
            raise ExportError(f"the first line is no header: {error}") from error
        roots.want(self._kept.sizes)
        signed, fault = Signatures(self._trusted).see_note(header.checkpoint)
        self._findings.add(fault)
        if signed is not None:
            self._findings.add(roots.expect(signed.tree_size, signed.root))
            if (signed.origin, signed.tree_size) != (header.origin, header.tree_size):
                what = "the checkpoint is not of the log and size that the file names"
                self._findings.add(Fault(Signatures.name, 0, what))
        return roots

    def _seen(self, reader: Reader, roots: Roots) -> Verifier:
        start, due = reader.header.start_log_index, reader.header.tree_size
        rules = [rule for rule in (*entry_checks(start), Shown()) if rule.name in self._checks]
        verifier = Verifier([*rules, roots, self._origins], self._findings)
        try:
            for entry in reader.entries():
                verifier.see(entry)
                if verifier.entries % _TOLD_EVERY == 0:
                    self._told(verifier.entries, due - start)
        except ExportError as error:
            self._findings.add(Fault(FILE, start + verifier.entries, str(error)))
        verifier.end()
        self._told(verifier.entries, due - start)
        return verifier

    def _end(self, header: Header, roots: Roots) -> None:
        size, due = roots.tree.size, header.tree_size
        if size != due:
            what = f"the entries lead to {size} leaves; {due} are due"
            self._findings.add(Fault(END, min(size, due), what))
        # Of trees smaller than where the export begins nothing can be told.
        begin = header.start_log_index
        told = tuple(c for c in self._kept.checkpoints if c.tree_size > begin or not begin)
        kept = Kept(told, self._kept.refused)
        self._findings.extend(kept.faults(header.origin, due, roots.found, self._origins))
