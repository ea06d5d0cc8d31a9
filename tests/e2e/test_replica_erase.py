"""Erasures reach replicas: those at hand at once, the others are waited for and said so."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.support import create, dump, load, read_all, read_snapshot, reopen

import loopbackup as lb
from loopbackup.testing import find_canary
from loopbackup.testing.faults import (
    Call,
    Crash,
    Crashed,
    Delayed,
    Fault,
    FaultStore,
    Refused,
    Rule,
    script,
)
from loopbackup.vault.format import names
from loopbackup.vault.format.tombstone import is_tombstone
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.store.protocol import Remains, Store
from loopbackup.vault.store.wrappers import CountingStore, WrapperStore
from loopbackup.vault.verbs.replicate import Replicated, run_replicate

URL, OTHER_URL = "memory://copy", "memory://other"
ACME, OTHER = ("acme", "user-42"), ("acme", "user-4")
CANARY = "canary-9f3b-of-user-42"
OTHERS = {"users/4.txt": b"four" * 10, "about": b"nobody"}


def fill(vault: lb.Vault, *, name: str = "n") -> lb.Snapshot:
    """Back up two people and nobody."""
    return vault.backup(
        [
            lb.Item(f"users/{CANARY}.txt", data=CANARY.encode() * 3, version=CANARY, subject=ACME),
            lb.Item("users/4.txt", data=b"four" * 10, version="1", subject=OTHER),
            lb.Item("about", data=b"nobody", version="1"),
        ],
        name=name,
    )


def given(vault: lb.Vault, stores: Mapping[str, Store]) -> None:
    """Give replicas as ``open(replicas=...)`` does, for stores that no URL leads to."""
    vault._session.replicas = {url: _always(store) for url, store in stores.items()}


def _always(store: Store) -> Callable[[], Store]:
    return lambda: store


def replicate(vault: lb.Vault, store: Store, url: str = URL) -> Replicated:
    """Replicate into a store that no URL leads to."""
    return run_replicate(vault._session, vault._actor, url, lambda: store, "europe-north1")


def replicated() -> tuple[lb.Vault, MemoryStore, MemoryStore]:
    """Make a vault with a snapshot that has a replica, which then falls behind."""
    store, there = MemoryStore(), MemoryStore()
    create(store, grace_s=0)
    vault = reopen(store)
    fill(vault)
    replicate(vault, there)
    fill(vault)
    return vault, store, there


def erase(vault: lb.Vault, who: lb.Subject = ACME) -> lb.Receipt:
    """Erase somebody."""
    return vault.erase_subjects([who], reason="request 118")


def roots(store: Store) -> list[bytes]:
    """Give what stands in the places of keyring roots."""
    return [store.get(e.key) for e in store.list(names.KEYS) if e.key.endswith("/root")]


def only_current_keys(vault: lb.Vault, there: Store) -> None:
    """Hold a replica's key objects against those that count: the rest are tombstones."""
    state = vault._session.log.state
    current = {names.root_name(state.epoch)}
    current |= {names.slot_name(state.epoch, slot) for slot, _, _ in state.slots}
    current |= {names.shard_name(digest) for digest in state.shards.values()}
    found = {entry.key for entry in there.list(names.KEYS)}
    assert current <= found
    assert all(is_tombstone(there.get(name)) for name in found - current)


def others_only(there: Store, **options: Any) -> None:
    """Hold a replica to it that the others are there, and the erased person is not."""
    with reopen(load(dump(there)), read_only=True, **options) as copy:
        assert copy.snapshots()
        for snapshot in copy.snapshots():
            assert read_snapshot(snapshot) == OTHERS
        assert find_canary(copy, CANARY) == []
        assert copy.check(data=True).ok


# ---- reached


def test_erasure_reaches_the_keys_of_a_replica_that_is_behind() -> None:
    """At once, whatever data it lacks; it opens at its old head, with the keys that count."""
    vault, _, there = replicated()
    packs = {entry.key for entry in there.list(names.PACKS)}
    (known,) = vault._session.log.state.replicas.values()
    given(vault, {URL: there})

    receipt = erase(vault)

    receipt.verify(vault.public_key)
    (primary, replica) = receipt.facts["keys"]["destinations"]
    assert (primary["store"], primary["stage"], primary["left"]) == (
        "primary",
        "keys_destroyed",
        [],
    )
    assert (replica["stage"], replica["location"]) == ("keys_destroyed", "europe-north1")
    assert len(receipt.facts["physical"]["destinations"]) == 2
    assert receipt.level == "E1"
    assert {entry.key for entry in there.list(names.PACKS)} == packs
    only_current_keys(vault, there)
    others_only(there)
    with reopen(there, read_only=True) as copy:
        # Its own records, and the note of them.
        assert len(copy.ledger) == known.size + 1
        with pytest.raises(lb.NotFoundError) as caught:
            copy.restore(copy.snapshots()[0].id, "/nowhere", subject=ACME)
        assert caught.value.kind == "erased"


