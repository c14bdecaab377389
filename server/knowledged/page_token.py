"""Page tokens: a position in a list, sealed so that nobody can read, change or borrow it.

A token is base64url, unpadded: 12 nonce bytes, then AES-256-GCM-SIV (RFC 8452) over the position
with the binding as associated data. GCM-SIV, since every page of every replica draws a random
nonce under one key: with plain GCM a repeated nonce would allow forgeries.
"""

import binascii
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from knowledged.errors import Invalid, Violation

Value = str | int | float | bool | UUID | datetime | None
Position = tuple[Value, ...]

_NONCE_BYTES = 12
_TAG_BYTES = 16
_LONGEST = 8_192


class PageTokens:
    """Seals and opens page tokens under one 32-byte key."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCMSIV(key)

    def seal(self, position: Position, binding: bytes) -> str:
        """A token that `open` turns back into `position`, given the same binding."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, _encode(position), binding)
        return _wrap(nonce + sealed)

    def open(self, token: str, binding: bytes) -> Position:
        """The position; raises Invalid when the token is forged, changed or for another query."""
        try:
            raw = _unwrap(token)
            return _decode(self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], binding))
        except (ValueError, InvalidTag):
            raise Invalid(
                Violation("page_token", "is not one that this query was given"),
                reason="PAGE_TOKEN_INVALID",
            ) from None


def binding(method: str, grant: frozenset[str] | None, *query: str | bytes) -> bytes:
    """What a token is good for: SHA-256 over the method, the caller's collections, and the query.

    `query` is all that shapes the list, in a fixed order: parent, filter, filter values
    (serialised deterministically), order, view. Page size may change between pages.
    """
    collections = ("all",) if grant is None else ("only", *sorted(grant))
    parts = [part.encode() for part in (method, str(len(collections)), *collections)]
    parts += [part.encode() if isinstance(part, str) else part for part in query]
    digest = sha256()
    for part in parts:
        # Length first, so that no two lists of parts give the same bytes.
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


def _wrap(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _unwrap(token: str) -> bytes:
    if len(token) > _LONGEST:
        raise ValueError("too long")
    try:
        raw = urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except binascii.Error as error:
        raise ValueError("not base64") from error
    # The decoder skips strange letters and spare bits: only what we would write is ours.
    if len(raw) < _NONCE_BYTES + _TAG_BYTES or _wrap(raw) != token:
        raise ValueError("not one of ours")
    return raw


# A value goes as [tag, text], so that it comes back with its type and every bit: JSON alone
# would lose 1 against 1.0, large integers and infinities.
_WRITE: dict[type, tuple[str, Callable[..., str]]] = {
    str: ("s", str),
    bool: ("b", str),
    int: ("i", str),
    float: ("f", float.hex),
    UUID: ("u", str),
    datetime: ("t", datetime.isoformat),
    type(None): ("n", str),
}
_READ: dict[str, Callable[[str], Value]] = {
    "s": str,
    "b": "True".__eq__,
    "i": int,
    "f": float.fromhex,
    "u": UUID,
    "t": datetime.fromisoformat,
    "n": lambda text: None,
}


def _encode(position: Position) -> bytes:
    return json.dumps([_tagged(value) for value in position], separators=(",", ":")).encode()


def _tagged(value: Value) -> tuple[str, str]:
    kind = UUID if isinstance(value, UUID) else type(value)  # asyncpg has a UUID of its own
    tag, write = _WRITE[kind]
    return tag, write(value)


def _decode(sealed: bytes) -> Position:
    return tuple(_READ[tag](text) for tag, text in json.loads(sealed))
