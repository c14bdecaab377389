"""The Merkle tree of RFC 6962: hashes, proofs and their verification.

A tree over n leaves splits at the largest power of two below n. So the left part is always a
perfect subtree, and every hash of a proof is that of a range of leaves, made of few perfect
subtrees. A `Node` (level, index) names the perfect subtree over the leaves
[index << level, (index + 1) << level). All hashes have 32 bytes.

Hashes: RFC 6962, section 2.1. Verification: RFC 9162, sections 2.1.3.2 and 2.1.4.2.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

Node = tuple[int, int]
Range = tuple[int, int]


class ProofError(ValueError):
    """A proof does not hold, or none of that kind can be made; says why."""


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def perfect_nodes(begin: int, end: int) -> list[Node]:
    """The largest perfect subtrees that make up the leaves [begin, end), left to right."""
    nodes: list[Node] = []
    while begin < end:
        level = (end - begin).bit_length() - 1
        if begin:
            level = min(level, (begin & -begin).bit_length() - 1)
        nodes.append((level, begin >> level))
        begin += 1 << level
    return nodes


def folded(hashes: Sequence[bytes]) -> bytes:
    """The hash of a range of leaves from those of its `perfect_nodes`."""
    if not hashes:
        return EMPTY_ROOT
    root = hashes[-1]
    for left in reversed(hashes[:-1]):
        root = node_hash(left, root)
    return root


def subtree_root(hashes: Sequence[bytes]) -> bytes:
    """The root of a perfect subtree over these hashes, a power of two many."""
    level = list(hashes)
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=True)
        level = [node_hash(left, right) for left, right in pairs]
    return level[0]


def inclusion_ranges(index: int, size: int) -> list[Range]:
    """The ranges whose hashes prove that leaf `index` is in the tree of `size` leaves.

    Raises ProofError unless 0 <= index < size.
    """
    if not 0 <= index < size:
        raise ProofError(f"index {index} is not in a tree of {size} leaves")
    ranges: list[Range] = []
    begin, end = 0, size
    while end - begin > 1:
        middle = _split(begin, end)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((begin, middle))
            begin = middle
    return ranges[::-1]


def consistency_ranges(old: int, new: int) -> list[Range]:
    """The ranges whose hashes prove that the tree of `old` leaves begins that of `new` leaves.

    Raises ProofError unless 0 < old <= new: the empty tree begins every tree, without proof.
    """
    if not 0 < old <= new:
        raise ProofError(f"a tree of {old} leaves cannot be proved to begin one of {new}")
    ranges: list[Range] = []
    begin, end = 0, new
    while end != old:
        middle = _split(begin, end)
        if old <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((begin, middle))
            begin = middle
    # The old tree itself is known to whoever verifies; a part of it is not.
    return [*([(begin, end)] if begin else []), *ranges[::-1]]


def nodes_of(ranges: Iterable[Range]) -> list[Node]:
    """All nodes that the hashes of these ranges are made of."""
    return [node for begin, end in ranges for node in perfect_nodes(begin, end)]


def proof(ranges: Iterable[Range], hash_of: Callable[[Node], bytes]) -> list[bytes]:
    """The hashes of a proof, in its order."""
    return [folded([hash_of(node) for node in perfect_nodes(*each)]) for each in ranges]


def root_by_inclusion(index: int, size: int, leaf: bytes, hashes: Sequence[bytes]) -> bytes:
    """The root that follows from a leaf's hash and its proof; raises ProofError for none."""
    ranges = inclusion_ranges(index, size)
    if len(hashes) != len(ranges):
        raise ProofError(f"the proof has {len(hashes)} hashes; {len(ranges)} are needed")
    root = leaf
    for (begin, _), other in zip(ranges, hashes, strict=True):
        root = node_hash(root, other) if begin > index else node_hash(other, root)
    return root


def verify_inclusion(
    index: int, size: int, leaf: bytes, hashes: Sequence[bytes], root: bytes
) -> None:
    """Raises ProofError unless the proof leads from the leaf's hash to `root`."""
    if root_by_inclusion(index, size, leaf, hashes) != root:
        raise ProofError(f"the proof does not lead from leaf {index} to the root of {size} leaves")


def verify_consistency(
    old: int, new: int, old_root: bytes, new_root: bytes, hashes: Sequence[bytes]
) -> None:
    """Raises ProofError unless the proof shows that the old tree begins the new one."""
    ranges = consistency_ranges(old, new)
    if len(hashes) != len(ranges):
        raise ProofError(f"the proof has {len(hashes)} hashes; {len(ranges)} are needed")
    if _roots_by_consistency(old, ranges, old_root, hashes) != (old_root, new_root):
        raise ProofError(f"the tree of {old} leaves does not begin that of {new}")


def _roots_by_consistency(
    old: int, ranges: Sequence[Range], old_root: bytes, hashes: Sequence[bytes]
) -> tuple[bytes, bytes]:
    """Old and new root; the walk begins at the part of the old tree that both have at its end."""
    rest = list(zip(ranges, hashes, strict=True))
    begins_within = bool(rest) and rest[0][0][1] == old
    first = rest.pop(0)[1] if begins_within else old_root
    before = after = first
    for (begin, _), other in rest:
        if begin >= old:
            after = node_hash(after, other)
        else:
            before, after = node_hash(other, before), node_hash(other, after)
    return before, after


def _split(begin: int, end: int) -> int:
    """Where the range's tree splits: after the largest power of two below its length."""
    return begin + (1 << ((end - begin - 1).bit_length() - 1))


@dataclass(slots=True)
class CompactRange:
    """The roots of the perfect subtrees of the first `size` leaves: what is needed to go on."""

    size: int = 0
    hashes: list[bytes] = field(default_factory=list[bytes])

    @classmethod
    def decode(cls, size: int, data: bytes) -> Self:
        """From `encode`; raises ProofError when the bytes are not those of such a size."""
        if len(data) != size.bit_count() * HASH_BYTES:
            raise ProofError(f"{len(data)} bytes are no compact range of {size} leaves")
        steps = range(0, len(data), HASH_BYTES)
        return cls(size, [data[at : at + HASH_BYTES] for at in steps])

    def encode(self) -> bytes:
        """The hashes one after another, the largest subtree first."""
        return b"".join(self.hashes)

    def append(self, leaf: bytes) -> None:
        """Adds a leaf by its hash."""
        index = self.size
        while index & 1:
            leaf = node_hash(self.hashes.pop(), leaf)
            index >>= 1
        self.hashes.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """The hash of the tree over all leaves so far."""
        return folded(self.hashes)