def test_two_erasures_lead_from_tombstone_to_tombstone() -> None:
    """The first stone leads to keys that are buried in their turn; the second leads on."""
    vault, _, there = replicated()
    given(vault, {URL: there})
    erase(vault)
    erase(vault, OTHER)

    with reopen(there, read_only=True) as copy:
        assert [read_snapshot(s) for s in copy.snapshots()] == [{"about": b"nobody"}]
        assert copy.check(data=True).ok
    assert replicate(vault, there).ok
    with reopen(there, read_only=True) as copy:
        assert read_all(copy) == read_all(vault)


def test_open_replica_forgets_the_erased_with_its_next_verb() -> None:
    """A process that has it open follows the tombstone, as one that has the vault open folds."""
    vault, _, there = replicated()
    given(vault, {URL: there})
    with reopen(there, read_only=True) as copy:
        (snapshot,) = copy.snapshots()
        assert len(read_snapshot(snapshot)) == 3
        erase(vault)

        (snapshot,) = copy.snapshots()
        assert read_snapshot(snapshot) == OTHERS


def test_replica_that_has_caught_up_with_the_fence_opens_for_who_knows_of_it(
    tmp_path: Path,
) -> None:
    """Whoever has seen the erasure refuses a replica without it, and takes one with its keys."""
    vault, store, there = replicated()
    old = load(dump(there))
    given(vault, {URL: there})
    erase(vault)
    with reopen(store, state_dir=tmp_path, read_only=True):
        pass

    with pytest.raises(lb.RollbackDetected) as caught:
        reopen(old, state_dir=tmp_path, read_only=True)
    assert caught.value.kind == "behind_keys"
    others_only(there, state_dir=tmp_path)


# ---- out of reach


def test_replica_out_of_reach_is_what_remains() -> None:
    """Known from the ledger and not given: the receipt is signed, and says it is pending."""
    vault, _, there = replicated()

    with pytest.raises(lb.ErasureIncomplete, match="1 replica") as caught:
        erase(vault)

    receipt, (remaining,) = caught.value.receipt, caught.value.remaining
    assert (remaining.where, remaining.until) == (URL, None)
    assert "not given" in remaining.why
    receipt.verify(vault.public_key)
    assert receipt.facts["keys"]["destinations"][1]["stage"] == "pending"
    assert (receipt.level, receipt.irrevocable_at) == ("E0", None)
    assert any("europe-north1" in limit for limit in receipt.limits)
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.remaining == caught.value.remaining
    kept = vault._session.log.state.erasures
    assert all(erasure.receipt > 0 for erasure in kept.values())

    given(vault, {URL: there})
    done = erase(vault)
    assert done.facts["erasure"] == receipt.facts["erasure"]
    assert done.facts["keys"]["destinations"][1]["stage"] == "keys_destroyed"
    assert done.level == "E1"
    others_only(there)


def test_replica_that_fails_stops_nothing() -> None:
    """One of two refuses; the other is reached, and the error names the first."""
    vault, _, there = replicated()
    second = MemoryStore()
    replicate(vault, second, OTHER_URL)
    broken = FaultStore(there, script(Rule(Refused(PermissionError), "put", times=999)))
    given(vault, {URL: broken, OTHER_URL: second})

    with pytest.raises(lb.ErasureIncomplete) as caught:
        erase(vault)

    assert [one.where for one in caught.value.remaining] == [URL]
    only_current_keys(vault, second)
    others_only(second)


def test_replication_finishes_an_erasure_that_waits() -> None:
    """Keys first; afterwards the receipt says so without the replica at hand."""
    vault, _, there = replicated()
    with pytest.raises(lb.ErasureIncomplete):
        erase(vault)
    stopped = FaultStore(there, script(Rule(Crash("before"), "put", f"{names.PACKS}*")))
    with pytest.raises(Crashed):
        replicate(vault, stopped)
    only_current_keys(vault, there)
    others_only(there)

    replicate(vault, there)

    receipt = erase(vault)
    assert receipt.facts["keys"]["destinations"][1]["stage"] == "keys_destroyed"


def test_store_that_keeps_old_keys_of_a_replica_is_waited_for() -> None:
    """Locked versions of key objects: named, and the replica counts as pending until they go."""

    class Locked(WrapperStore):
        def delete(self, key: str) -> Remains:
            super().delete(key)
            return Remains(versions=1)

    vault, _, there = replicated()
    given(vault, {URL: Locked(there)})

    with pytest.raises(lb.ErasureIncomplete) as caught:
        erase(vault)

    assert all(one.what.startswith(names.KEYS) for one in caught.value.remaining)
    assert {one.where for one in caught.value.remaining} == {URL}


