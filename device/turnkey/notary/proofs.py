"""Proofs about the ledger's tree: that an entry is in it, and that a later tree only added to an earlier one.

RFC 9162 section 2.1.3 (inclusion) and 2.1.4 (consistency). What makes a proof asks for the hashes of perfect subtrees,
so that a proof out of half a million entries costs some forty look-ups; what checks one needs the proof and the roots.

This module does no I/O: hashes are passed in, or asked of a function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from turnkey.notary.ledger import HASH_BYTES, node_hash

Nodes = Callable[[int, int], bytes]
"""Hash of the perfect subtree of 2**level leaves that begins at leaf place * 2**level; arguments: level, place."""


def tree_root(start: int, end: int, nodes: Nodes) -> bytes:
    """Root hash over the leaves `start` to `end` (exclusive), 32 bytes, as RFC 9162, 2.1.1 splits them.

    `start` is a multiple of the smallest power of two that is not below `end - start`: every range that a proof names.
    """
    count = end - start
    if count & (count - 1) == 0:
        level = count.bit_length() - 1
        return nodes(level, start >> level)
    split = start + _split(count)
    return node_hash(tree_root(start, split, nodes), tree_root(split, end, nodes))


def inclusion_proof(index: int, size: int, nodes: Nodes) -> tuple[bytes, ...]:
    """Proof that the entry at `index` is in the tree of `size` entries (RFC 9162, 2.1.3.1).

    Raises:
        ValueError: the tree has no such entry.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} entries has none at {index}")
    return tuple(_path(index, 0, size, nodes))


def consistency_proof(first: int, second: int, nodes: Nodes) -> tuple[bytes, ...]:
    """Proof that the tree of `second` entries begins with that of `first` (RFC 9162, 2.1.4.1).

    Empty where they are the same, and from the empty tree.

    Raises:
        ValueError: `first` is the larger one.
    """
    if not 0 <= first <= second:
        raise ValueError(f"a tree of {second} entries does not begin with one of {first}")
    if first in (0, second):
        return ()
    return tuple(_subproof(first, 0, second, True, nodes))


def included(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether `proof` shows that the entry of hash `leaf` is at `index` of a tree (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size or not _are_hashes((leaf, root, *proof)):
        return False
    place, last, hashed = index, size - 1, leaf
    for step in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            hashed = node_hash(step, hashed)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            hashed = node_hash(hashed, step)
        place, last = place >> 1, last >> 1
    return last == 0 and hashed == root


def consistent(first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether `proof` shows that the second tree only added to the first (RFC 9162, 2.1.4.2)."""
    if not 0 <= first <= second or not _are_hashes((first_root, second_root, *proof)):
        return False
    if first == second:
        return not proof and first_root == second_root
    if first == 0:
        return not proof
    steps = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    if not steps:
        return False
    place, last = first - 1, second - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    older = newer = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            older, newer = node_hash(step, older), node_hash(step, newer)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            newer = node_hash(newer, step)
        place, last = place >> 1, last >> 1
    return last == 0 and older == first_root and newer == second_root


def _split(count: int) -> int:
    """The largest power of two below `count`, which is 2 or more."""
    return 1 << (count - 1).bit_length() - 1


def _path(index: int, start: int, end: int, nodes: Nodes) -> list[bytes]:
    if end - start == 1:
        return []
    split = start + _split(end - start)
    if index < split:
        return [*_path(index, start, split, nodes), tree_root(split, end, nodes)]
    return [*_path(index, split, end, nodes), tree_root(start, split, nodes)]


def _subproof(first: int, start: int, end: int, whole: bool, nodes: Nodes) -> list[bytes]:
    """SUBPROOF of RFC 9162, 2.1.4.1; `whole`: the verifier knows this subtree's hash already, as the first tree's."""
    if first == end:
        return [] if whole else [tree_root(start, end, nodes)]
    split = start + _split(end - start)
    if first <= split:
        return [*_subproof(first, start, split, whole, nodes), tree_root(split, end, nodes)]
    return [*_subproof(first, split, end, False, nodes), tree_root(start, split, nodes)]


def _are_hashes(values: Sequence[bytes]) -> bool:
    return all(len(value) == HASH_BYTES for value in values)
