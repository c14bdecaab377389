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
from uuid import UUID

VERSION = b"\x01"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NO_COLLECTION = UUID(int=0)

_HEAD = struct.Struct(">16sqBBB16sI")
_MICROSECOND = timedelta(microseconds=1)


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
        uids = tuple(str(uid) for uid in self.returned_uids)
        lists = (self.resources, self.subject_ids, uids)
        return VERSION + b"".join(map(_text, texts)) + b"".join(map(_texts, lists))


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
    return struct.pack(">H", len(encoded)) + encoded


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack(">I", len(encoded)) + encoded


def _texts(texts: tuple[str, ...]) -> bytes:
    return struct.pack(">I", len(texts)) + b"".join(map(_text, texts))
