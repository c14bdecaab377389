"""Signs the head of the tree, once it is proved to go on from whatever was signed before."""

import secrets
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from knowledged.connection import Connection
from knowledged.ledger import merkle, proofs
from knowledged.ledger.checkpoint import Checkpoint, CheckpointError, open_checkpoint
from knowledged.ledger.checkpoint import read_unverified as read_note
from knowledged.ledger.keys import KeyRing
from knowledged.ledger.merkle import CompactRange
from knowledged.ledger.sequencing import LIMIT_SECONDS, LedgerError, locked_state
from knowledged.store import ledger
from knowledged.store.ledger import KeptCheckpoint, State


class Refused(LedgerError):
    """The head must not be signed: it would contradict a checkpoint that others may hold."""


def new_origin() -> str:
    """A name for a log that was given none."""
    return f"knowledged/{secrets.token_hex(8)}"


async def sign(
    conn: Connection, keys: KeyRing, name: str | None, outside: Sequence[str]
) -> KeptCheckpoint | None:
    """A checkpoint of all leaves, stored within the caller's transaction; None if there is no need.

    `name` is the log's origin, if it has none yet; `outside` are notes that are known elsewhere.
    Raises Refused unless the tree goes on from each of them and from the last one stored.
    """
    if not await ledger.try_lock(conn, LIMIT_SECONDS):
        return None
    state = await locked_state(conn)
    origin = state.origin or name or new_origin()
    last = await ledger.latest_checkpoint(conn)
    # What an earlier origin signed elsewhere is what the log was before it was set back.
    ours = [known for note in outside if (known := _opened(note, keys)).origin == origin]
    stored = [_opened(last.note, keys)] if last else []
    root = await proved_root(conn, state, [*ours, *stored])
    # The very first is of the empty tree: so the log has its name before it has an event.
    if last and state.tree_size == state.signed_size:
        return None
    if not state.origin:
        await ledger.name(conn, origin)
    made = Checkpoint(origin, state.tree_size, root)
    note = made.signed(keys.signing(origin))
    kept = KeptCheckpoint(made.tree_size, root, note, datetime.now(UTC))
    await ledger.keep(conn, kept)
    return kept


async def proved_root(conn: Connection, state: State, earlier: Iterable[Checkpoint]) -> bytes:
    """The tree's root from its tiles; raises Refused unless it goes on from each checkpoint."""
    for known in earlier:
        if known.tree_size > state.tree_size:
            raise Refused(
                f"a checkpoint of {known.tree_size} leaves is known, and the log has only"
                f" {state.tree_size}: it was set back. See `knowledged audit new-origin`"
            )
    try:
        root = await _root(conn, state)
        for known in earlier:
            await _prove(conn, known, state.tree_size, root)
    except (merkle.ProofError, proofs.LedgerBroken) as error:
        raise Refused(f"the stored tree contradicts a checkpoint: {error}") from error
    return root


async def _root(conn: Connection, state: State) -> bytes:
    root = (await proofs.compact_range(conn, state.tree_size)).root()
    if CompactRange.decode(state.tree_size, state.compact_range).root() != root:
        raise Refused("the stored tiles have another root than the state")
    return root


async def _prove(conn: Connection, known: Checkpoint, size: int, root: bytes) -> None:
    if not known.tree_size:
        return
    proof = await proofs.consistency(conn, known.tree_size, size)
    merkle.verify_consistency(known.tree_size, size, known.root, root, proof)


def _opened(note: str, keys: KeyRing) -> Checkpoint:
    try:
        return open_checkpoint(note, keys.trusted(read_note(note).origin))
    except CheckpointError as error:
        raise Refused(
            f"an earlier checkpoint cannot be trusted: {error}. If its key is an old one of"
            " yours, name it in KNOWLEDGED_AUDIT_KNOWN_KEYS_FILE"
        ) from error
