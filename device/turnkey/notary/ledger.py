"""The ledger's tree: RFC 9162 Merkle hashing over the entries, in memory of O(log n).

RFC 9162 section 2.1.1: a leaf's hash is SHA-256(0x00 || entry), a node's SHA-256(0x01 || left || right), and the tree
over n leaves splits at the largest power of two below n. A `Frontier` holds the roots of the perfect subtrees that n
splits into, left to right, which is all that appending needs.

This module does no I/O.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import reduce

HASH_BYTES = 32


def leaf_hash(entry: bytes) -> bytes:
    """Hash of one entry, 32 bytes (RFC 9162, 2.1.1)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node, 32 bytes (RFC 9162, 2.1.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True)
class Frontier:
    """A tree of `size` leaves, as the roots of its perfect subtrees, largest (leftmost) first."""

    size: int = 0
    roots: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if len(self.roots) != self.size.bit_count() or any(len(root) != HASH_BYTES for root in self.roots):
            raise ValueError("a frontier has one 32-byte root for each one-bit of its size")

    def append(self, leaf: bytes) -> Frontier:
        """The tree with one more leaf. `leaf` is a `leaf_hash`."""
        roots, carry = list(self.roots), leaf
        size = self.size
        while size & 1:
            carry = node_hash(roots.pop(), carry)
            size >>= 1
        return Frontier(self.size + 1, (*roots, carry))

    def root(self) -> bytes:
        """The root hash, 32 bytes; SHA-256 of nothing for the empty tree (RFC 9162, 2.1.1)."""
        if not self.roots:
            return hashlib.sha256(b"").digest()
        return reduce(lambda right, left: node_hash(left, right), reversed(self.roots[:-1]), self.roots[-1])

    def to_bytes(self) -> bytes:
        """The roots one after another; `size` is kept beside them."""
        return b"".join(self.roots)

    @classmethod
    def from_bytes(cls, size: int, data: bytes) -> Frontier:
        """What `to_bytes` wrote.

        Raises:
            ValueError: not a frontier of that size.
        """
        return cls(size, tuple(data[start : start + HASH_BYTES] for start in range(0, len(data), HASH_BYTES)))
