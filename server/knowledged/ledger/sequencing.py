"""Gives waiting events their places in the tree: one transaction a batch, one writer at a time."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from knowledged.audit_leaf import leaf_hash
from knowledged.connection import Connection
from knowledged.ledger import tiles
from knowledged.ledger.merkle import CompactRange
from knowledged.store import ledger
from knowledged.store.ledger import State

LIMIT_SECONDS = 10.0


class LedgerError(Exception):
    """The stored tree does not hold together; nothing is added to it. Says what is wrong."""


@dataclass(frozen=True, slots=True)
class Sequenced:
    """What a batch did: leaves added, and events that wait but are gone themselves."""

    added: int
    missing: tuple[UUID, ...] = ()


async def sequence(conn: Connection, at_most: int) -> Sequenced | None:
    """Takes a batch up into the tree, within the caller's transaction; None if others do so.

    Leaf hashes come from the stored leaf bytes. An event that is gone keeps waiting: its receipt
    is out, so it must stay seen. Raises LedgerError when state and tiles disagree.
    """
    if not await ledger.try_lock(conn, LIMIT_SECONDS):
        return None
    state = await locked_state(conn)
    taken = await ledger.take(conn, at_most)
    there = [(event_id, leaf) for event_id, leaf in taken if leaf is not None]
    missing = tuple(event_id for event_id, leaf in taken if leaf is None)
    if missing:
        await ledger.put_back(conn, missing)
    if there:
        await append(conn, state, there)
    return Sequenced(len(there), missing)


async def locked_state(conn: Connection) -> State:
    state = await ledger.lock_state(conn)
    if state is None:
        raise LedgerError("knowledge.audit_state has lost its row")
    return state


async def append(conn: Connection, state: State, events: Sequence[tuple[UUID, bytes]]) -> None:
    """Adds events, by their ids and leaves, to the tree that `state` describes."""
    partial = await ledger.tiles(conn, tiles.open_tiles(state.tree_size))
    # Beside the event loop: some milliseconds of hashing.
    grown = await asyncio.to_thread(_grown, state, partial, events)
    await ledger.add_leaves(conn, state.tree_size, grown.leaves)
    await ledger.put_tiles(conn, grown.tiles)
    await ledger.grow(conn, grown.compact.size, grown.compact.encode())


@dataclass(frozen=True, slots=True)
class _Grown:
    leaves: list[tuple[UUID, bytes]]
    tiles: dict[tiles.Tile, bytes]
    compact: CompactRange


def _grown(state: State, partial: tiles.Tiles, events: Sequence[tuple[UUID, bytes]]) -> _Grown:
    leaves = [(event_id, leaf_hash(leaf)) for event_id, leaf in events]
    hashes = [leaf for _, leaf in leaves]
    try:
        compact = CompactRange.decode(state.tree_size, state.compact_range)
        changed = tiles.grow(state.tree_size, partial, hashes)
    except ValueError as error:
        raise LedgerError(f"the stored tree does not hold together: {error}") from error
    for leaf in hashes:
        compact.append(leaf)
    return _Grown(leaves, changed, compact)
