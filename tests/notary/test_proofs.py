"""Proofs, against the published ones of Certificate Transparency's test data and against the tree itself."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnkey.notary.ledger import Frontier, leaf_hash, node_hash
from turnkey.notary.proofs import Nodes, consistency_proof, consistent, included, inclusion_proof, tree_root

# The reference leaves of Certificate Transparency's test data, the roots published for trees of 1 to 8 of them, and the
# proofs published for them (transparency-dev/merkle, proof/verify_test.go: leaf number or first size, size, proof).
LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
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
FIRST = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
TWO_AND_THREE = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
FOUR_TO_SEVEN = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
FOURTH = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
SIX_AND_SEVEN = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
FOUR_AND_FIVE = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
SIXTH = "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f"
SECOND = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
INCLUSION = [
    (1, 1, []),
    (1, 8, [SECOND, TWO_AND_THREE, FOUR_TO_SEVEN]),
    (6, 8, [FOURTH, SIX_AND_SEVEN, ROOTS[3]]),
    (3, 3, [ROOTS[1]]),
    (2, 5, [FIRST, TWO_AND_THREE, FOURTH]),
]
CONSISTENCY = [
    (1, 1, []),
    (1, 8, [SECOND, TWO_AND_THREE, FOUR_TO_SEVEN]),
    (6, 8, [FOUR_AND_FIVE, SIX_AND_SEVEN, ROOTS[3]]),
    (2, 5, [TWO_AND_THREE, FOURTH]),
    (6, 7, [FOUR_AND_FIVE, SIXTH, ROOTS[3]]),
]
NO_HASH = bytes.fromhex("abacaba000000000000000000000000000000000000000000060061e00123456")


def hashes(values: list[str]) -> list[bytes]:
    return [bytes.fromhex(value) for value in values]


def nodes_of(leaves: list[bytes]) -> Nodes:
    def node(level: int, place: int) -> bytes:
        if level == 0:
            return leaf_hash(leaves[place])
        return node_hash(node(level - 1, 2 * place), node(level - 1, 2 * place + 1))

    return node


PUBLISHED = nodes_of(hashes(LEAVES))


@pytest.mark.parametrize(("number", "size", "proof"), INCLUSION)
def test_published_inclusion_proofs(number: int, size: int, proof: list[str]) -> None:
    leaf, root = leaf_hash(bytes.fromhex(LEAVES[number - 1])), bytes.fromhex(ROOTS[size - 1])
    assert inclusion_proof(number - 1, size, PUBLISHED) == tuple(hashes(proof))
    assert included(leaf, number - 1, size, hashes(proof), root)


@pytest.mark.parametrize(("first", "second", "proof"), CONSISTENCY)
def test_published_consistency_proofs(first: int, second: int, proof: list[str]) -> None:
    roots = hashes(ROOTS)
    assert consistency_proof(first, second, PUBLISHED) == tuple(hashes(proof))
    assert consistent(first, second, roots[first - 1], roots[second - 1], hashes(proof))


@pytest.mark.parametrize(("number", "size", "published"), INCLUSION[1:])
def test_a_published_inclusion_proof_that_was_changed_shows_nothing(
    number: int, size: int, published: list[str]
) -> None:
    """The changes of transparency-dev/merkle's own corruption list."""
    index, proof = number - 1, hashes(published)
    leaf, root = leaf_hash(bytes.fromhex(LEAVES[index])), bytes.fromhex(ROOTS[size - 1])
    for wrong_index in (index - 1, index + 1, index ^ 2):
        assert not included(leaf, wrong_index, size, proof, root)
    for wrong_size in (size * 2, size // 2):
        assert not included(leaf, index, wrong_size, proof, root)
    assert not included(b"WrongLeaf", index, size, proof, root)
    for wrong_root in (Frontier().root(), NO_HASH, b""):
        assert not included(leaf, index, size, proof, wrong_root)
    for wrong in (
        [*proof, b""], [*proof, root], [b"", *proof], [root, *proof], proof[:-1],
        [proof[0], NO_HASH, *proof[1:]], *flipped(proof, 8),
    ):  # fmt: skip
        assert not included(leaf, index, size, wrong, root)


@pytest.mark.parametrize(("first", "second", "published"), CONSISTENCY[1:])
def test_a_published_consistency_proof_that_was_changed_shows_nothing(
    first: int, second: int, published: list[str]
) -> None:
    proof, one, two = hashes(published), bytes.fromhex(ROOTS[first - 1]), bytes.fromhex(ROOTS[second - 1])
    for wrong_first in (first - 1, first + 1, first ^ 2):
        assert not consistent(wrong_first, second, one, two, proof)
    for wrong_second in (second * 2, second // 2):
        assert not consistent(first, wrong_second, one, two, proof)
    assert not consistent(first, second, b"WrongRoot", two, proof)
    assert not consistent(first, second, one, b"WrongRoot", proof)
    assert not consistent(first, second, two, one, proof)
    for wrong in (
        [], [*proof, b""], [*proof, one], [*proof, two], [b"", *proof], [one, *proof], [two, *proof],
        [proof[0], *proof], proof[:-1], *flipped(proof, 16),
    ):  # fmt: skip
        assert not consistent(first, second, one, two, wrong)


def flipped(proof: list[bytes], bit: int) -> list[list[bytes]]:
    return [
        [*proof[:place], bytes((proof[place][0] ^ bit,)) + proof[place][1:], *proof[place + 1 :]]
        for place in range(len(proof))
    ]


def test_the_small_cases_of_consistency() -> None:
    root, other = NO_HASH, Frontier().root()
    assert consistent(0, 0, root, root, [])
    assert consistent(0, 1, root, other, [])
    assert consistent(1, 1, other, other, [])
    for first, second, one, two, proof in (
        (0, 0, root, other, []), (1, 1, root, other, []), (1, 0, root, root, []), (2, 1, root, root, []),
        (1, 2, root, root, []), (0, 0, root, root, [other]), (0, 1, root, root, [other]), (1, 1, root, root, [other]),
    ):  # fmt: skip
        assert not consistent(first, second, one, two, proof)


@given(st.integers(1, 70), st.data())
def test_every_proof_made_is_one(size: int, data: st.DataObject) -> None:
    leaves = [bytes((number,)) for number in range(size)]
    nodes = nodes_of(leaves)
    roots = [Frontier()]
    for leaf in leaves:
        roots.append(roots[-1].append(leaf_hash(leaf)))
    root = roots[size].root()
    assert tree_root(0, size, nodes) == root
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(index, size, nodes)
    assert included(leaf_hash(leaves[index]), index, size, proof, root)
    for other in {index ^ 1, size - 1 - index} - {index}:
        assert not included(leaf_hash(leaves[index]), other, size, proof, root)
    first = data.draw(st.integers(1, size))
    assert consistent(first, size, roots[first].root(), root, consistency_proof(first, size, nodes))
    if first < size:
        assert not consistent(first, size, NO_HASH, root, consistency_proof(first, size, nodes))


def test_what_no_tree_can_prove_is_refused() -> None:
    for make in (
        lambda: inclusion_proof(3, 3, PUBLISHED),
        lambda: inclusion_proof(-1, 3, PUBLISHED),
        lambda: consistency_proof(4, 3, PUBLISHED),
    ):
        with pytest.raises(ValueError, match="tree of 3"):
            make()


def test_all_pairs_of_a_small_tree() -> None:
    for first, second in itertools.combinations_with_replacement(range(1, 9), 2):
        proof = consistency_proof(first, second, PUBLISHED)
        assert consistent(first, second, bytes.fromhex(ROOTS[first - 1]), bytes.fromhex(ROOTS[second - 1]), proof)
