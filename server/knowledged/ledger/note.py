"""Signed notes: text that carries Ed25519 signatures, as C2SP signed-note has it.

    <text, which ends in a newline>
    <an empty line>
    — <key name> <base64 of the key id, 4 bytes, and the signature>

A key's id is the beginning of SHA-256(name || 0x0A || 0x01 || public key). Text forms of keys, as
Go's sumdb/note reads and writes them: `<name>+<id in hex>+<base64 of 0x01 and the public key>`,
and `PRIVATE+KEY+<name>+<id in hex>+<base64 of 0x01 and the seed>`.
Source: https://c2sp.org/signed-note
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

LONGEST_NOTE_BYTES = 64 * 1024
MOST_SIGNATURES = 100

_ED25519 = b"\x01"
_KEY_BYTES = 32
_ID_BYTES = 4
_DASH = "— "
_PRIVATE = "PRIVATE+KEY+"


class NoteError(ValueError):
    """A note or key is malformed, or nobody who is trusted signed it; says which."""


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key and the name it signs under."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        return key_id(self.name, self.public)

    @classmethod
    def parse(cls, text: str) -> Self:
        """From its text form; raises NoteError."""
        name, hint, key = _parts(text.strip())
        made = cls(name, key)
        if made.key_id.hex() != hint:
            raise NoteError("the key's id is not that of its name and key")
        return made

    def encode(self) -> str:
        key = base64.b64encode(_ED25519 + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{key}"

    def verifies(self, text: str, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text.encode())
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key (its seed, 32 bytes) and the name it signs under. Never shown by repr."""

    name: str
    seed: bytes = field(repr=False)

    @property
    def verifier(self) -> VerifierKey:
        return VerifierKey(self.name, self._key().public_key().public_bytes_raw())

    def signature(self, text: str) -> str:
        """The note's signature line."""
        signed = self.verifier.key_id + self._key().sign(text.encode())
        return f"{_DASH}{self.name} {base64.b64encode(signed).decode()}\n"

    def _key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)


@dataclass(frozen=True, slots=True)
class Note:
    """A note that was opened: its text, and the known keys that signed it."""

    text: str
    signed_by: tuple[VerifierKey, ...]


def key_id(name: str, public: bytes) -> bytes:
    """The 4 bytes by which a signature names its key."""
    digest = hashlib.sha256(f"{name}\n".encode() + _ED25519 + public).digest()
    return digest[:_ID_BYTES]


def check_name(name: str) -> None:
    """Raises NoteError for what cannot name a key: empty, with white space, or with a plus."""
    if not name or "+" in name or any(c.isspace() or not c.isprintable() for c in name):
        raise NoteError("a key's name must be printable, without spaces and without '+'")


def private_seed(text: str) -> bytes:
    """The seed of a private key in its text form; raises NoteError."""
    if not text.startswith(_PRIVATE):
        raise NoteError("it is no private key of a signed note")
    _, _, seed = _parts(text.strip().removeprefix(_PRIVATE))
    return seed


def sign(text: str, keys: Sequence[SigningKey]) -> str:
    """The note with a signature of each key."""
    _check_text(text)
    return text + "\n" + "".join(key.signature(text) for key in keys)


def open_note(note: str, keys: Iterable[VerifierKey]) -> Note:
    """The note's text and who signed it. Signatures of unknown keys are passed over.

    Raises NoteError when it is malformed, when none of `keys` signed it, or when a signature that
    claims one of them does not hold.
    """
    text, lines = _split(note)
    known = {(key.name, key.key_id): key for key in keys}
    claimed = [
        (known[name, hint], s) for name, hint, s in map(_signature, lines) if (name, hint) in known
    ]
    for key, signature in claimed:
        if not key.verifies(text, signature):
            raise NoteError(f"the signature of {key.name} does not hold")
    if not claimed:
        raise NoteError("no known key signed it")
    return Note(text, tuple(key for key, _ in claimed))


def _split(note: str) -> tuple[str, list[str]]:
    if len(note) > LONGEST_NOTE_BYTES:
        raise NoteError(f"a note has at most {LONGEST_NOTE_BYTES} bytes")
    text, blank, signatures = note.rpartition("\n\n")
    if not blank or not signatures.endswith("\n"):
        raise NoteError("it is no signed note: text, an empty line, and signatures")
    text += "\n"
    _check_text(text)
    lines = signatures.splitlines()
    if len(lines) > MOST_SIGNATURES:
        raise NoteError(f"a note has at most {MOST_SIGNATURES} signatures")
    return text, lines


def _check_text(text: str) -> None:
    if not text.endswith("\n") or any(c < " " and c != "\n" for c in text):
        raise NoteError("a note's text ends in a newline and has no other control character")


def _signature(line: str) -> tuple[str, bytes, bytes]:
    """Name, key id and signature of a line."""
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space:
        raise NoteError("a signature line is malformed")
    check_name(name)
    signed = _decoded(encoded)
    if len(signed) <= _ID_BYTES:
        raise NoteError("a signature line is malformed")
    return name, signed[:_ID_BYTES], signed[_ID_BYTES:]


def _parts(text: str) -> tuple[str, str, bytes]:
    """Name, key id in hex, and 32 bytes of key."""
    name, _, rest = text.partition("+")
    hint, _, encoded = rest.partition("+")
    check_name(name)
    key = _decoded(encoded)
    if key[:1] != _ED25519 or len(key) != 1 + _KEY_BYTES:
        raise NoteError("it is no Ed25519 key in the form name+id+base64")
    return name, hint, key[1:]


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise NoteError("its base64 is malformed") from None
