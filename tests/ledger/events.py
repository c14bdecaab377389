"""Audit events for the ledger's tests: written many at once, and sequenced as servers do."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from uuid_utils.compat import uuid7

from knowledged.audit_leaf import Event, Payload, new_salt
from knowledged.connection import Connection
from knowledged.ledger.keys import KeyRing
from knowledged.ledger.sequencing import sequence
from knowledged.ledger.signing import sign
from knowledged.store import audit_events
from knowledged.store.ledger import KeptCheckpoint

KEYS = KeyRing((b"a key to sign with in all tests!",))
ORIGIN = "audit.test/log"

_CLASSES = (2, 3, 3, 4)
_AT_ONCE = 2_000


def event(number: int, collection_uid: UUID | None = None) -> Event:
    """The event of this number: classes, actors and resources take turns."""
    payload = Payload(
        actor=f"actor-{number % 7}@clinic.example",
        on_behalf_of="",
        purpose="treatment" if number % 2 else "",
        peer="ipv4:127.0.0.1:40000",
        call_id=str(uuid7()),
        resources=(f"collections/c/documents/d{number}",),
        subject_ids=(f"patient-{number % 50}",) if number % 3 else (),
    )
    return Event(
        event_id=uuid7(),
        occurred_at=datetime.now(UTC) - timedelta(microseconds=number % 1_000),
        audit_class=_CLASSES[number % 4],
        outcome=1,
        grpc_code=0,
        collection_uid=collection_uid,
        result_count=1,
        rpc="/knowledge.v1.KnowledgeService/CreateDocument",
        action="documents.create",
        payload=payload,
        salt=new_salt(),
    )


async def write_events(
    conn: Connection, count: int, collection_uid: UUID | None = None
) -> list[Event]:
    """Events with their payloads, waiting to be sequenced, in this order."""
    made = [event(number, collection_uid) for number in range(count)]
    for at in range(0, count, _AT_ONCE):
        await write(conn, made[at : at + _AT_ONCE])
    return made


async def write(conn: Connection, events: Sequence[Event]) -> None:
    await audit_events.append(conn, [audit_events.entry(each)[0] for each in events])


async def sequence_all(conn: Connection, batch: int = 2_000) -> int:
    """Takes up all that waits; how many."""
    total = 0
    while True:
        async with conn.transaction():
            done = await sequence(conn, batch)
        assert done is not None
        total += done.added
        if done.added < batch:
            return total


async def sign_head(
    conn: Connection, keys: KeyRing = KEYS, outside: Sequence[str] = ()
) -> KeptCheckpoint | None:
    async with conn.transaction():
        return await sign(conn, keys, ORIGIN, outside)


async def make_log(conn: Connection, count: int, checkpoints: int = 3) -> list[Event]:
    """A sequenced log with so many checkpoints at even distances, the last over all of it."""
    made: list[Event] = []
    for part in range(checkpoints):
        made += await write_events(
            conn, count * (part + 1) // checkpoints - count * part // checkpoints
        )
        await sequence_all(conn)
        assert await sign_head(conn)
        await asyncio.sleep(0)
    return made