def test_lost_replica_is_waited_for_no_longer_and_stands_under_limits() -> None:
    """What lies there is beyond the vault, and the receipt says so."""
    vault, _, _there = replicated()
    vault.declare_lost(URL, reason="region closed")

    receipt = erase(vault)

    assert receipt.facts["keys"]["destinations"][1]["stage"] == "lost"
    assert any("declared lost" in limit for limit in receipt.limits)


def test_erasure_asks_nothing_of_replicas_that_are_done() -> None:
    """A second receipt of the same erasure costs the replica no request."""
    vault, _, there = replicated()
    counted = CountingStore(there)
    given(vault, {URL: counted})
    erase(vault)
    counted.reset()

    erase(vault)

    assert counted.snapshot().total == 0


# ---- whatever happens


def _at(number: int, fault: Fault) -> Callable[[Call], Fault | None]:
    return lambda call: fault if call.number == number else None


def killed_at(number: int, when: Any) -> bool:
    """Erase, and die at a call to the replica; then finish. False if it was over before."""
    vault, _, there = replicated()
    dying = FaultStore(there, _at(number, Crash(when)))
    given(vault, {URL: dying})
    try:
        erase(vault)
    except Crashed:
        with reopen(load(dump(there)), read_only=True) as copy:
            (snapshot,) = copy.snapshots()
            assert read_snapshot(snapshot).items() >= OTHERS.items()

    given(vault, {URL: there})
    assert erase(vault).level == "E1"
    only_current_keys(vault, there)
    others_only(there)
    return len(dying.calls) >= number


@pytest.mark.parametrize("when", ["before", "after"])
def test_erasure_killed_at_any_call_to_the_replica_is_finished(when: Any) -> None:
    """The replica opens at every moment; erasing again leaves the keys that count alone."""
    number = 1
    while killed_at(number, when):
        number += 1

    assert number > 8


def test_slow_copy_cannot_bring_back_a_root_that_was_erased() -> None:
    """Its put arrives after the erasure: the name is taken, for ever."""
    store, there = MemoryStore(), MemoryStore()
    create(store)
    vault = reopen(store)
    fill(vault)
    root = f"{names.KEYS}*/root"
    slow = FaultStore(
        there,
        script(Rule(Delayed(), "put", root), Rule(Crash("before"), "put", root, nth=2)),
    )
    with pytest.raises(Crashed):
        replicate(vault, slow)
    given(vault, {URL: there})

    erase(vault)
    slow.release()

    assert sum(not is_tombstone(data) for data in roots(there)) == 1
    only_current_keys(vault, there)
    replicate(vault, there)
    others_only(there)


def erased_at(number: int) -> bool:
    """Erase somebody when a replication comes to a call; False if it was over before."""
    vault, store, there = replicated()
    other = reopen(store)
    given(other, {URL: there})
    done: list[lb.Receipt] = []

    def erase_then(call: Call) -> None:
        if call.number == number and not done:
            done.append(erase(other))

    replicate(vault, FaultStore(there, erase_then))
    if done:
        others_only(there)
        only_current_keys(other, there)
    replicate(vault, there)
    only_current_keys(vault, there)
    return bool(done)


def test_replication_of_an_old_state_beside_an_erasure_leaves_no_old_key() -> None:
    """Erased while it copies: the old epoch is buried, whatever was put of it when."""
    number = 1
    while erased_at(number):
        number += 1

    assert number > 10


def test_old_keys_put_back_by_the_provider_are_buried_again() -> None:
    """He restores the objects of before: the next replication finds and buries them."""
    vault, _, there = replicated()
    old = {name: data for name, data in dump(there).items() if name.startswith(names.KEYS)}
    given(vault, {URL: there})
    erase(vault)
    replicate(vault, there)
    for name, data in old.items():
        there.put(name, data, if_absent=False)
    vault.check()

    replicate(vault, there)

    only_current_keys(vault, there)
    others_only(there)


@pytest.mark.parametrize("bit", range(0, 8 * 700, 397))
def test_altered_tombstone_is_damage_and_leads_nowhere(bit: int) -> None:
    """Nobody but a full credential of the vault says where the keys are."""
    vault, _, there = replicated()
    given(vault, {URL: there})
    erase(vault)
    (name,) = [e.key for e in there.list(names.KEYS) if is_tombstone(there.get(e.key))]
    data = bytearray(there.get(name))
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    there.put(name, bytes(data), if_absent=False)

    with pytest.raises((lb.DamagedData, lb.FormatError)):
        reopen(there, read_only=True)


def test_tombstone_of_another_epoch_leads_nowhere() -> None:
    """One that was moved from its place: it says which epoch it buries."""
    vault, _, there = replicated()
    given(vault, {URL: there})
    erase(vault)
    state = vault._session.log.state
    (stone,) = [data for data in roots(there) if is_tombstone(data)]
    replicate(vault, there)
    there.put(names.root_name(state.epoch), stone, if_absent=False)

    with pytest.raises(lb.DamagedData, match="another place"):
        reopen(there, read_only=True)
