"""What Linux says of processes: processor time and resident memory, from /proc."""

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class _Stat:
    """`ticks` is the process's own time, `reaped` that of its ended children (proc(5))."""

    pid: int
    parent: int
    ticks: int
    reaped: int


def cpu_seconds(pid: int) -> float:
    """User and system time of one process, all its threads."""
    return _stat(pid).ticks / _TICKS


def cpu_seconds_with_children(pid: int) -> float:
    """The same with its children, those that ended too: PostgreSQL is a process a connection."""
    mine = _stat(pid)
    return (mine.ticks + mine.reaped + sum(c.ticks for c in _children(pid))) / _TICKS


def resident_bytes(pid: int) -> int:
    """Memory of the process itself."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def _children(pid: int) -> list[_Stat]:
    return [stat for stat in map(_existing, _pids()) if stat and stat.parent == pid]


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _existing(pid: int) -> _Stat | None:
    try:
        return _stat(pid)
    except (FileNotFoundError, ProcessLookupError):
        return None


def _stat(pid: int) -> _Stat:
    # The name, in parentheses, may hold anything; the fields after it are numbers.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system, reaped_user, reaped_system = map(int, fields[11:15])
    return _Stat(pid, int(fields[1]), user + system, reaped_user + reaped_system)
