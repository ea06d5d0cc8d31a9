"""Packs that the store has lost or spoiled: named by a check, stored again by the next backup."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.e2e.support import Clock, create, items, noise, read_all, reopen

import loopbackup as lb
from loopbackup.errors import DamagedData, InputError, StoreError
from loopbackup.testing.faults import (
    BitFlip,
    Call,
    Fault,
    FaultStore,
    Refused,
    Rule,
    Truncated,
    damage,
    script,
)
from loopbackup.vault.format import names
from loopbackup.vault.ledger.state import State
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.store.wrappers import CountingStore
from loopbackup.vault.vault import Vault
from loopbackup.vault.verbs import check, check_entries, check_packs

BIG = {f"big-{number:02}": noise(120_000, f"big-{number}") for number in range(40)}
"""Fills several packs of one run, and the index object that names them."""


def versioned(contents: dict[str, bytes]) -> list[lb.Item]:
    """Make items that a later backup need not read again."""
    return items(contents, version="1")


@pytest.fixture
def clock() -> Clock:
    """Give a clock that tests move."""
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    """Make a vault that sweeps at once, with a snapshot over several packs."""
    store = MemoryStore(clock=clock)
    create(store, grace_s=0, clock=clock)
    with reopen(store, clock=clock) as vault:
        vault.backup(versioned(BIG), name="big")
    return store


def data_packs(vault: Vault) -> list[str]:
    """Give the packs that hold content and nothing of the lists of entries."""
    session = vault._session
    state, domain = session.log.state, session.keyring.none
    kinds: dict[bytes, set[int]] = {}
    for reader in session.index.segments(state):
        for of in (domain, session.keyring.meta):
            for blob, _members in reader.rows(of):
                kinds.setdefault(blob.pack, set()).add(blob.kind)
    return sorted(names.pack_name(pack[1:]) for pack, of in kinds.items() if of <= {0, 1})


def spoil(store: MemoryStore, name: str, how: str) -> None:
    """Delete a pack, or flip a bit amid its data."""
    if how == "deleted":
        store.delete(name)
    else:
        damage(store, name, bit=8 * 500_000)


def entries_named(report: check.CheckReport) -> set[str]:
    """Give the paths that a report names."""
    return {p.path.decode() for p in report.problems if p.path is not None}


@pytest.mark.parametrize("how", ["deleted", "flipped"])
def test_next_backup_heals_what_a_check_found(store: MemoryStore, clock: Clock, how: str) -> None:
    """Each step in a process of its own: check, backup of what did not change, check, prune."""
    with reopen(store, clock=clock) as vault:
        lost = data_packs(vault)[1]
        before = read_all(vault)
    spoil(store, lost, how)

    with reopen(store, clock=clock) as vault:
        found = vault.check(data=True)
        (old,) = vault.snapshots()
    with reopen(store, clock=clock) as vault:
        healed = vault.backup(versioned(BIG), name="big")
        whole = read_all(vault)
    with reopen(store, clock=clock) as vault:
        after = vault.check(data=True)
        vault.prune()
        pruned = vault.check(data=True)
        left = read_all(vault)

    assert {p.object for p in found.problems} == {lost}
    assert {p.kind for p in found.problems} == {
        "missing" if how == "deleted" else "damaged",
        "damaged",
    }
    assert all(p.snapshots == (old.id,) for p in found.problems)
    assert entries_named(found)
    assert 0 < healed.report.bytes_added < 2_000_000
    assert whole == left == {old.id: before[old.id], healed.id: BIG}
    assert [(p.object, p.path) for p in after.problems] == [(lost, None)]
    assert pruned.problems == []
    assert lost not in {entry.key for entry in store.list("packs/")}


def test_backup_of_the_process_that_met_the_damage_heals_it(
    store: MemoryStore, clock: Clock, tmp_path: Path
) -> None:
    """A failed restore is enough to know."""
    with reopen(store, clock=clock) as vault:
        (old,) = vault.snapshots()
        store.delete(data_packs(vault)[0])
        with pytest.raises(DamagedData):
            vault.restore(old, tmp_path / "before")

        vault.backup(versioned(BIG), name="big")
        vault.restore(old, tmp_path / "after")

    assert {p.name: p.read_bytes() for p in (tmp_path / "after").iterdir()} == BIG


def test_pack_that_comes_back_is_trusted_again(store: MemoryStore, clock: Clock) -> None:
    """Nothing was condemned, so a copy of it is as good as ever, at once and for good."""
    with reopen(store, clock=clock) as vault:
        lost = data_packs(vault)[0]
        data = store.get(lost)
        store.delete(lost)
        assert not vault.check().ok
        vault.prune()
    store.put(lost, data, if_absent=True)

    with reopen(store, clock=clock) as vault:
        assert list(read_all(vault).values()) == [BIG]
        assert vault._session.log.state.distrusted
        assert vault.check().ok
    with reopen(store, clock=clock) as vault:
        again = vault.backup(versioned(BIG), name="big")
        assert vault._session.log.state.distrusted == frozenset()
        assert again.report.bytes_added < 100_000


def test_damaged_pack_stays_distrusted_through_checks_that_do_not_read(
    store: MemoryStore, clock: Clock
) -> None:
    """A check without data reads what was damaged, and only that."""
    with reopen(store, clock=clock) as vault:
        lost = data_packs(vault)[0]
    damage(store, lost, bit=8 * 500_000)
    with reopen(store, clock=clock) as vault:
        vault.check(data=True)

    with reopen(store, clock=clock) as vault:
        report = vault.check()
        distrusted = vault._session.log.state.distrusted

    assert {p.object for p in report.problems} == {lost}
    assert [names.pack_name(pack[1:]) for pack in distrusted] == [lost]
    assert 1 << 20 <= report.read_bytes <= 4 << 20


def test_one_damaged_copy_costs_no_entry(clock: Clock) -> None:
    """It is reported all the same."""
    store = MemoryStore(clock=clock)
    create(store, clock=clock)
    first, second = reopen(store, clock=clock), reopen(store, clock=clock)
    with first, second:
        # Neither sees what the other puts before it has put its own.
        second._session.log.refresh = lambda: False  # type: ignore[method-assign]
        first.backup(items({"a": BIG["big-00"]}), name="one")
        second._session.index.find = lambda *_: None  # type: ignore[method-assign]
        second.backup(items({"a": BIG["big-00"]}), name="two")
    with reopen(store, clock=clock) as vault:
        copies = [segment.name for segment in vault._session.log.state.segments]
        assert len(copies) == 2
    lost = names.pack_name(copies[0][1:])
    damage(store, lost, bit=8 * 100_000)

    with reopen(store, clock=clock) as vault:
        report, contents = vault.check(data=True), read_all(vault)

    assert {p.object for p in report.problems} == {lost}
    assert entries_named(report) == set()
    assert [c["a"] for c in contents.values()] == [BIG["big-00"]] * 2


# ---- what proves nothing


@pytest.mark.parametrize("error", [PermissionError, TimeoutError])
def test_store_that_fails_proves_no_loss(
    store: MemoryStore, clock: Clock, error: type[OSError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a check nor a prune takes a pack for lost that it may not read."""
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _seconds: None)
    with reopen(store, clock=clock) as vault:
        hidden = data_packs(vault)[0]
    data = store.get(hidden)
    store.delete(hidden)
    always = Rule(Refused(error), method="get", key=hidden, times=10_000)
    handle = FaultStore(store, script(always))

    with reopen(handle, clock=clock) as vault:
        report = vault.check()
        with pytest.raises(StoreError):
            vault.prune()
        state = vault._session.log.state

    assert not report.ok
    assert state.distrusted == frozenset()
    assert state.condemned == {}
    store.put(hidden, data, if_absent=True)
    with reopen(store, clock=clock) as vault:
        assert vault.check(data=True).ok


