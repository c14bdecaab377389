"""The root secret, and the keys derived from it, so that all replicas share them."""

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KeyName = Literal["page-token", "query-hash", "key-encryption"]

_BYTES = 32


class SecretFileError(Exception):
    """The secret's file cannot be used."""


@dataclass(frozen=True, slots=True)
class RootSecret:
    """32 bytes or more that nobody else knows. Never shown by repr."""

    _secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self._secret) < _BYTES:
            raise SecretFileError(
                f"the secret key has {len(self._secret)} bytes; at least {_BYTES} are needed"
            )

    @classmethod
    def read(cls, path: Path) -> Self:
        """The file's bytes as they are; raises SecretFileError."""
        try:
            return cls(path.read_bytes())
        except OSError as error:
            raise SecretFileError(
                f"the secret key file cannot be read: {type(error).__name__}"
            ) from error

    @classmethod
    def read_or_make(cls, path: Path) -> Self:
        """As `read`; where there is no file, one is made (mode 0600) in an existing folder."""
        if not path.exists():
            write_once(path, secrets.token_bytes(_BYTES))
        return cls.read(path)

    def key(self, name: KeyName) -> bytes:
        """The 32-byte key for one purpose: HKDF-SHA256 (RFC 5869), no salt, info names it."""
        info = f"knowledged v1 {name}".encode()
        return HKDF(algorithm=SHA256(), length=_BYTES, salt=None, info=info).derive(self._secret)


def write_once(path: Path, content: bytes) -> None:
    """Makes a file that its owner alone may read (mode 0600); one that is there stays.

    Written beside and linked in: another process sees no file or a whole one, and one wins.
    """
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _link(draft, path)
    finally:
        draft.unlink()


def _link(draft: Path, path: Path) -> None:
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        return
