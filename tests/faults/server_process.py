"""A real `knowledged serve` in a process of its own, to be killed, stopped and started again."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlencode

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from knowledged.connection import Connection, connect
from knowledged.embedded import postmaster

KNOWLEDGED = Path(sys.executable).with_name("knowledged")
START_SECONDS = 60.0
STOP_SECONDS = 30.0

_LISTENS = re.compile(r"^knowledged serves .* at 127\.0\.0\.1:(\d+);", re.MULTILINE)


def environment(**settings: object) -> dict[str, str]:
    """Ours without any setting of the server's but `settings`, by their lower-case names."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("KNOWLEDGED_")}
    return own | {f"KNOWLEDGED_{name.upper()}": str(value) for name, value in settings.items()}


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def reachable_folder() -> Generator[Path]:
    """A folder that every account may enter; pytest's own are private."""
    folder = Path(tempfile.mkdtemp(prefix="knowledged-faults-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


class ServerProcess:
    """One server after the other on the same port and settings; all write the same log.

    Without `database_url` among the settings each runs an embedded PostgreSQL below `folder`.
    """

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        self.port = 0
        self.log = folder / "server.log"
        self.log.touch()
        self._settings = {"data_dir": folder, "metrics_port": 0} | settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def peak_memory_bytes(self) -> int:
        """The most that the running one has had resident, as Linux tells it."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (kib,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
        return int(kib) * 1024

    def start(self) -> float:
        """Starts one and waits until it is SERVING; how many seconds that took."""
        began, seen = time.monotonic(), self.log.stat().st_size
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [KNOWLEDGED, "serve"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(**self._settings | {"port": self.port}),
            )
        self.port = _wait_for(lambda: self._port(seen))
        with grpc.insecure_channel(self.address) as channel:
            stub = HealthStub(channel)
            _wait_for(lambda: _is_serving(stub))
        return time.monotonic() - began

    def kill(self) -> None:
        """SIGKILL: nothing is tidied up; an embedded PostgreSQL goes on alone."""
        self.signal(signal.SIGKILL)
        self.wait()

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self) -> int:
        """The exit code, once it has ended."""
        assert self._process is not None
        return self._process.wait(STOP_SECONDS)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log_text(self) -> str:
        return self.log.read_text()

    def log_lines(self) -> Iterator[dict[str, object]]:
        """What it logged, without its greetings."""
        for line in self.log_text().splitlines():
            if line.startswith("{"):
                yield json.loads(line)

    def own_bugs(self) -> list[dict[str, object]]:
        """Lines that only a bug of ours writes."""
        bad = {"rpc_bug", "loop_error"}
        return [x for x in self.log_lines() if x["event"] in bad or x.get("code") == "INTERNAL"]

    def _log_from(self, offset: int) -> str:
        return self.log.read_bytes()[offset:].decode()

    def _port(self, seen: int) -> int | None:
        if not self.is_running():
            raise AssertionError(f"the server ended at its start: {self._log_from(seen)}")
        found = _LISTENS.search(self._log_from(seen))
        return int(found[1]) if found else None


def _wait_for(ask: Callable[[], int | None]) -> int:
    """What `ask` answers as soon as that is something."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if answer := ask():
            return answer
        time.sleep(0.02)
    raise AssertionError(f"the server did not start within {START_SECONDS} s")


def _is_serving(stub: HealthStub) -> bool:
    with suppress(grpc.RpcError):
        answer = stub.Check(HealthCheckRequest(), timeout=1)
        return answer.status == HealthCheckResponse.SERVING
    return False


@asynccontextmanager
async def server_process(**settings: object) -> AsyncGenerator[ServerProcess]:
    """A serving server with a folder of its own; whatever happens, nothing is left running."""
    with reachable_folder() as folder:
        server = ServerProcess(folder, **settings)
        try:
            server.start()
            yield server
        finally:
            await end(server)


async def end(server: ServerProcess) -> None:
    """Stops the server, or what a killed one left behind."""
    if server.is_running():
        await asyncio.to_thread(server.stop)
    await postmaster.stop_leftover(server.folder / "postgres/cluster")


@asynccontextmanager
async def superuser(server: ServerProcess) -> AsyncGenerator[Connection]:
    """A connection to the server's embedded PostgreSQL."""
    home = server.folder / "postgres"
    password = json.loads((home / "passwords.json").read_text())["postgres"]
    query = urlencode({"host": home / "socket", "port": "5432", "sslmode": "disable"})
    conn = await connect(f"postgresql://postgres:{password}@/knowledged?{query}")
    try:
        yield conn
    finally:
        await conn.close()