@pytest.mark.parametrize("fault", [Refused(FileNotFoundError), BitFlip(8 * 500_000), Truncated(9)])
def test_one_bad_reading_proves_no_damage(store: MemoryStore, clock: Clock, fault: Fault) -> None:
    """A check reads once more before it says that a pack is gone or altered."""
    with reopen(store, clock=clock) as vault:
        once = Rule(fault, method="get", key=data_packs(vault)[0])
    handle = FaultStore(store, script(once))

    with reopen(handle, clock=clock) as vault:
        report, state = vault.check(data=True), vault._session.log.state

    assert once.strikes(Call(0, "get", once.key)) is False
    assert report.problems == []
    assert state.distrusted == frozenset()


def test_listing_that_is_behind_proves_no_loss(store: MemoryStore, clock: Clock) -> None:
    """What is not listed and yet can be read is there."""
    with reopen(store, clock=clock) as vault:
        hidden = data_packs(vault)[0]
    real = MemoryStore.list

    class Behind(MemoryStore):
        def list(self, prefix: str):  # type: ignore[no-untyped-def]
            return (entry for entry in real(self, prefix) if entry.key != hidden)

    store.__class__ = Behind

    with reopen(store, clock=clock) as vault:
        assert vault.check(data=True).ok
        assert vault.prune().problems == []
        assert vault.check().ok


