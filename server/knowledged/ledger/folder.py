"""A folder that keeps checkpoints outside the database.

`checkpoint` is the latest note, replaced whole; `checkpoints-YYYY-MM-DD.jsonl` has one line for
each, `{"time": …, "note": …}`, appended. What verifies reads notes, such lines, and whole folders.
"""

import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from knowledged.ledger.checkpoint import CheckpointError, read_unverified

LATEST = "checkpoint"


class FolderError(Exception):
    """A folder or file of checkpoints cannot be used; says why."""


@dataclass(frozen=True, slots=True)
class CheckpointFolder:
    """Where checkpoints of one log are kept."""

    path: Path

    def latest(self) -> str | None:
        """The latest note; None while there is none. Raises FolderError if it cannot be read."""
        file = self.path / LATEST
        try:
            return file.read_text("utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise FolderError(f"{LATEST} cannot be read: {type(error).__name__}") from error

    def keep(self, note: str) -> None:
        """Appends the note and makes it the latest; on disk when this returns."""
        now = datetime.now(UTC)
        line = json.dumps({"time": now.isoformat(), "note": note}, ensure_ascii=False)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            _append(self.path / f"checkpoints-{now:%Y-%m-%d}.jsonl", f"{line}\n")
            if self._goes_on(note):
                _replace(self.path / LATEST, note)
        except OSError as error:
            raise FolderError(f"cannot be written: {type(error).__name__}") from error

    def _goes_on(self, note: str) -> bool:
        """False for a smaller one of the same log, which another replica has passed already."""
        before = self.latest()
        if before is None:
            return True
        old, new = read_unverified(before), read_unverified(note)
        return old.origin != new.origin or old.tree_size < new.tree_size


def read_notes(path: Path) -> list[str]:
    """The notes of a file (one note, or JSON lines) or of all such files in a folder.

    Raises FolderError for what is neither, and for a folder without any.
    """
    files = list(_files(path)) if path.is_dir() else [path]
    notes = [note for file in files for note in _notes(file)]
    if not notes:
        raise FolderError(f"{path.name}: holds no checkpoints")
    return list(dict.fromkeys(notes))


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.glob("checkpoints-*.jsonl"))
    yield from folder.glob(LATEST)


def _notes(file: Path) -> list[str]:
    try:
        text = file.read_text("utf-8")
        if not text.startswith("{"):
            read_unverified(text)
            return [text]
        return [json.loads(line)["note"] for line in text.splitlines()]
    except OSError as error:
        raise FolderError(f"{file.name}: cannot be read: {type(error).__name__}") from error
    except (CheckpointError, ValueError, KeyError, TypeError) as error:
        raise FolderError(f"{file.name}: holds no checkpoints: {error}") from error


def _append(file: Path, line: str) -> None:
    with file.open("a", encoding="utf-8") as opened:
        opened.write(line)
        opened.flush()
        os.fsync(opened.fileno())


def _replace(file: Path, text: str) -> None:
    draft = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    try:
        with draft.open("x", encoding="utf-8") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
