"""A new name for a log that was set back: it does not pretend to be what it was.

The tree keeps the leaves that survived, so what earlier checkpoints say of them still holds. The
first leaf of the new origin commits to the last checkpoint of the old one: its action carries the
SHA-256 of that checkpoint's text.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from uuid_utils.compat import uuid7

from knowledged.audit_leaf import Event, Payload, new_salt
from knowledged.connection import Connection
from knowledged.ledger.checkpoint import Checkpoint
from knowledged.ledger.checkpoints import NEW_ORIGIN
from knowledged.ledger.sequencing import LIMIT_SECONDS, LedgerError, append, locked_state
from knowledged.store import ledger, ledger_events

_ATTEMPTS, _PAUSE_SECONDS = 50, 0.1
_ADMIN = 4
_DONE = 1


async def begin(conn: Connection, origin: str, known: Sequence[Checkpoint], actor: str) -> Event:
    """Makes the log's next checkpoints those of `origin`, within the caller's transaction.

    `known` are checkpoints of the old origin, at least one; the event commits to the largest.
    Raises LedgerError when another process changes the tree just now, or the name is no new one.
    """
    await _lock(conn)
    state = await locked_state(conn)
    ours = [each for each in known if each.origin == state.origin]
    if not ours:
        raise LedgerError(f"none of the checkpoints is of the log {state.origin}")
    if origin == state.origin:
        raise LedgerError(f"the log is called {origin} already")
    event = _event(max(ours, key=lambda each: each.tree_size), state.tree_size, actor)
    await ledger_events.record(conn, event)
    await append(conn, state, [(event.event_id, event.leaf())])
    await ledger.name(conn, origin)
    return event


async def _lock(conn: Connection) -> None:
    """Waits for servers, which hold the lock for moments."""
    for _ in range(_ATTEMPTS):
        if await ledger.try_lock(conn, LIMIT_SECONDS):
            return
        await asyncio.sleep(_PAUSE_SECONDS)
    raise LedgerError("a server changes the tree just now; try again")


def _event(last: Checkpoint, kept_leaves: int, actor: str) -> Event:
    resources = (
        f"checkpoint of {last.tree_size} leaves of {last.origin}",
        f"{kept_leaves} leaves are kept",
    )
    return Event(
        event_id=uuid7(),
        occurred_at=datetime.now(UTC),
        audit_class=_ADMIN,
        outcome=_DONE,
        grpc_code=0,
        collection_uid=None,
        result_count=0,
        rpc="knowledged audit new-origin",
        action=f"{NEW_ORIGIN}{last.digest()}",
        payload=Payload(actor, "", "", "", "", resources),
        salt=new_salt(),
    )
