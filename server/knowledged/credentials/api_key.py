"""A provider's key, in a type that shows it to nobody who does not ask for it by name."""

import re
from hashlib import sha256
from typing import Never

SHORTEST, LONGEST = 16, 512
# What tokens are made of (RFC 6750, b64token). So a key cannot break out of a header.
_WELL_FORMED = re.compile(r"[A-Za-z0-9._~+/=-]+")


class MalformedKey(ValueError):
    """The text cannot be a key; says the rule, and nothing of the text."""


class ApiKey:
    """A key. `repr`, `str` and formats mask it, and it cannot be pickled or copied out."""

    __slots__ = ("__secret", "fingerprint")

    def __init__(self, text: str) -> None:
        """Raises MalformedKey. White space around, as files have it, does not count."""
        text = text.strip()
        if not SHORTEST <= len(text) <= LONGEST:
            raise MalformedKey(f"has {len(text)} characters; {SHORTEST} to {LONGEST} are allowed")
        if not _WELL_FORMED.fullmatch(text):
            raise MalformedKey('holds a character that is no letter, digit or one of "-._~+/="')
        self.__secret = text
        self.fingerprint = sha256(text.encode()).hexdigest()[:16]

    def reveal(self) -> str:
        """The key itself: for the header of a request, and for encryption."""
        return self.__secret

    @property
    def masked(self) -> str:
        """Such as "hf_…a1b2"."""
        return f"{'hf_' if self.__secret.startswith('hf_') else ''}…{self.__secret[-4:]}"

    def __repr__(self) -> str:
        return f"ApiKey({self.masked})"

    def __str__(self) -> str:
        return self.masked

    def __format__(self, specification: str) -> str:
        return format(self.masked, specification)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ApiKey) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __reduce_ex__(self, protocol: object) -> Never:
        raise TypeError("a key is not to be copied or pickled")
