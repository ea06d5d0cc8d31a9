"""Fences in the fold: what was erased stays so, whatever a record says."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import structs
from tests.unit.vault.test_state import HASH, PACK_FRONT, Ledger, certificate, epoch

from loopbackup.vault.format import record as rec
from loopbackup.vault.ledger.core import decode_state, encode_state, state_digest
from loopbackup.vault.ledger.fences import Erasure

ERASURE = b"X" * 16
GONE = b"G" * 16
STAYS = b"H" * 16
NOW: dict[str, Any] = {"epoch": b"f" * 16, "root": b"q" * 32}


@pytest.fixture
def ledger() -> Ledger:
    """Give a ledger of a new vault."""
    return Ledger()


def erasing(**changes: Any) -> rec.EpochChanged:
    """Give the facts of an epoch that erases one domain."""
    return structs.replace(epoch(), **{"erasure": ERASURE, "erased": GONE} | changes)


def after(ledger: Ledger) -> dict[str, Any]:
    """Let a writer be enrolled who outlives the epoch; give what he signs with."""
    key = Ed25519PrivateKey.generate()
    ledger.say("writer", rec.WriterEnrolled(certificate(key, b"W" * 16, *rec.ALL_ROLES)))
    return {"key": key, "writer": b"W" * 16}


def snapshot(domains: bytes, domains_list: bytes = b"") -> rec.SnapshotCommitted:
    """Give a snapshot that names domains."""
    return rec.SnapshotCommitted(
        b"s" * 16, HASH, 0, PACK_FRONT, PACK_FRONT, b"", domains, domains_list
    )


def test_erasure_fences_its_domains_for_ever(ledger: Ledger) -> None:
    """A snapshot that names one is void, also in a list; others hold."""
    writer = after(ledger)
    assert ledger.say("epoch", erasing()) is not None

    assert ledger.say("snapshot", snapshot(STAYS + GONE), **writer, **NOW) is None
    assert "erased" in ledger.state.alarms[-1].reason
    listed = b"L" * 32
    ledger.lists[listed] = STAYS + GONE
    assert ledger.say("snapshot", snapshot(b"", listed), **writer, **NOW) is None
    assert ledger.say("snapshot", snapshot(STAYS), **writer, **NOW) is not None
    assert ledger.state.fenced == {GONE: 2}
    assert ledger.state.erasures == {ERASURE: Erasure(2)}


def test_fences_survive_a_summary(ledger: Ledger) -> None:
    """Whoever opens from one knows who was erased."""
    writer = after(ledger)
    ledger.say("epoch", erasing())
    ledger.say("receipt", rec.Receipted(ERASURE, "keys_destroyed"), **writer, **NOW)
    ledger.say("prune", rec.Pruned(cleared=ERASURE), **writer, **NOW)
    ledger.say("receipt", rec.Receipted(ERASURE, "completed"), **writer, **NOW)
    state = ledger.state

    loaded = decode_state(encode_state(state), authority=state.authority)

    assert (loaded.fenced, loaded.erasures) == ({GONE: 2}, {ERASURE: Erasure(2, 3, 4, 5)})
    assert state_digest(loaded) == state_digest(state) == state_digest(ledger.again())


@pytest.mark.parametrize(
    "changes",
    [
        {"erasure": b""},
        {"erased": b""},
        {"erased": GONE[:-1]},
        {"erasure": b"short"},
        {"erased": b"none" * 4},
    ],
    ids=["no name", "no domains", "half a domain", "a short name", "what is about nobody"],
)
def test_erasure_that_makes_no_sense_is_void(ledger: Ledger, changes: dict[str, bytes]) -> None:
    """Nothing of it counts, the change of keys neither."""
    before = ledger.state.epoch
    if changes.get("erased") == b"none" * 4:
        changes = {"erased": ledger.state.none_domain}

    assert ledger.say("epoch", erasing(**changes)) is None

    assert (ledger.state.epoch, ledger.state.fenced) == (before, {})


def test_erasure_by_a_writer_without_the_role_is_void(ledger: Ledger) -> None:
    """An enrolled maintainer cannot erase anybody."""
    key = Ed25519PrivateKey.generate()
    ledger.say("writer", rec.WriterEnrolled(certificate(key, b"W" * 16, "maintainer", "writer")))

    assert ledger.say("epoch", erasing(), key=key, writer=b"W" * 16) is None

    assert "lacks the role admin" in ledger.state.alarms[-1].reason
    assert ledger.state.fenced == {}


def test_nothing_completes_an_erasure_before_a_prune_has_cleared_it(ledger: Ledger) -> None:
    """Nor before there is a receipt that it completes, nor with a stage that nobody knows."""
    writer = after(ledger)
    ledger.say("epoch", erasing())
    completed = rec.Receipted(ERASURE, "completed")

    assert ledger.say("receipt", completed, **writer, **NOW) is None
    assert ledger.say("receipt", rec.Receipted(ERASURE, "done"), **writer, **NOW) is None
    ledger.say("receipt", rec.Receipted(ERASURE, "keys_destroyed"), **writer, **NOW)
    assert ledger.say("receipt", completed, **writer, **NOW) is None
    assert ledger.say("prune", rec.Pruned(cleared=b"?" * 16), **writer, **NOW) is None
    assert ledger.say("prune", rec.Pruned(cleared=ERASURE[:-1]), **writer, **NOW) is None
    assert ledger.state.erasures[ERASURE].cleared == -1
    assert ledger.say("prune", rec.Pruned(cleared=ERASURE), **writer, **NOW) is not None
    assert ledger.say("receipt", completed, **writer, **NOW) is not None


def test_receipt_of_no_erasure_is_void(ledger: Ledger) -> None:
    """Nobody can be told that somebody was erased who was not."""
    assert ledger.say("receipt", rec.Receipted(ERASURE, "keys_destroyed")) is None
    assert ledger.state.erasures == {}
