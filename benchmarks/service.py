"""The server under test: `knowledged serve` as a process of its own, on a new embedded PostgreSQL
with durable settings, and with tokens asked for."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_START_SECONDS = 120.0
_STOP_SECONDS = 30.0
_KNOWLEDGED = str(Path(sys.executable).with_name("knowledged"))
SERVE = (_KNOWLEDGED, "serve")


@dataclass(frozen=True, slots=True)
class Service:
    """A serving server: `address` is host:port, `dsn` that of its own role in its database, which
    lies in `data_dir`. `started_seconds` is how long it took from the command to SERVING.
    """

    data_dir: Path
    address: str
    token: str
    dsn: str
    pid: int
    postgres_pid: int
    started_seconds: float


@contextmanager
def new_data_folder() -> Generator[Path]:
    """PostgreSQL runs as another account under root, which must be able to enter it."""
    with tempfile.TemporaryDirectory(prefix="knowledged-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


@contextmanager
def serving(
    data_dir: Path, *, command: Sequence[str] = SERVE, **settings: str
) -> Generator[Service]:
    """Starts the server on a data folder, waits until it serves, and stops it at the end.

    `settings` are environment variables besides. With a KNOWLEDGED_DATABASE_URL it is a second
    server, beside the one that started the folder's PostgreSQL.
    """
    token, port = _token(data_dir), _free_port()
    environment = _environment(data_dir, port) | settings
    began = time.perf_counter()
    with (data_dir / "server.log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        address = f"127.0.0.1:{port}"
        _wait_until_serving(process, address)
        seconds = time.perf_counter() - began
        postmaster = (data_dir / "postgres/cluster/postmaster.pid").read_text().splitlines()
        dsn = _dsn(data_dir, postmaster[4])
        yield Service(data_dir, address, token, dsn, process.pid, int(postmaster[0]), seconds)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_STOP_SECONDS)


@contextmanager
def beside(
    service: Service, *, command: Sequence[str] = SERVE, **settings: str
) -> Generator[Service]:
    """Another server on the database of `service`, with settings of its own."""
    own = {
        "KNOWLEDGED_DATABASE_URL": service.dsn,
        "KNOWLEDGED_SECRET_KEY_FILE": str(service.data_dir / "secret.key"),
        "KNOWLEDGED_TEXT_WORKERS": "0",
    }
    with serving(service.data_dir, command=command, **own, **settings) as second:
        yield replace(second, postgres_pid=service.postgres_pid)


def _token(data_dir: Path) -> str:
    """An admin's token, in the access file that the server reads."""
    kept = data_dir / "token"
    if not kept.exists():
        arguments = ["--subject=bench", "--role=admin", f"--file={data_dir / 'access.yaml'}"]
        made = subprocess.run(
            [_KNOWLEDGED, "token", *arguments], check=True, capture_output=True, text=True
        )
        kept.write_text(made.stdout.strip())
    return kept.read_text()


def _environment(data_dir: Path, port: int) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("KNOWLEDGED_")}
    return kept | {
        "KNOWLEDGED_DATA_DIR": str(data_dir),
        "KNOWLEDGED_PORT": str(port),
        "KNOWLEDGED_METRICS_PORT": "0",
        "KNOWLEDGED_AUTH": "token",
        "KNOWLEDGED_ACCESS_FILE": str(data_dir / "access.yaml"),
        # What raw asyncpg is compared with; `auditing` tells what `durable` costs beside it.
        "KNOWLEDGED_AUDIT_READS": "eventual",
    }


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _wait_until_serving(process: subprocess.Popen[bytes], address: str) -> None:
    until = time.perf_counter() + _START_SECONDS
    options = [("grpc.initial_reconnect_backoff_ms", 20), ("grpc.max_reconnect_backoff_ms", 50)]
    with grpc.insecure_channel(address, options) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while not _is_serving(health):
            if process.poll() is not None or time.perf_counter() > until:
                raise RuntimeError("the server does not serve; see server.log in its data folder")
            time.sleep(0.02)


def _is_serving(health: health_pb2_grpc.HealthStub) -> bool:
    try:
        answer = health.Check(health_pb2.HealthCheckRequest(), timeout=1)
    except grpc.RpcError:
        return False
    return answer.status == health_pb2.HealthCheckResponse.SERVING


def _dsn(data_dir: Path, socket_folder: str) -> str:
    passwords = json.loads((data_dir / "postgres/passwords.json").read_text())
    password = passwords["knowledge_server"]
    return f"postgresql://knowledge_server:{password}@/knowledged?host={socket_folder}&port=5432"
