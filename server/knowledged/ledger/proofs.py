"""Proofs out of the stored tiles."""

from collections.abc import Sequence

from knowledged.connection import Connection
from knowledged.errors import WrongState
from knowledged.ledger import merkle, tiles
from knowledged.ledger.merkle import CompactRange, Range
from knowledged.store import ledger


class LedgerBroken(WrongState):
    """The stored tree does not hold together, so it proves nothing: verify the log."""

    reason = "AUDIT_LEDGER_BROKEN"


async def inclusion(conn: Connection, index: int, size: int) -> list[bytes]:
    """That leaf `index` is in the first `size`; raises ProofError beyond them."""
    return await _hashes(conn, merkle.inclusion_ranges(index, size))


async def consistency(conn: Connection, old: int, new: int) -> list[bytes]:
    """That the first `old` leaves begin the first `new`; raises ProofError for other sizes."""
    return await _hashes(conn, merkle.consistency_ranges(old, new))


async def compact_range(conn: Connection, size: int) -> CompactRange:
    """What is known of the first `size` leaves by few hashes."""
    nodes = merkle.perfect_nodes(0, size)
    stored = await ledger.tiles(conn, {tiles.tile_of(node) for node in nodes})
    return CompactRange(size, [_hash(stored, node) for node in nodes])


async def _hashes(conn: Connection, ranges: Sequence[Range]) -> list[bytes]:
    stored = await ledger.tiles(conn, tiles.tiles_of(ranges))
    return merkle.proof(ranges, lambda node: _hash(stored, node))


def _hash(stored: tiles.Tiles, node: merkle.Node) -> bytes:
    try:
        return tiles.hash_in(stored, node)
    except tiles.TileError as error:
        raise LedgerBroken(f"the stored tree does not hold together: {error}") from error
