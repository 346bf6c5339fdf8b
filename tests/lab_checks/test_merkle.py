"""Our tree against the RFC's definition, and against certificate-transparency's known roots."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.lab.merkle import MerkleTree, leaf_hash, node_hash

# github.com/google/certificate-transparency, merkletree/merkle_tree_test: inputs and roots
INPUTS = (
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
)
ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


def tree_of(entries: list[bytes]) -> MerkleTree:
    tree = MerkleTree()
    for index, entry in enumerate(entries):
        assert tree.append(entry) == index
    return tree


def definition(entries: list[bytes]) -> bytes:
    """RFC 6962, 2.1, literally."""
    if not entries:
        return hashlib.sha256().digest()
    if len(entries) == 1:
        return leaf_hash(entries[0])
    k = 1
    while k * 2 < len(entries):
        k *= 2
    return node_hash(definition(entries[:k]), definition(entries[k:]))


def path(index: int, entries: list[bytes]) -> list[bytes]:
    """RFC 6962, 2.1.1, literally."""
    if len(entries) == 1:
        return []
    k = 1
    while k * 2 < len(entries):
        k *= 2
    if index < k:
        return [*path(index, entries[:k]), definition(entries[k:])]
    return [*path(index - k, entries[k:]), definition(entries[:k])]


@pytest.mark.parametrize(("size", "root"), ROOTS.items())
def test_roots_are_those_of_certificate_transparency(size: int, root: str) -> None:
    entries = [bytes.fromhex(text) for text in INPUTS[:size]]
    assert tree_of(entries).root().hex() == root


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=40), st.data())
def test_roots_and_proofs_are_the_rfcs(entries: list[bytes], data: st.DataObject) -> None:
    tree = tree_of(entries)
    index = data.draw(st.integers(0, len(entries) - 1))
    assert tree.root() == definition(entries)
    assert tree.inclusion_proof(index) == path(index, entries)
