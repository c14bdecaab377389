"""One call on its way through the hall: what is asked, by whom, until when, and its audit trail."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any
from uuid import UUID


class AuditClass(IntEnum):
    """How an RPC stands in the audit log; numbers are those of the proto enum and the column."""

    NONE = 1
    READ = 2
    WRITE = 3
    ADMIN = 4


@dataclass(frozen=True, slots=True)
class Method:
    """An RPC as its descriptor declares it: `path` is `/package.Service/Method`."""

    path: str
    permission: str
    audit_class: AuditClass
    client_streams: bool = False
    server_streams: bool = False
    # The class of its request's message, for what is refused before the message is read.
    request_class: Any = None

    @property
    def streams(self) -> bool:
        return self.client_streams or self.server_streams

    @property
    def service(self) -> str:
        return self.path.split("/")[1]

    @property
    def name(self) -> str:
        return self.path.split("/")[2]

    @property
    def mutates(self) -> bool:
        return self.audit_class >= AuditClass.WRITE


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls. `collections` None grants every collection, else only the ids in it."""

    subject: str
    permissions: frozenset[str]
    collections: frozenset[str] | None = None

    def may_see(self, collection_id: str) -> bool:
        return self.collections is None or collection_id in self.collections


NOBODY = Principal("", frozenset(), frozenset())


@dataclass(frozen=True, slots=True)
class Receipt:
    """The proof of a recorded event: its id (uuid text) and its RFC 6962 leaf hash (32 bytes)."""

    event_id: str
    leaf_hash: bytes


class Stream:
    """The messages of a streaming call, as bytes, both ways. `incoming` are those of the caller.

    `on_received` and `on_sent` are told of each message; `before_sending` is awaited before one
    goes out, and keeps it back by raising.
    """

    def __init__(self, incoming: AsyncIterator[bytes] | None = None) -> None:
        self.on_received: Callable[[], None] = _nobody
        self.on_sent: Callable[[], None] = _nobody
        self.before_sending: Callable[[], Awaitable[None]] | None = None
        self._incoming = incoming
        self._outgoing: asyncio.Queue[bytes | None] = asyncio.Queue()
        # One message waits for the caller at most: a slow reader slows down who writes.
        self._room = asyncio.Semaphore(1)

    async def received(self) -> AsyncGenerator[bytes]:
        """The caller's messages until it closes its side; none if only the server streams."""
        if self._incoming is not None:
            async for message in self._incoming:
                self.on_received()
                yield message

    async def send(self, message: bytes) -> None:
        """Waits until the message before has gone."""
        if self.before_sending is not None:
            await self.before_sending()
        await self._room.acquire()
        self._outgoing.put_nowait(message)

    def end(self) -> None:
        """Nothing more will be sent."""
        self._outgoing.put_nowait(None)

    async def sent(self) -> AsyncGenerator[bytes]:
        """What was sent, for whoever carries it to the caller, until `end`."""
        while (message := await self._outgoing.get()) is not None:
            self._room.release()
            self.on_sent()
            yield message


def _nobody() -> None:
    """Is told of messages that nobody counts."""


# The uid of something that an answer holds, and the ids of those whom it is about.
Shown = tuple[UUID, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Reading:
    """What an answer holds of one collection (None: of none); a document stands once for each of
    its chunks."""

    collection_uid: UUID | None
    shown: tuple[Shown, ...]


@dataclass(slots=True)
class Call:
    """The state of one call; made by the hall, read by services, filled in as the call goes on."""

    method: Method
    call_id: str
    peer: str
    metadata: dict[str, str]
    deadline: float | None = None
    traceparent: str = ""
    principal: Principal = NOBODY
    receipt: Receipt | None = None
    unaudited: bool = False
    stream: Stream | None = None
    # For the audit log: the message that asks (of a stream the latest), the ids of the collections
    # that it resolved by their uids, and what has been read and not recorded yet.
    asking: object = None
    resolved: dict[UUID, str] = field(default_factory=dict[UUID, str])
    readings: list[Reading] = field(default_factory=list[Reading])
    started: float = field(default_factory=time.monotonic)

    @property
    def on_behalf_of(self) -> str:
        return self.metadata.get("x-on-behalf-of", "")

    @property
    def purpose(self) -> str:
        return self.metadata.get("x-purpose", "")

    @property
    def collection_uid(self) -> UUID | None:
        """The collection that the call is about; None if it resolved none, or several."""
        return next(iter(self.resolved)) if len(self.resolved) == 1 else None

    @property
    def left(self) -> float | None:
        """Seconds until the caller's deadline, not below 0; None without one."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def seconds_left(self, otherwise: float) -> float:
        """Until the caller's deadline, but at most `otherwise`."""
        left = self.left
        return otherwise if left is None else min(otherwise, left)

    def reads(self, shown: Iterable[Shown], collection_uid: UUID | None = None) -> None:
        """Tells the audit log what the answer will hold: of documents, chunks and hits the
        documents' uids, else the resources' own. A stream tells before it sends.

        They are of `collection_uid`, or of the collection that the call resolved.
        """
        self.readings.append(Reading(collection_uid or self.collection_uid, tuple(shown)))
