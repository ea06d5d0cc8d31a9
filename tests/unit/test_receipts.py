"""Receipts: canonical, signed, bound to a name that they do not give away, hostile ones refused."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

import loopbackup as lb
from loopbackup.receipts import FORMAT, Receipt, canonical_json, subject_ref
from loopbackup.vault.ledger.tree import Tree, inclusion_proof, leaf_hash

KEY = bytes(range(32))
PUBLIC = Ed25519PrivateKey.from_private_bytes(KEY).public_key().public_bytes_raw().hex()
OPENING = b"o" * 32
ACME = ("acme", "user-42")


def facts(**changes: Any) -> dict[str, Any]:
    """Give the facts of a receipt whose proofs hold."""
    leaves = [b"%d" % n for n in range(11)]
    hashes = [leaf_hash(leaf) for leaf in leaves]
    tree = Tree()
    for leaf in leaves:
        tree.append(leaf)
    record = {
        "kind": "epoch",
        "index": 6,
        "leaf": hashes[6].hex(),
        "proof": [step.hex() for step in inclusion_proof(hashes, 6)],
    }
    return {
        "format": FORMAT,
        "authority": PUBLIC,
        "erased_at": "2026-03-01T12:00:00+00:00",
        "stage": "keys_destroyed",
        "level": "E1",
        "irrevocable_at": None,
        "effective_by": "2026-03-01T12:15:01+00:00",
        "scope": "data",
        "earlier": [],
        "reason": "request 118",
        "subjects": [{"ref": subject_ref(ACME, OPENING)}],
        "ledger": {"size": tree.size, "root": tree.head().hex(), "records": [record]},
        "limits": ["one", "two"],
    } | changes


def signed(**changes: Any) -> Receipt:
    """Give a signed receipt."""
    return Receipt.sign(facts(**changes), KEY, {ACME: OPENING})


# ---- canonical JSON


def test_canonical_json_is_that_of_rfc_8785() -> None:
    """Sorted keys, no spaces, short escapes, UTF-8 as it is."""
    value = {"b": [1, True, None, "\u20ac$\x0f\nA'\"\\/"], "a": {}, "A": -5}

    assert canonical_json(value) == (
        '{"A":-5,"a":{},"b":[1,true,null,"\u20ac$\\u000f\\nA\'\\"\\\\/"]}'.encode()
    )


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(max_codepoint=127)), inner)
    ),
    max_leaves=20,
)


@given(PLAIN)
def test_canonical_json_reads_back_and_is_canonical(value: Any) -> None:
    """Reading and encoding again gives the same bytes."""
    data = canonical_json(value)

    assert json.loads(data) == value
    assert canonical_json(json.loads(data)) == data


@pytest.mark.parametrize(
    "value", [1.5, 2**53, {"\u00e9": 1}, {1: 2}, b"x", {"a": {1, 2}}, "\ud800"]
)
def test_what_has_no_single_encoding_is_refused(value: object) -> None:
    """Numbers and keys that implementations write differently never come in."""
    with pytest.raises(lb.InputError):
        canonical_json(value)


# ---- what a receipt is


def test_receipt_verifies_after_saving_and_loading(tmp_path: Path) -> None:
    """The openings are not saved."""
    receipt = signed()
    receipt.verify(PUBLIC)

    receipt.save(tmp_path / "r.json")
    loaded = lb.Receipt.load(tmp_path / "r.json")

    loaded.verify(PUBLIC)
    loaded.verify(PUBLIC.upper())
    assert loaded.head == f"11:{receipt.facts['ledger']['root']}"
    assert loaded == receipt
    assert (loaded.openings, receipt.openings) == ({}, {ACME: OPENING})
    assert OPENING.hex() not in (tmp_path / "r.json").read_text()
    assert loaded.level == "E1"
    assert loaded.limits == ("one", "two")
    assert str(loaded) == "1 subject erased at 2026-03-01T12:00:00+00:00: level E1, keys destroyed"
    assert "Receipt" in loaded._repr_html_()


def test_subject_is_bound_without_being_named() -> None:
    """Only the opening shows whom it is about."""
    receipt = signed()

    assert receipt.concerns(ACME, OPENING)
    assert not receipt.concerns(("acme", "user-4"), OPENING)
    assert not receipt.concerns(ACME, b"p" * 32)
    assert receipt.subjects == (hashlib.sha256(OPENING + b'["acme","user-42"]').hexdigest(),)
    assert b"acme" not in receipt.to_json()


def test_receipt_can_be_pickled_and_copied() -> None:
    """It is a value."""
    receipt = signed()

    assert copy.deepcopy(receipt) == receipt
    assert pickle.loads(pickle.dumps(receipt)) == receipt


def test_irrevocable_at_is_an_aware_instant_or_none() -> None:
    """None says that nobody knows."""
    assert signed().irrevocable_at is None
    assert str(signed(irrevocable_at="2026-03-01T12:00:00+00:00").irrevocable_at).endswith("+00:00")


# ---- attacks


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("level", "E2"),
        ("stage", "completed"),
        ("reason", "request 119"),
        ("subjects", [{"ref": "00"}]),
        ("limits", []),
        ("irrevocable_at", "2026-03-01T12:00:00+00:00"),
        ("extra", 1),
    ],
)
def test_altered_receipt_does_not_verify(name: str, value: object) -> None:
    """Not a single fact can be changed, added or taken away."""
    outer = json.loads(signed().to_json())
    outer["receipt"][name] = value

    with pytest.raises(lb.IntegrityError, match="altered"):
        Receipt.from_json(json.dumps(outer).encode()).verify(PUBLIC)


def test_receipt_of_another_vault_does_not_verify() -> None:
    """Neither with its own key nor under the name of this one."""
    other = Ed25519PrivateKey.from_private_bytes(b"x" * 32)
    public = other.public_key().public_bytes_raw().hex()

    with pytest.raises(lb.IntegrityError):
        signed().verify(public)
    with pytest.raises(lb.IntegrityError, match="another vault"):
        Receipt.sign(facts(), b"x" * 32, {}).verify(public)


def test_proof_that_does_not_lead_to_the_root_is_refused() -> None:
    """Signed all the same: the authority would have to lie about its own ledger."""
    wrong = facts()
    wrong["ledger"]["records"][0]["index"] = 5
    with pytest.raises(lb.IntegrityError, match="proof"):
        Receipt.sign(wrong, KEY, {}).verify(PUBLIC)
    wrong = facts()
    wrong["ledger"]["records"][0]["proof"].append("00" * 32)
    with pytest.raises(lb.IntegrityError, match="proof"):
        Receipt.sign(wrong, KEY, {}).verify(PUBLIC)


@pytest.mark.parametrize("opening", [b"", b"o" * 31, b"o" * 33])
def test_opening_of_another_length_is_refused(opening: bytes) -> None:
    """Bytes and name can be told apart in one way only."""
    with pytest.raises(lb.InputError):
        subject_ref(ACME, opening)


@pytest.mark.parametrize("key", ["", "zz", "00" * 31, None, 5])
def test_what_is_no_public_key_is_said_to_be_none(key: Any) -> None:
    """The caller can mend it."""
    with pytest.raises(lb.InputError):
        signed().verify(key)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"receipt": {}, "signature": "00"}',
        b'{"receipt": {"format": 5}, "signature": "00"}',
        b'{"receipt": {"format": "loopbackup-receipt-1"}, "signature": "00"}',
        b'{"receipt": {"format": "loopbackup-receipt-1"}, "signature": 5}',
        b'{"receipt": {"format": "loopbackup-receipt-1", "a": 1.5}, "signature": "00"}',
        b'{"receipt": {"format": "loopbackup-receipt-1", "a": %s1%s}, "signature": "00"}'
        % (b"[" * 900, b"]" * 900),
    ],
)
def test_hostile_bytes_are_no_receipt(data: bytes) -> None:
    """One clear error, whatever they are."""
    with pytest.raises(lb.FormatError):
        Receipt.from_json(data)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("level", "E9"),
        ("stage", None),
        ("limits", [1]),
        ("limits", "text"),
        ("subjects", [{}]),
        ("ledger", {}),
        ("ledger", {"size": "x", "root": "", "records": []}),
        ("irrevocable_at", "yesterday"),
        ("effective_by", None),
        ("scope", "everything"),
        ("earlier", None),
        ("effective_by", "2026-03-01T12:00:00"),
        ("irrevocable_at", "2026-03-01T12:00:00"),
        ("authority", None),
    ],
)
def test_facts_of_the_wrong_shape_are_refused(name: str, value: object) -> None:
    """Whoever reads an attribute of a loaded receipt gets what it says it is."""
    outer = {"receipt": facts(**{name: value}), "signature": "00" * 64}

    with pytest.raises(lb.FormatError):
        Receipt.from_json(json.dumps(outer).encode())


def test_newer_receipt_says_so(tmp_path: Path) -> None:
    """An update is what helps."""
    (tmp_path / "r").write_text('{"receipt":{"format":"loopbackup-receipt-2"},"signature":""}')

    with pytest.raises(lb.NewerFormat):
        lb.Receipt.load(tmp_path / "r")
    with pytest.raises(lb.NotFoundError):
        lb.Receipt.load(tmp_path / "none")
