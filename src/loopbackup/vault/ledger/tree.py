"""
Merkle trees of RFC 6962: heads, and proofs of inclusion and consistency.

Source: RFC 6962 section 2.1, RFC 9162 section 2.1 (verification algorithms).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

__all__ = [
    "Tree",
    "consistency_proof",
    "inclusion_proof",
    "leaf_hash",
    "node_hash",
    "verify_consistency",
    "verify_inclusion",
]

EMPTY = hashlib.sha256().digest()
HASH_BYTES = 32


def leaf_hash(leaf: bytes) -> bytes:
    """Hash one leaf."""
    return hashlib.sha256(b"\0" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees into one."""
    return hashlib.sha256(b"\1" + left + right).digest()


class Tree:
    """
    The right edge of a growing tree: enough to append and to give the head.

    ``peaks`` are the heads of the perfect subtrees, largest first; there are
    as many as ``size`` has one bits.
    """

    __slots__ = ("last", "peaks", "size")

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        if len(peaks) != size.bit_count():
            raise ValueError("as many peaks as the size has one bits")
        self.size = size
        self.peaks = list(peaks)
        self.last = b""
        """Hash of the leaf that was appended last, by this object."""

    def append(self, leaf: bytes) -> None:
        """Add one leaf. Cost: amortised two hashes."""
        self.append_hash(leaf_hash(leaf))

    def append_hash(self, node: bytes) -> None:
        """Add one leaf by its hash."""
        self.last = node
        size = self.size
        while size & 1:
            node = node_hash(self.peaks.pop(), node)
            size >>= 1
        self.peaks.append(node)
        self.size += 1

    def head(self) -> bytes:
        """Give the 32-byte tree head."""
        if not self.peaks:
            return EMPTY
        node = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            node = node_hash(peak, node)
        return node

    def copy(self) -> Tree:
        """Give an independent copy."""
        return Tree(self.size, self.peaks)


def _head(hashes: Sequence[bytes]) -> bytes:
    if not hashes:
        return EMPTY
    if len(hashes) == 1:
        return hashes[0]
    split = _split(len(hashes))
    return node_hash(_head(hashes[:split]), _head(hashes[split:]))


def _split(size: int) -> int:
    """Give the largest power of two below *size*."""
    return 1 << (size - 1).bit_length() - 1


def inclusion_proof(hashes: Sequence[bytes], index: int) -> list[bytes]:
    """Prove that leaf *index* is in the tree of these leaf hashes. Cost: O(n)."""
    if len(hashes) <= 1:
        return []
    split = _split(len(hashes))
    if index < split:
        return [*inclusion_proof(hashes[:split], index), _head(hashes[split:])]
    return [*inclusion_proof(hashes[split:], index - split), _head(hashes[:split])]


def consistency_proof(hashes: Sequence[bytes], old: int) -> list[bytes]:
    """
    Prove that the tree of the first *old* leaves, at least one, is a prefix of this one.

    Cost: O(n).
    """

    def walk(part: Sequence[bytes], size: int, *, whole: bool) -> list[bytes]:
        if size == len(part):
            return [] if whole else [_head(part)]
        split = _split(len(part))
        if size <= split:
            return [*walk(part[:split], size, whole=whole), _head(part[split:])]
        return [*walk(part[split:], size - split, whole=False), _head(part[:split])]

    return walk(hashes, old, whole=True) if 0 < old < len(hashes) else []


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], head: bytes
) -> bool:
    """Tell whether leaf hash *leaf* is number *index* of the tree with *head*."""
    if not 0 <= index < size or len(leaf) != HASH_BYTES:
        return False
    fn, sn, node = index, size - 1, leaf
    for sibling in proof:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            node = node_hash(sibling, node)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            node = node_hash(node, sibling)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and node == head


def verify_consistency(
    old: int, new: int, proof: Sequence[bytes], old_head: bytes, new_head: bytes
) -> bool:
    """Tell whether the tree of *old* leaves is a prefix of the tree of *new* leaves."""
    # A proof begins at a tree that has leaves (RFC 9162, 2.1.4.2).
    if not 0 < old <= new:
        return False
    if old == new:
        return not proof and old_head == new_head
    path = list(proof) if old & (old - 1) else [old_head, *proof]
    if not path:
        return False
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    first = second = path[0]
    for sibling in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            second = node_hash(second, sibling)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and first == old_head and second == new_head