def test_where_most_packs_are_missing_nothing_is_taken_for_lost(
    store: MemoryStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is not mounted looks like that; prune refuses, and check asks."""
    monkeypatch.setattr(check_packs, "MANY_MISSING", 2)
    packs = [entry.key for entry in store.list("packs/")]
    with reopen(store, clock=clock) as vault:
        kept = set(packs) - set(data_packs(vault))
    aside = {key: store.get(key) for key in packs if key not in kept}
    for key in aside:
        store.delete(key)

    with reopen(store, clock=clock) as vault:
        report = vault.check()
        with pytest.raises(DamagedData, match="packs are missing; nothing was changed"):
            vault.prune()
        state = vault._session.log.state

    assert [p.object for p in report.problems if p.kind == "missing"] == ["packs/"]
    assert entries_named(report)
    assert (state.distrusted, state.condemned) == (frozenset(), {})
    for key, data in aside.items():
        store.put(key, data, if_absent=True)
    with reopen(store, clock=clock) as vault:
        assert vault.check(data=True).ok


# ---- prune


def test_prune_brings_a_chunk_back_from_a_condemned_pack_that_stands(clock: Clock) -> None:
    """Where the copy that it was moved to is lost within the grace."""
    store = MemoryStore(clock=clock)
    create(store, grace_s=3600, clock=clock)
    with reopen(store, clock=clock) as vault:
        old = vault.backup(versioned(BIG), name="big")
        few = {path: data for path, data in BIG.items() if path < "big-05"}
        vault.backup(versioned(few), name="few")
        before = set(data_packs(vault))
        vault.forget(old, reason="test")
        vault.prune()
        (moved,) = set(data_packs(vault)) - before
    store.delete(moved)

    with reopen(store, clock=clock) as vault:
        told = vault.prune()
        contents = list(read_all(vault).values())

    assert {p.kind for p in told.problems} == {"missing", "rescued"}
    assert contents == [few]


def test_rescue_looks_into_each_standing_condemned_pack_once(clock: Clock) -> None:
    """However many chunks are lost, and never into swept ones."""
    store = MemoryStore(clock=clock)
    create(store, grace_s=3600, clock=clock)
    with reopen(store, clock=clock) as vault:
        old = vault.backup(versioned(BIG), name="big")
        vault.backup(items({f"n-{n}": noise(60_000, f"n-{n}") for n in range(40)}), name="n")
        vault.forget(old, reason="test")
        vault.prune()
        standing = [n for n in vault._session.log.state.condemned if n[:1] == b"p"]
        lost = [n for n in data_packs(vault) if b"p" + bytes.fromhex(n[-64:]) not in standing]
        store.delete(lost[0])
    counting = CountingStore(store)

    with reopen(counting, clock=clock) as vault:
        before = counting.snapshot().requests["get"]
        told = vault.prune()
        gets = counting.snapshot().requests["get"] - before

    assert {p.kind for p in told.problems} == {"missing"}
    assert len(standing) >= 3
    assert gets <= 2 * len(standing) + 20


# ---- the report


def test_report_says_what_is_damaged_in_a_line_for_each_kind(
    store: MemoryStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries beyond the bound are counted; snapshots of a series share a problem."""
    monkeypatch.setattr(check_entries, "MAX_ENTRIES_NAMED", 3)
    with reopen(store, clock=clock) as vault:
        vault.backup(versioned(BIG), name="big")
        for name in data_packs(vault):
            store.delete(name)
        report = vault.check()
        ids = tuple(s.id for s in reversed(vault.snapshots()))

    named = [p for p in report.problems if p.path is not None]
    assert len(named) == 3
    assert all(p.snapshots == ids and p.object for p in named)
    assert [p.kind for p in report.problems if p.path is None][-1] == "more_damaged"
    lines = str(report).splitlines()
    assert lines[0].startswith(f"{len(report.problems)} problems: ")
    assert "  3 x damaged: an entry cannot be restored: its pack is missing" in lines


@pytest.mark.parametrize("data", [-0.1, 1.1, float("nan"), float("inf"), "all", None, [1]])
def test_share_that_is_none_is_refused(store: MemoryStore, clock: Clock, data: float) -> None:
    """Before anything is read."""
    with reopen(store, clock=clock) as vault, pytest.raises(InputError):
        vault.check(data=data)


@pytest.mark.parametrize(
    ("data", "least", "most"), [(0, 0, 0), (0.5, 1 << 20, 4 << 20), (1, 4 << 20, 9 << 20)]
)
def test_share_of_the_packs_is_read(
    store: MemoryStore, clock: Clock, data: float, least: int, most: int
) -> None:
    """At random, and at least one."""
    with reopen(store, clock=clock) as vault:
        assert least <= vault.check(data=data).read_bytes <= most


def test_index_that_says_other_than_a_pack_is_held_against_the_bytes(
    store: MemoryStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the sums differ each row of the index is verified by itself."""
    seen: list[set[bytes]] = []
    by_index = check_packs.PackCheck._read_by_index

    def look(self: check_packs.PackCheck, state: State, packs: set[bytes]) -> None:
        seen.append(packs)
        by_index(self, state, packs)

    monkeypatch.setattr(check_packs.PackCheck, "_read_by_index", look)
    sums = iter(range(10**9))
    monkeypatch.setattr(check_packs, "_sum_of", lambda *_: next(sums))

    with reopen(store, clock=clock) as vault:
        report = vault.check(data=True)

    assert report.ok
    assert len(seen[0]) == report.packs


def test_prune_moves_what_is_sound_out_of_a_damaged_pack(store: MemoryStore, clock: Clock) -> None:
    """The pack then goes, though older snapshots still needed some of it."""
    with reopen(store, clock=clock) as vault:
        (old,) = vault.snapshots()
        hurt = data_packs(vault)[1]
        spoil(store, hurt, "flipped")
        named = entries_named(vault.check(data=True))
        # What was altered is stored anew, what was not is needed from the pack itself.
        changed = {path: BIG[path] if path in named else b"new" for path in BIG}
        healed = vault.backup(items(changed, version="2"), name="big")

        pruned = vault.prune()

        assert pruned.problems == []
        assert 0 < pruned.moved_bytes < 2_000_000
        assert read_all(vault) == {old.id: BIG, healed.id: changed}
        assert vault.check(data=True).ok
    with pytest.raises(FileNotFoundError):
        store.get(hurt)


def test_damaged_packs_stay_while_a_part_of_them_stands_nowhere_else(
    store: MemoryStore, clock: Clock
) -> None:
    """What can be read is moved; the rest may be mended, or is forgotten with its snapshots."""
    with reopen(store, clock=clock) as vault:
        (old,) = vault.snapshots()
        hurt = data_packs(vault)[1]
        spoil(store, hurt, "flipped")
        before = entries_named(vault.check(data=True))
        vault.prune()
        after = vault.check(data=True)

        assert store.get(hurt)
        assert entries_named(after) == before
        vault.backup(items({"a": b"1"}), name="other")
        vault.forget(old.id, reason="damaged")
        vault.prune()
        assert vault.check(data=True).ok


def test_pack_that_comes_back_is_seen_by_the_same_handle(clock: Clock) -> None:
    """A mount that dropped out for a moment must not cost a long-lived host anything."""
    store = MemoryStore(clock=clock)
    create(store, grace_s=0, clock=clock)
    with reopen(store, clock=clock) as vault:
        snapshot = vault.backup(items({"a": noise(5000, "a")}), name="n")
        kept = {entry.key: store.get(entry.key) for entry in store.list(names.PACKS)}
        for key in kept:
            store.delete(key)
    with reopen(store, clock=clock) as vault:
        assert not vault.check().ok
        for key, data in kept.items():
            store.put(key, data, if_absent=True)

        assert vault.check(data=True).ok
        assert read_all(vault) == {snapshot.id: {"a": noise(5000, "a")}}
