"""Keys at rest: AES-256-GCM under a key that is derived from the root secret.

A sealed key is stored as nonce (12 bytes) and ciphertext with its tag (16 bytes), beside the id of
the key-encrypting key (KEK): the first 16 hex digits of its SHA-256. Format: NIST SP 800-38D. The
associated data names the provider, so that a sealed key fits nowhere else.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from knowledged.credentials.api_key import ApiKey
from knowledged.secret import RootSecret

# Random nonces: keys are set by hand, so 2^32 of them under one KEK are out of reach.
_NONCE_BYTES = 12


class Unreadable(Exception):
    """No KEK we have opens it: sealed under another root secret, or changed since."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A key as it is stored."""

    kek_id: str
    nonce: bytes = field(repr=False)
    ciphertext: bytes = field(repr=False)


class Vault:
    """Seals under the first root secret's KEK, and opens what any of them sealed."""

    def __init__(self, secrets: Sequence[RootSecret]) -> None:
        keks = [secret.key("key-encryption") for secret in secrets]
        self._keks = {sha256(kek).hexdigest()[:16]: AESGCM(kek) for kek in keks}
        self.kek_id = next(iter(self._keks))

    def seal(self, provider: str, key: ApiKey) -> Sealed:
        nonce = os.urandom(_NONCE_BYTES)
        text = key.reveal().encode()
        sealed = self._keks[self.kek_id].encrypt(nonce, text, _about(provider))
        return Sealed(self.kek_id, nonce, sealed)

    def open(self, provider: str, sealed: Sealed) -> ApiKey:
        """Raises Unreadable."""
        kek = self._keks.get(sealed.kek_id)
        if kek is None:
            raise Unreadable("sealed under another root secret")
        try:
            text = kek.decrypt(sealed.nonce, sealed.ciphertext, _about(provider))
        except InvalidTag:
            raise Unreadable("changed since it was sealed") from None
        return ApiKey(text.decode())


def _about(provider: str) -> bytes:
    return f"knowledged v1 provider-credential {provider}".encode()
