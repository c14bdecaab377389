"""The tree as it is stored: tiles of 256 hashes, as C2SP tlog-tiles cuts them.

A tile (level, n) holds the hashes of the perfect subtrees of height 8 × level with the numbers
256 n to 256 n + 255; the last tile of a level may be partial. Every other node follows from the
hashes of one tile. Source: https://c2sp.org/tlog-tiles
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from knowledged.ledger.merkle import (
    HASH_BYTES,
    Node,
    folded,
    nodes_of,
    perfect_nodes,
    subtree_root,
)

WIDTH = 256
HEIGHT = 8

Tile = tuple[int, int]
Tiles = Mapping[Tile, bytes]


class TileError(ValueError):
    """A tile is missing, or does not hold what the tree's size says."""


def tile_of(node: Node) -> Tile:
    """The tile whose hashes a node follows from."""
    level, index = node
    return level // HEIGHT, (index << (level % HEIGHT)) // WIDTH


def tiles_of(ranges: Iterable[tuple[int, int]]) -> set[Tile]:
    """The tiles that the hashes of these ranges of leaves follow from."""
    return {tile_of(node) for node in nodes_of(ranges)}


def hash_in(tiles: Tiles, node: Node) -> bytes:
    """A node's hash; raises TileError where its tile is missing or too short."""
    level, index = node
    first = (index << (level % HEIGHT)) % WIDTH
    last = first + (1 << (level % HEIGHT))
    stored = tiles.get(tile_of(node), b"")
    if len(stored) < last * HASH_BYTES:
        raise TileError(f"tile {tile_of(node)} has no {last} hashes")
    return subtree_root(split(stored[first * HASH_BYTES : last * HASH_BYTES]))


def root_in(tiles: Tiles, size: int) -> bytes:
    """The root of the first `size` leaves."""
    return folded([hash_in(tiles, node) for node in perfect_nodes(0, size)])


def open_tiles(size: int) -> Iterator[Tile]:
    """The partial tiles of a tree: the last of each level that is not full."""
    level = 0
    while size:
        if size % WIDTH:
            yield level, size // WIDTH
        size //= WIDTH
        level += 1


def width(tile: Tile, size: int) -> int:
    """How many hashes a tile has in a tree of `size` leaves."""
    level, n = tile
    return max(0, min(WIDTH, (size >> (HEIGHT * level)) - n * WIDTH))


def grow(size: int, partial: Tiles, leaves: Sequence[bytes]) -> dict[Tile, bytes]:
    """The tiles that `leaves` (hashes) change, appended to a tree of `size` leaves.

    `partial` holds its `open_tiles`; raises TileError when they are not those of such a size.
    """
    changed: dict[Tile, bytes] = {}
    level, count, new = 0, size, leaves
    while new:
        filled = dict(_filled(level, count, partial, new))
        changed |= filled
        full = [data for _, data in sorted(filled.items()) if len(data) == WIDTH * HASH_BYTES]
        new = [subtree_root(split(data)) for data in full]
        level, count = level + 1, count // WIDTH
    return changed


def _filled(
    level: int, count: int, partial: Tiles, new: Sequence[bytes]
) -> Iterator[tuple[Tile, bytes]]:
    """The tiles of one level that `new` hashes go to, after `count` that are there."""
    n, begun = divmod(count, WIDTH)
    before = partial.get((level, n), b"") if begun else b""
    if len(before) != begun * HASH_BYTES:
        raise TileError(f"tile {(level, n)} has {len(before)} bytes; {begun} hashes are due")
    data = before + b"".join(new)
    step = WIDTH * HASH_BYTES
    for at in range(0, len(data), step):
        yield (level, n + at // step), data[at : at + step]


def split(data: bytes) -> list[bytes]:
    """The hashes that stand in a tile's bytes."""
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]
