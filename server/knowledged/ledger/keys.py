"""The keys that sign checkpoints: private ones from a file, and public ones that are known beside.

A key file holds one Ed25519 key or several, each as PEM (PKCS #8, as `openssl genpkey -algorithm
ed25519` writes it) or as a line `PRIVATE+KEY+…` of C2SP signed-note. All of them sign: so a new key
comes in beside the old one, and the old one goes when everybody knows the new one. A file of known
keys holds public ones, `<name>+<id>+<base64>`, a line each.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from knowledged.ledger.note import NoteError, SigningKey, VerifierKey, private_seed
from knowledged.secret import write_once

_BLOCK = re.compile("-----BEGIN [^-]+-----.+?-----END [^-]+-----|^PRIVATE\\+KEY\\+.*$", re.S | re.M)


class KeyFileError(Exception):
    """A file of keys cannot be used; says why, and shows nothing of it."""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """What signs, and who is trusted beside. Never shown by repr."""

    seeds: tuple[bytes, ...] = field(repr=False)
    known: tuple[VerifierKey, ...] = ()

    @classmethod
    def read(cls, private: Path, known: Path | None) -> Self:
        """From both files; raises KeyFileError."""
        return cls(tuple(read_seeds(private)), tuple(read_known(known) if known else ()))

    def signing(self, origin: str) -> list[SigningKey]:
        """The private keys, under the name of the log that they sign for."""
        return [SigningKey(origin, seed) for seed in self.seeds]

    def trusted(self, origin: str) -> list[VerifierKey]:
        """Whose signature counts for the log `origin`."""
        own = [key.verifier for key in self.signing(origin)]
        return [*own, *(key for key in self.known if key.name == origin and key not in own)]


def read_seeds(path: Path) -> list[bytes]:
    """The seeds of the private keys in a file, 32 bytes each; raises KeyFileError."""
    seeds = [_seed(block) for block in _BLOCK.findall(_text(path))]
    if not seeds:
        raise KeyFileError("it holds no private key, neither PEM nor PRIVATE+KEY+…")
    return seeds


def read_known(path: Path) -> list[VerifierKey]:
    """The public keys in a file; empty lines and those with # are passed over."""
    lines = [line.strip() for line in _text(path).splitlines()]
    return parse_known([line for line in lines if line and not line.startswith("#")])


def parse_known(texts: Sequence[str]) -> list[VerifierKey]:
    """From their text forms; raises KeyFileError."""
    try:
        return [VerifierKey.parse(text) for text in texts]
    except NoteError as error:
        raise KeyFileError(str(error)) from error


def make_key_file(path: Path) -> None:
    """A new key as PEM, mode 0600; a file that is there stays."""
    key = Ed25519PrivateKey.generate()
    write_once(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _seed(block: str) -> bytes:
    try:
        if not block.startswith("-"):
            return private_seed(block)
        key = load_pem_private_key(block.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileError("a private key in it cannot be read") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError("a private key in it is not Ed25519")
    return key.private_bytes_raw()


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"cannot be read: {type(error).__name__}") from error
