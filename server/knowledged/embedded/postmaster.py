"""One PostgreSQL server process: make its cluster, start it, stop it, stop a leftover one."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from knowledged.embedded.home import Account, EmbeddedError

_POLL_SECONDS = 0.01
# Crash recovery may have to replay up to max_wal_size.
_START_SECONDS = 120.0
_FAST_STOP_SECONDS = 30.0
_IMMEDIATE_STOP_SECONDS = 5.0
# Processes of a killed postmaster need a moment to notice, and hold its shared memory until then.
_LINGER_SECONDS = 10.0
_TOO_OLD_A_CPU = (
    "the embedded PostgreSQL is compiled for newer processors than this one: "
    "set KNOWLEDGED_DATABASE_URL to a PostgreSQL with pgvector"
)


def processor_too_old() -> EmbeddedError:
    return EmbeddedError(_TOO_OLD_A_CPU)


_DROP_RIGHTS = """
import os, sys
os.setgroups([])
os.setgid(int(sys.argv[1]))
os.setuid(int(sys.argv[2]))
os.execv(sys.argv[3], sys.argv[3:])
"""


@dataclass(frozen=True, slots=True)
class Installation:
    """What a server process is made of. `binaries`: the folder of initdb and postgres."""

    binaries: Path
    cluster: Path
    log: Path
    account: Account

    @property
    def pid_file(self) -> Path:
        return self.cluster / "postmaster.pid"

    def popen(self, program: str, *arguments: str, output: IO[bytes]) -> subprocess.Popen[bytes]:
        """Runs a program as the account: without our environment, out of the terminal's reach."""
        command = [str(self.binaries / program), "-D", str(self.cluster), *arguments]
        return subprocess.Popen(
            self._as_account(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
            start_new_session=True,
        )

    def _as_account(self, command: list[str]) -> list[str]:
        """The command behind one that drops our rights and becomes it.

        Popen's own `user` makes Python fork instead of vfork, and gRPC's fork handlers, where there
        are gRPC objects already, crash the child.
        """
        if not self.account.is_other:
            return command
        ids = str(self.account.gid), str(self.account.uid)
        return [sys.executable, "-ISc", _DROP_RIGHTS, *ids, *command]


async def make_cluster(installation: Installation, password_file: Path, *, durable: bool) -> None:
    """initdb; the superuser `postgres` gets the password that the first line of the file holds."""
    installation.account.owns(installation.cluster)
    arguments = [
        "--username=postgres",
        f"--pwfile={password_file}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--no-locale",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--data-checksums",
        "--no-instructions",
        *([] if durable else ["--no-sync"]),
    ]
    with installation.log.open("ab") as log:
        process = installation.popen("initdb", *arguments, output=log)
    try:
        code = await asyncio.to_thread(process.wait)
    finally:
        process.kill()
    if code != 0:
        raise _failure("initdb", code, installation.log)


async def start(installation: Installation, settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Starts the server and waits until it takes connections, through crash recovery if need be."""
    until = time.monotonic() + _LINGER_SECONDS
    while True:
        process = _launch(installation, settings)
        try:
            await _wait_until_ready(installation, process)
        except EmbeddedError:
            if not _shares_memory(installation.log) or time.monotonic() > until:
                raise
            await asyncio.sleep(0.1)
        except BaseException:
            await stop(process)
            raise
        else:
            return process


def _launch(installation: Installation, settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with installation.log.open("wb") as log:
        return installation.popen("postgres", *options, output=log)


async def _wait_until_ready(installation: Installation, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _START_SECONDS
    while not _is_ready(installation.pid_file, process.pid):
        code = process.poll()
        if code is not None:
            raise _failure("postgres", code, installation.log)
        if time.monotonic() > until:
            await stop(process)
            raise EmbeddedError(f"PostgreSQL did not start within {_START_SECONDS:.0f} s")
        await asyncio.sleep(_POLL_SECONDS)


def _is_ready(pid_file: Path, pid: int) -> bool:
    """Line 1 of postmaster.pid is the process id, line 8 the state."""
    lines = _read_lines(pid_file)
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _read_lines(file: Path) -> list[str]:
    with suppress(FileNotFoundError):
        return file.read_text(errors="replace").splitlines()
    return []


def _failure(program: str, code: int, log: Path) -> EmbeddedError:
    if code == -signal.SIGILL:
        return processor_too_old()
    last = next(reversed(_read_lines(log)), "no output")
    return EmbeddedError(f"{program} ended with code {code}: {last} (more in {log})")


def _shares_memory(log: Path) -> bool:
    return any("shared memory block" in line for line in _read_lines(log))


async def stop(process: subprocess.Popen[bytes]) -> None:
    """Fast shutdown: open transactions are rolled back, a checkpoint is written; then no doubt."""
    for number, seconds in (
        (signal.SIGINT, _FAST_STOP_SECONDS),
        (signal.SIGQUIT, _IMMEDIATE_STOP_SECONDS),
    ):
        if process.poll() is None:
            process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(process.wait, seconds)
            return
    process.kill()
    process.wait()


async def stop_leftover(cluster: Path) -> None:
    """Stops the server that a killed process of ours left behind, or clears away its pid file.

    The caller holds the lock of the data folder, so a running server has no other owner.
    """
    pid_file = cluster / "postmaster.pid"
    lines = _read_lines(pid_file)
    if not lines:
        return
    pid = int(lines[0]) if lines[0].isdigit() else 0
    for number, seconds in (
        (signal.SIGINT, _FAST_STOP_SECONDS),
        (signal.SIGQUIT, _IMMEDIATE_STOP_SECONDS),
    ):
        if await _ended(pid, cluster, number, seconds):
            break
    else:
        raise EmbeddedError(f"the former PostgreSQL (process {pid}) does not stop: end it by hand")
    pid_file.unlink(missing_ok=True)
    _remove_socket_folder(lines)


async def _ended(pid: int, cluster: Path, number: signal.Signals, seconds: float) -> bool:
    until = time.monotonic() + seconds
    if _serves(pid, cluster):
        os.kill(pid, number)
    while _serves(pid, cluster):
        if time.monotonic() > until:
            return False
        await asyncio.sleep(_POLL_SECONDS)
    return True


def _serves(pid: int, cluster: Path) -> bool:
    """Whether `pid` is a postmaster of this cluster: ids of the dead are given out again."""
    return pid > 0 and str(cluster) in _command_line(pid)


def _command_line(pid: int) -> list[str]:
    if Path("/proc/self/cmdline").exists():
        with suppress(FileNotFoundError, ProcessLookupError):
            return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).split("\0")
        return []
    listed = subprocess.run(
        ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, check=False
    )
    return os.fsdecode(listed.stdout).split()


def _remove_socket_folder(pid_lines: list[str]) -> None:
    """Line 5 of postmaster.pid is the socket folder; a temporary one would stay for ever."""
    if len(pid_lines) >= 5 and pid_lines[4].startswith("/"):
        folder = Path(pid_lines[4])
        with suppress(OSError):
            for name in (".s.PGSQL.5432", ".s.PGSQL.5432.lock"):
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()
