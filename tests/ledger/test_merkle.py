"""The tree against the published vectors and against RFC 6962 written out by recursion."""

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledged.audit_leaf import leaf_hash
from knowledged.ledger import merkle, tiles
from knowledged.ledger.merkle import CompactRange, ProofError
from naive_tree import consistency, path, root

# The eight leaves of Certificate Transparency's own tests, and the roots of the trees they make.
INPUTS = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = [leaf_hash(bytes.fromhex(text)) for text in INPUTS]

# Published inclusion proofs: leaf (from 0), tree size, hashes.
PATHS: list[tuple[int, int, list[str]]] = [
    (0, 1, []),
    (
        0,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (
        1,
        5,
        [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]
# Published consistency proofs: old size, new size, hashes.
CONSISTENCY: list[tuple[int, int, list[str]]] = [
    (1, 1, []),
    (
        1,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        5,
        [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]

sizes = st.integers(min_value=1, max_value=700)


def leaves_of(count: int) -> list[bytes]:
    return [leaf_hash(number.to_bytes(4, "big")) for number in range(count)]


def stored(leaves: list[bytes], steps: int = 1) -> dict[tiles.Tile, bytes]:
    """The tiles of a tree that grew in so many steps."""
    kept: dict[tiles.Tile, bytes] = {}
    edges = [len(leaves) * step // steps for step in range(steps + 1)]
    for begin, end in pairwise(edges):
        kept |= tiles.grow(begin, kept, leaves[begin:end])
    return kept


def test_the_root_of_no_leaves_is_the_hash_of_nothing() -> None:
    assert hashlib.sha256().digest() == merkle.EMPTY_ROOT == CompactRange().root()


@pytest.mark.parametrize("size", range(1, 9))
def test_the_published_roots_come_out(size: int) -> None:
    compact = CompactRange()
    for leaf in LEAVES[:size]:
        compact.append(leaf)
    assert compact.root().hex() == ROOTS[size - 1]
    assert tiles.root_in(stored(LEAVES[:size]), size).hex() == ROOTS[size - 1]


@pytest.mark.parametrize(("index", "size", "hashes"), PATHS)
def test_the_published_inclusion_proofs_come_out(index: int, size: int, hashes: list[str]) -> None:
    kept = stored(LEAVES)
    ranges = merkle.inclusion_ranges(index, size)
    made = merkle.proof(ranges, lambda node: tiles.hash_in(kept, node))
    assert [each.hex() for each in made] == hashes
    merkle.verify_inclusion(index, size, LEAVES[index], made, bytes.fromhex(ROOTS[size - 1]))


@pytest.mark.parametrize(("old", "new", "hashes"), CONSISTENCY)
def test_the_published_consistency_proofs_come_out(old: int, new: int, hashes: list[str]) -> None:
    kept = stored(LEAVES)
    ranges = merkle.consistency_ranges(old, new)
    made = merkle.proof(ranges, lambda node: tiles.hash_in(kept, node))
    assert [each.hex() for each in made] == hashes
    roots = bytes.fromhex(ROOTS[old - 1]), bytes.fromhex(ROOTS[new - 1])
    merkle.verify_consistency(old, new, *roots, made)


@given(sizes, st.integers(min_value=1, max_value=5))
def test_tiles_and_compact_range_agree_with_the_rfc(size: int, steps: int) -> None:
    leaves, compact = leaves_of(size), CompactRange()
    for leaf in leaves:
        compact.append(leaf)
    kept = stored(leaves, steps)
    assert tiles.root_in(kept, size) == compact.root() == root(leaves)
    assert CompactRange.decode(size, compact.encode()) == compact
    assert {tile: len(data) // 32 for tile, data in kept.items()} == {
        tile: tiles.width(tile, size) for tile in kept
    }
    assert set(tiles.open_tiles(size)) <= set(kept)


@given(st.data(), sizes)
def test_inclusion_proofs_are_those_of_the_rfc_and_hold(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(min_value=0, max_value=size - 1))
    leaves = leaves_of(size)
    kept = stored(leaves)
    ranges = merkle.inclusion_ranges(index, size)
    assert tiles.tiles_of(ranges) <= set(kept)
    made = merkle.proof(ranges, lambda node: tiles.hash_in(kept, node))
    assert made == path(index, leaves)
    merkle.verify_inclusion(index, size, leaves[index], made, root(leaves))
    other = index ^ 1
    if other < size:
        with pytest.raises(ProofError):
            merkle.verify_inclusion(other, size, leaves[index], made, root(leaves))
    with pytest.raises(ProofError):
        merkle.verify_inclusion(index, size, leaf_hash(b"another"), made, root(leaves))
    with pytest.raises(ProofError):
        merkle.verify_inclusion(
            index, size, leaves[index], [*made, made[-1]] if made else [b""], root(leaves)
        )


@given(st.data(), sizes)
def test_consistency_proofs_are_those_of_the_rfc_and_hold(data: st.DataObject, size: int) -> None:
    old = data.draw(st.integers(min_value=1, max_value=size))
    leaves = leaves_of(size)
    kept = stored(leaves)
    made = merkle.proof(
        merkle.consistency_ranges(old, size), lambda node: tiles.hash_in(kept, node)
    )
    assert made == consistency(old, leaves)
    before, after = root(leaves[:old]), root(leaves)
    merkle.verify_consistency(old, size, before, after, made)
    forged = root([*leaves[:-1], leaf_hash(b"another")])
    with pytest.raises(ProofError):
        merkle.verify_consistency(old, size, before, forged, made)
    with pytest.raises(ProofError):
        merkle.verify_consistency(old, size, forged, after, made)
    for place in range(len(made)):
        wrong = [*made[:place], leaf_hash(b"wrong"), *made[place + 1 :]]
        with pytest.raises(ProofError):
            merkle.verify_consistency(old, size, before, after, wrong)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (8, 8), (-1, 8), (9, 8)])
def test_no_index_beyond_the_tree_is_proved(index: int, size: int) -> None:
    with pytest.raises(ProofError, match="is not in a tree"):
        merkle.inclusion_ranges(index, size)


@pytest.mark.parametrize(("old", "new"), [(0, 8), (9, 8), (-1, 8)])
def test_no_tree_is_proved_to_begin_a_smaller_one(old: int, new: int) -> None:
    with pytest.raises(ProofError, match="cannot be proved"):
        merkle.consistency_ranges(old, new)


def test_a_compact_range_of_another_size_is_refused() -> None:
    with pytest.raises(ProofError, match="no compact range of 3 leaves"):
        CompactRange.decode(3, bytes(32))


def test_a_tile_that_is_missing_or_too_short_is_told() -> None:
    leaves = leaves_of(300)
    kept = stored(leaves)
    with pytest.raises(tiles.TileError, match="has no"):
        tiles.root_in({**kept, (0, 1): kept[0, 1][:-32]}, 300)
    with pytest.raises(tiles.TileError, match="hashes are due"):
        tiles.grow(300, {**kept, (0, 1): kept[0, 1][:-32]}, leaves_of(1))
