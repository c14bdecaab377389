"""How an import goes: a bar in a terminal, now and then a line elsewhere, and what came of it."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from knowledged.commands.importer import Outcome, Report, Told
from knowledged.commands.printable import printable

_SECONDS_A_LINE = 5.0


@contextmanager
def shown_progress(console: Console, total: int) -> Generator[Told]:
    """Shows how far `total` documents are; what it gives is told of each outcome."""
    if console.is_terminal:
        with _bar(console) as progress:
            task = progress.add_task("importing", total=total)
            yield lambda _: progress.advance(task)
    else:
        yield _lines(console, total)


def show_report(console: Console, report: Report, seconds: float) -> None:
    """Counts and rate; then what failed and why."""
    counts = [f"{report.outcomes[o]:,} {o.value}" for o in Outcome if report.outcomes[o]]
    text = ", ".join(counts) or "nothing to import"
    written = report.outcomes[Outcome.CREATED] + report.outcomes[Outcome.UPDATED]
    rate = f", {written / seconds:,.0f} a second" if written else ""
    console.print(f"{text}; {seconds:.1f} s{rate}", soft_wrap=True, highlight=False)
    for failure in report.failures:
        line = printable(f"  {failure.where}: {failure.reason}")
        console.print(Text(line, style="red"), soft_wrap=True)
    unnamed = report.outcomes[Outcome.FAILED] - len(report.failures)
    if unnamed:
        console.print(f"  and {unnamed:,} more", highlight=False)
    if report.stopped is not None:
        line = printable(f"stopped: {report.stopped}; run it again to go on")
        console.print(Text(line, style="red"), soft_wrap=True)


class _Rate(ProgressColumn):
    """Documents a second, of late."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "", style="progress.data.speed")


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=console,
        refresh_per_second=4,
    )


def _lines(console: Console, total: int) -> Callable[[Outcome], None]:
    done, shown = 0, time.monotonic()

    def tell(_: Outcome) -> None:
        nonlocal done, shown
        done += 1
        if time.monotonic() - shown >= _SECONDS_A_LINE:
            shown = time.monotonic()
            console.print(f"{done:,} of {total:,}", highlight=False)

    return tell
