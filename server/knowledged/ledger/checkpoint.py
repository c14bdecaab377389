"""Checkpoints: the signed head of the tree, as C2SP tlog-checkpoint has it.

The note's text is the log's origin, the tree's size in decimal, and the root in base64, each on a
line of its own; more lines may follow and are passed over. The log signs under its origin's name.
Source: https://c2sp.org/tlog-checkpoint
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from knowledged.ledger.merkle import HASH_BYTES
from knowledged.ledger.note import NoteError, SigningKey, VerifierKey, open_note, sign

_SIZE = re.compile("0|[1-9][0-9]{0,18}")


class CheckpointError(ValueError):
    """A checkpoint is malformed, of another log, or not signed by a known key; says which."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log says of itself: so many leaves have this root."""

    origin: str
    tree_size: int
    root: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """From a note's text; raises CheckpointError."""
        lines = text.split("\n")
        if len(lines) < 4 or not all(lines[:-1]) or not _SIZE.fullmatch(lines[1]):
            raise CheckpointError("it is no checkpoint: origin, size and root, a line each")
        return cls(lines[0], int(lines[1]), _root(lines[2]))

    def text(self) -> str:
        root = base64.b64encode(self.root).decode()
        return f"{self.origin}\n{self.tree_size}\n{root}\n"

    def digest(self) -> str:
        """SHA-256 of the text in hex: how a later log names this checkpoint."""
        return hashlib.sha256(self.text().encode()).hexdigest()

    def signed(self, keys: Sequence[SigningKey]) -> str:
        """The note."""
        return sign(self.text(), keys)


def open_checkpoint(
    note: str, keys: Iterable[VerifierKey], origin: str | None = None
) -> Checkpoint:
    """The checkpoint of a note that one of `keys` signed under the checkpoint's own origin.

    Raises CheckpointError, also when it is of another log than `origin`.
    """
    read = read_unverified(note)
    if origin is not None and read.origin != origin:
        raise CheckpointError(f"it is of the log {read.origin}, not of {origin}")
    try:
        open_note(note, [key for key in keys if key.name == read.origin])
    except NoteError as error:
        raise CheckpointError(f"the checkpoint of {read.tree_size} leaves: {error}") from error
    return read


def read_unverified(note: str) -> Checkpoint:
    """What a note says, whoever signed it."""
    text, blank, _ = note.rpartition("\n\n")
    if not blank:
        raise CheckpointError("it is no signed note: text, an empty line, and signatures")
    return Checkpoint.parse(text + "\n")


def origin_of(note: str) -> str:
    """The origin that a note names, whoever signed it; empty for what is no checkpoint."""
    try:
        return read_unverified(note).origin
    except CheckpointError:
        return ""


def _root(text: str) -> bytes:
    try:
        root = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise CheckpointError("its root is no base64") from None
    if len(root) != HASH_BYTES:
        raise CheckpointError(f"its root has {len(root)} bytes; {HASH_BYTES} are due")
    return root
