"""The bytes of an audit event: what is hashed into the Merkle tree, and what may be erased.

The leaf holds nothing personal. Who, what and whom stand in the payload, which the leaf binds by
`payload_commit = SHA-256(salt || payload)`: erase payload and salt, and the leaf still verifies.

Leaf, version 1 (integers big-endian): 0x01 · event_id 16 · occurred_at int64 microseconds since
1970 · audit_class u8 · outcome u8 · grpc_code u8 · collection_uid 16 (zeros: none) ·
result_count u32 · rpc u16 length + UTF-8 · action u16 length + UTF-8 · payload_commit 32.
Payload, version 1: 0x01 · five texts (actor, on behalf of, purpose, peer, call id), each u32
length + UTF-8 · three lists (resources, subject ids, returned document uids), each u32 count and
its texts.
"""

import hashlib
import os
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self
from uuid import UUID

VERSION = b"\x01"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NO_COLLECTION = UUID(int=0)

_HEAD = struct.Struct(">16sqBBB16sI")
_SHORT = struct.Struct(">H")
_LONG = struct.Struct(">I")
_UID = _LONG.pack(36)
_MICROSECOND = timedelta(microseconds=1)


class MalformedEvent(ValueError):
    """The bytes are no leaf, or no payload, of a version that we know."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """What a leaf says, read back from its bytes."""

    event_id: UUID
    occurred_at: datetime
    audit_class: int
    outcome: int
    grpc_code: int
    collection_uid: UUID | None
    result_count: int
    rpc: str
    action: str
    payload_commit: bytes

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """From the exact bytes of a leaf; raises MalformedEvent for any others."""
        take = _Reader(data)
        event_id, at, audit_class, outcome, code, collection, count = _HEAD.unpack(
            take.bytes(_HEAD.size)
        )
        uid = UUID(bytes=collection)
        read = cls(
            UUID(bytes=event_id),
            take.instant(at),
            audit_class,
            outcome,
            code,
            None if uid == NO_COLLECTION else uid,
            count,
            take.text(_SHORT),
            take.text(_SHORT),
            take.bytes(32),
        )
        take.end()
        return read


@dataclass(frozen=True, slots=True)
class Payload:
    """The erasable part of an event."""

    actor: str
    on_behalf_of: str
    purpose: str
    peer: str
    call_id: str
    resources: tuple[str, ...] = ()
    subject_ids: tuple[str, ...] = ()
    returned_uids: tuple[UUID, ...] = ()

    def encode(self) -> bytes:
        texts = (self.actor, self.on_behalf_of, self.purpose, self.peer, self.call_id)
        lists = _texts(self.resources) + _texts(self.subject_ids) + _uids(self.returned_uids)
        return VERSION + b"".join(map(_text, texts)) + lists

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """From the exact bytes of a payload; raises MalformedEvent for any others."""
        take = _Reader(data)
        actor, on_behalf_of, purpose, peer, call_id = (take.text(_LONG) for _ in range(5))
        resources, subject_ids, returned = (take.texts() for _ in range(3))
        take.end()
        uids = tuple(take.uid(text) for text in returned)
        return cls(actor, on_behalf_of, purpose, peer, call_id, resources, subject_ids, uids)


@dataclass(frozen=True, slots=True)
class Event:
    """An event as it is recorded: the leaf's fields, its payload and the salt between them."""

    event_id: UUID
    occurred_at: datetime
    audit_class: int
    outcome: int
    grpc_code: int
    collection_uid: UUID | None
    result_count: int
    rpc: str
    action: str
    payload: Payload
    salt: bytes

    @property
    def payload_commit(self) -> bytes:
        return commit(self.salt, self.payload.encode())

    def leaf(self) -> bytes:
        return self.leaf_over(self.payload_commit)

    def leaf_over(self, payload_commit: bytes) -> bytes:
        """The leaf, for whoever has the commitment already."""
        head = _HEAD.pack(
            self.event_id.bytes,
            microseconds(self.occurred_at),
            self.audit_class,
            self.outcome,
            self.grpc_code,
            (self.collection_uid or NO_COLLECTION).bytes,
            self.result_count,
        )
        names = _short_text(self.rpc) + _short_text(self.action)
        return VERSION + head + names + payload_commit


def new_salt() -> bytes:
    """32 random bytes, so that nobody can guess a payload back from its commitment."""
    return os.urandom(32)


def commit(salt: bytes, payload: bytes) -> bytes:
    """SHA-256 over salt and payload, 32 bytes."""
    return hashlib.sha256(salt + payload).digest()


def leaf_hash(leaf: bytes) -> bytes:
    """The Merkle leaf hash of RFC 6962, section 2.1: SHA-256(0x00 || leaf), 32 bytes."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def microseconds(instant: datetime) -> int:
    """Whole microseconds since 1970, exact (a float would not be)."""
    return (instant - EPOCH) // _MICROSECOND


def _short_text(text: str) -> bytes:
    encoded = text.encode()
    return _SHORT.pack(len(encoded)) + encoded


def _text(text: str) -> bytes:
    encoded = text.encode()
    return _LONG.pack(len(encoded)) + encoded


def _texts(texts: tuple[str, ...]) -> bytes:
    return _LONG.pack(len(texts)) + b"".join(map(_text, texts))


def _uids(uids: tuple[UUID, ...]) -> bytes:
    """As `_texts` has their texts, which are of one length."""
    return _LONG.pack(len(uids)) + b"".join([_UID + str(uid).encode() for uid in uids])


class _Reader:
    """Takes the parts of version 1 one after another; whatever does not fit is malformed."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        if self.bytes(1) != VERSION:
            raise MalformedEvent("its version is none that we know")

    def bytes(self, count: int) -> bytes:
        begin, self._at = self._at, self._at + count
        if self._at > len(self._data):
            raise MalformedEvent("it is cut short")
        return self._data[begin : self._at]

    def text(self, length: struct.Struct) -> str:
        (count,) = length.unpack(self.bytes(length.size))
        try:
            return self.bytes(count).decode()
        except UnicodeDecodeError:
            raise MalformedEvent("a text in it is no UTF-8") from None

    def texts(self) -> tuple[str, ...]:
        (count,) = _LONG.unpack(self.bytes(_LONG.size))
        if count > len(self._data):
            raise MalformedEvent("it is cut short")
        return tuple(self.text(_LONG) for _ in range(count))

    def instant(self, at: int) -> datetime:
        try:
            return EPOCH + at * _MICROSECOND
        except OverflowError:
            raise MalformedEvent("its time is beyond the calendar") from None

    def uid(self, text: str) -> UUID:
        try:
            uid = UUID(text)
        except ValueError:
            raise MalformedEvent("a uid in it is none") from None
        if str(uid) != text:
            raise MalformedEvent("a uid in it is not written as uids are")
        return uid

    def end(self) -> None:
        if self._at != len(self._data):
            raise MalformedEvent("bytes follow its end")
