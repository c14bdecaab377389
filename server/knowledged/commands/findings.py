"""What a verification found, for people."""

from rich.console import Console

from knowledged.commands.printable import printable
from knowledged.ledger.verifier import Report

GOOD, BAD, UNUSABLE = 0, 1, 2


def show_report(console: Console, report: Report) -> int:
    """Prints how it ended; the command's exit code."""
    events = f"{report.entries:,} of {report.tree_size:,} events of {printable(report.origin)}"
    beside = f"{report.checkpoints:,} checkpoints, {report.erased:,} payloads erased"
    hidden = f", {report.hidden:,} shown by their hash alone" if report.hidden else ""
    console.print(f"{events}; {beside}{hidden}", highlight=False)
    if not report.faults:
        console.print(f"GOOD  root {report.root.hex()}", style="green", highlight=False)
        return GOOD
    first = report.first_bad_index
    where = "outside the tree" if first is None else f"at index {first}"
    console.print(f"BAD  first {where}", style="red", highlight=False)
    for fault in report.faults:
        place = "-" if fault.log_index is None else str(fault.log_index)
        until = f"–{fault.until - 1}" if fault.until else ""
        line = f"  {place}{until}  {fault.check}: {printable(fault.what)}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return BAD
