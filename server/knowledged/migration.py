"""The migration files of a release: their names, their order, their checksums."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

_FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")


class MigrationError(Exception):
    """The database cannot be brought to our schema; the text tells the operator why."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    version: int
    name: str
    content: bytes

    @property
    def label(self) -> str:
        return f"{self.version:04d}_{self.name}"

    @property
    def checksum(self) -> bytes:
        """SHA-256 of the file's bytes."""
        return hashlib.sha256(self.content).digest()

    @property
    def in_transaction(self) -> bool:
        return self.content.split(b"\n", 1)[0].strip() != b"-- no transaction"


def latest_version(directory: Path | None = None) -> int:
    """The version that this release brings."""
    return len(read_directory(directory))


def read_directory(directory: Path | None = None) -> list[Migration]:
    """The files of `directory`, numbered 1, 2, 3 ... without gaps; None: those of this release."""
    directory = directory or _own_directory()
    migrations = [_read(file) for file in sorted(directory.glob("*.sql"))]
    if not migrations:
        raise MigrationError(f"{directory} holds no migrations")
    for expected, migration in enumerate(migrations, start=1):
        if migration.version != expected:
            raise MigrationError(
                f"migration {migration.label} stands where number {expected:04d} should: "
                "numbers start at 0001 and leave no gap"
            )
    return migrations


def _own_directory() -> Path:
    """Inside the installed package, or beside `server/` in the source tree."""
    package = Path(__file__).parent
    for directory in (package / "migrations", package.parent.parent / "migrations"):
        if directory.is_dir():
            return directory
    raise MigrationError("this installation carries no migrations")


def _read(file: Path) -> Migration:
    match = _FILE_NAME.fullmatch(file.name)
    if match is None:
        raise MigrationError(f"{file.name} is no name for a migration: it must be NNNN_name.sql")
    return Migration(int(match[1]), match[2], file.read_bytes())
