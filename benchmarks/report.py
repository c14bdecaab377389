"""What a run measured: a table to read, and a file to keep."""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Row:
    """One line: the median over the rounds with their range, what is asked of it, and details."""

    name: str
    median: float
    lowest: float
    highest: float
    target: str
    details: str


def row(name: str, values: Sequence[float], target: str, details: str = "") -> Row:
    return Row(name, statistics.median(values), min(values), max(values), target, details)


def show(rows: Sequence[Row]) -> None:
    table = Table("what", "median", "range", "target", "details", title=hardware()["cpu"])
    for each in rows:
        spread = f"{each.lowest:.3f}–{each.highest:.3f}"
        table.add_row(each.name, f"{each.median:.3f}", spread, each.target, each.details)
    Console(width=150).print(table)


def keep(rows: Sequence[Row], kind: str) -> Path:
    """Writes results/<date>-<kind>.json with the hardware and the versions."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{datetime.now(UTC):%Y-%m-%d}-{kind}.json"
    packages = {name: version(name) for name in ("grpcio", "asyncpg", "protobuf", "uvloop")}
    kept = {"hardware": hardware(), "versions": packages, "rows": [asdict(r) for r in rows]}
    file.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n")
    return file


def hardware() -> dict[str, str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(": ")[1] for line in lines if line.startswith("model name")), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": f"{model}, {os.cpu_count()} cores",
        "memory": f"{memory / 2**30:.0f} GiB",
        "system": platform.platform(),
        "load_before": f"{os.getloadavg()[0]:.1f}",
    }
