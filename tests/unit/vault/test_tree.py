"""Merkle trees: every published case of RFC 6962, the negative ones included."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopbackup.vault.ledger.tree import (
    Tree,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)

VECTORS = json.loads(
    (Path(__file__).parents[2] / "vectors" / "rfc6962-merkle.json").read_text("utf-8")
)
LEAVES = [bytes.fromhex(leaf) for leaf in VECTORS["leaves"]]
ROOTS = [bytes.fromhex(root) for root in VECTORS["roots_by_size"]]
HASHES = [leaf_hash(leaf) for leaf in LEAVES]


def unpack(case: dict[str, Any], *names: str) -> list[bytes]:
    """Decode the base64 fields of a case."""
    return [base64.b64decode(case[name] or "") for name in names]


def head_of(leaves: list[bytes]) -> bytes:
    """Give the head of a tree that is grown leaf by leaf."""
    tree = Tree()
    for leaf in leaves:
        tree.append(leaf)
    return tree.head()


@pytest.mark.parametrize("size", range(len(ROOTS)))
def test_growing_tree_has_the_published_heads(size: int) -> None:
    """The head of the first n leaves is the published one."""
    assert head_of(LEAVES[:size]) == ROOTS[size]


@pytest.mark.parametrize("case", VECTORS["inclusion"], ids=lambda case: case["file"])
def test_inclusion_proofs_are_judged_as_published(case: dict[str, Any]) -> None:
    """Every valid proof is accepted and every invalid one refused."""
    root, leaf = unpack(case, "root", "leafHash")
    proof = [base64.b64decode(step) for step in case["proof"] or ()]

    verdict = verify_inclusion(leaf, case["leafIdx"], case["treeSize"], proof, root)

    assert verdict is not case["wantErr"]


@pytest.mark.parametrize("case", VECTORS["consistency"], ids=lambda case: case["file"])
def test_consistency_proofs_are_judged_as_published(case: dict[str, Any]) -> None:
    """Every valid proof is accepted and every invalid one refused."""
    old, new = unpack(case, "root1", "root2")
    proof = [base64.b64decode(step) for step in case["proof"] or ()]

    verdict = verify_consistency(case["size1"], case["size2"], proof, old, new)

    assert verdict is not case["wantErr"]


@pytest.mark.parametrize(
    "case", VECTORS["derived_paths"], ids=lambda case: f"{case['index']}-of-{case['size']}"
)
def test_inclusion_proofs_are_the_published_ones(case: dict[str, Any]) -> None:
    """The proof that we make is the one of the vector."""
    proof = inclusion_proof(HASHES[: case["size"]], case["index"])

    assert [step.hex() for step in proof] == case["path"]


@pytest.mark.parametrize(
    "case", VECTORS["derived_consistency"], ids=lambda case: f"{case['size1']}-to-{case['size2']}"
)
def test_consistency_proofs_are_the_published_ones(case: dict[str, Any]) -> None:
    """The proof that we make is the one of the vector."""
    proof = consistency_proof(HASHES[: case["size2"]], case["size1"])

    assert [step.hex() for step in proof] == case["proof"]


@given(st.integers(1, 70), st.data())
def test_every_proof_that_is_made_verifies_and_no_other_leaf_does(
    size: int, data: st.DataObject
) -> None:
    """Inclusion and consistency hold for all sizes, and a changed leaf is refused."""
    leaves = [bytes([number]) for number in range(size)]
    hashes = [leaf_hash(leaf) for leaf in leaves]
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(1, size))

    inclusion = inclusion_proof(hashes, index)
    consistency = consistency_proof(hashes, old)

    head = head_of(leaves)
    assert verify_inclusion(hashes[index], index, size, inclusion, head)
    assert not verify_inclusion(leaf_hash(b"other"), index, size, inclusion, head)
    assert verify_consistency(old, size, consistency, head_of(leaves[:old]), head)
    assert not verify_consistency(old, size, consistency, b"x" * 32, head)


def test_tree_goes_on_from_its_peaks() -> None:
    """Size and peaks are all that has to be kept to grow on."""
    tree = Tree()
    for leaf in LEAVES[:5]:
        tree.append(leaf)

    again = Tree(tree.size, tree.peaks)
    copy = tree.copy()
    again.append(LEAVES[5])

    assert again.head() == ROOTS[6]
    assert copy.head() == tree.head() == ROOTS[5]


def test_peaks_that_do_not_fit_the_size_are_refused() -> None:
    """There are as many peaks as the size has one bits."""
    with pytest.raises(ValueError, match="peaks"):
        Tree(5, [b"x" * 32])
