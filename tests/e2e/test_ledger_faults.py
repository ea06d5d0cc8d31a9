"""A store that reads wrong, loses a record, is full, or holds what a stranger put."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.support import Clock, create, items, noise, reopen
from tests.e2e.test_credentials import Deny

import loopbackup as lb
from loopbackup.errors import CredentialError, DamagedData, PolicyError, StoreError
from loopbackup.testing.faults import BitFlip, FaultStore, Refused, Rule, script
from loopbackup.vault.format import names
from loopbackup.vault.keys.credentials import Seed
from loopbackup.vault.ledger import summary
from loopbackup.vault.ledger.core import encode_state
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.store.protocol import Data, Store, StoredObject
from loopbackup.vault.store.wrappers import WrapperStore


def vault_of(count: int) -> tuple[MemoryStore, str]:
    """Make a vault with so many snapshots; give its store and its head."""
    store = MemoryStore()
    create(store)
    with reopen(store) as vault:
        for number in range(count):
            vault.backup(items({f"{number}": b"%d" % number}), name="n")
        return store, vault.head


@pytest.mark.parametrize("bit", [70, 700, 3000])
def test_one_flipped_bit_in_one_reading_makes_no_record_void(bit: int) -> None:
    """The client reads again, and what it commits on top is right for everybody."""
    store, _ = vault_of(2)
    flip = script(Rule(BitFlip(bit), method="get", key=names.record_name(1)))

    with reopen(FaultStore(store, flip)) as vault:
        vault.backup(items({"new": b"new"}), name="n")
        assert vault._session.log.state.alarms == ()

    with reopen(store) as vault:
        assert len(vault.snapshots()) == 3


def test_record_that_never_reads_alike_stops_the_opening() -> None:
    """Neither reading is taken for a void record."""
    store, _ = vault_of(2)
    name = names.record_name(1)
    flips = [Rule(BitFlip(bit), method="get", key=name, nth=nth) for nth, bit in ((1, 700), (2, 9))]

    with pytest.raises(StoreError) as caught:
        reopen(FaultStore(store, script(*flips)))

    assert (caught.value.kind, caught.value.transient) == ("unsteady_record", True)
    assert caught.value.object == name


def test_lost_record_beyond_a_known_head_is_not_written_over() -> None:
    """Knowing a head says nothing of what came after it."""
    store = MemoryStore()
    create(store)
    with reopen(store) as vault:
        vault.backup(items({"a": b"a"}), name="n")
        head = vault.head
        for number in range(3):
            vault.backup(items({"b": b"%d" % number}), name="n")
    lost = names.record_name(int(head.split(":")[0]))
    store.delete(lost)

    with pytest.raises(DamagedData) as caught:
        reopen(store, head=head)

    assert caught.value.object == lost


def test_planted_summary_of_a_known_size_is_passed_over() -> None:
    """Who can write to the store cannot make an honest one look rolled back."""
    store, head = vault_of(3)
    size = int(head.split(":")[0])
    with reopen(store) as vault:
        body = encode_state(vault._session.log.state)
    peak = vault._session.log.state.tree.peaks[0]
    planted = summary.MAGIC + body.replace(peak, bytes(32))
    store.put(names.summary_name(size, names.content_hash(planted)), planted, if_absent=True)

    with reopen(store, head=head) as vault:
        assert vault.freshness == "fresh"
        assert len(vault.snapshots()) == 3


def test_full_disk_at_a_commit_is_told_as_that() -> None:
    """The record is not there, so the outcome is known, and waiting helps nobody."""
    store, _ = vault_of(1)
    full = Refused(lambda: OSError(errno.ENOSPC, "no space"))
    faulty = FaultStore(store, script(Rule(full, method="put", key="ledger/*", times=99)))

    with reopen(faulty) as vault, pytest.raises(StoreError) as caught:
        vault.backup(items({"b": b"b"}), name="n")

    assert caught.value.kind != "outcome_unknown"
    assert not caught.value.transient


def test_head_is_remembered_only_for_a_credential_that_opens(tmp_path: Path) -> None:
    """Else a stranger's store could leave a head that refuses the true one."""
    store, _ = vault_of(1)

    with pytest.raises(CredentialError):
        reopen(store, credential=Seed(b"x" * 32), state_dir=tmp_path)

    assert list(tmp_path.rglob("head")) == []
    with reopen(store, state_dir=tmp_path):
        assert len(list(tmp_path.rglob("head"))) == 1


@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_lost_body_costs_what_it_said_and_nothing_else(damage: str) -> None:
    """The snapshot can be restored by its id, new ones are committed, a check names the record."""
    store = MemoryStore()
    create(store)
    with reopen(store) as vault:
        first = vault.backup(items({"a": b"kept"}), name="n")
        name = names.record_name(first._described.record.index)
    data = bytearray(store.get(name))
    if damage == "flipped":
        data[-1] ^= 1
        data[-600] ^= 1
    else:
        del data[-600:]
    store.put(name, bytes(data), if_absent=False)

    with reopen(store) as vault:
        lost = vault.snapshot(first.id)
        second = vault.backup(items({"b": b"new"}), name="n")
        report = vault.check()

        assert lost.name == ""
        assert lost.open("a").read() == b"kept"
        assert second.open("b").read() == b"new"
        assert [p.kind for p in report.problems] == ["lost_body"]
        assert report.problems[0].object == name
        assert [entry.actor for entry in vault.ledger.entries()][
            first._described.record.index
        ] is None


class SyncFails(WrapperStore):
    """A disk that fails to sync the folder of a record after writing it."""

    def __init__(self, inner: Store, times: int) -> None:
        super().__init__(inner)
        self.times = times

    def put(self, key: str, data: Data, *, if_absent: bool) -> None:
        """Write, and fail some times; also where the name is taken, for that is synced too."""
        if not key.startswith("ledger/") or not self.times:
            super().put(key, data, if_absent=if_absent)
            return
        self.times -= 1
        with contextlib.suppress(FileExistsError):
            super().put(key, data, if_absent=if_absent)
        raise OSError(errno.EIO, "I/O error")


def test_record_that_stands_but_did_not_reach_the_disk_is_no_commit_yet() -> None:
    """It is created again until the store says that it has it; else the outcome is unknown."""
    store, _ = vault_of(1)

    with reopen(SyncFails(store, 1)) as vault:
        assert vault.backup(items({"a": b"1"}), name="n").open("a").read() == b"1"
    with reopen(SyncFails(store, 2)) as vault, pytest.raises(StoreError) as caught:
        vault.backup(items({"b": b"2"}), name="n")

    assert caught.value.kind == "outcome_unknown"


def test_swept_objects_that_come_back_leave_all_clients_of_one_mind() -> None:
    """Whoever starts from a summary condemns them anew, and folds to the same as all others."""
    clock = Clock()
    store = MemoryStore(clock=clock)
    create(store, grace_s=0, clock=clock)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("loopbackup.vault.ledger.summary.SUMMARY_EVERY", 4)
        with reopen(store, clock=clock) as vault:
            gone = vault.backup(items({"a": noise(50_000, "a")}), name="n")
            packs = {entry.key: store.get(entry.key) for entry in store.list("packs/")}
            vault.backup(items({"b": noise(50_000, "b")}), name="n")
            vault.forget(gone, reason="test")
            for number in range(8):
                clock.pass_by(days=1)
                vault.prune()
                vault.backup(items({"c": b"%d" % number}), name="c")
    with reopen(store, clock=clock) as vault:
        for key, data in packs.items():
            store.put(key, data, if_absent=False)
        clock.pass_by(days=1)
        vault.prune()
        clock.pass_by(days=1)
        vault.prune()
        report = vault.check()

    assert report.problems == []
    with reopen(store, clock=clock) as vault:
        assert vault.check().problems == []


def test_refused_opening_stands_in_the_ledger() -> None:
    """Who tried is seen by whoever may open."""
    store, _ = vault_of(1)

    with pytest.raises(PolicyError):
        reopen(store, gate=Deny("open"), actor=lb.Actor("user-42"))

    with reopen(store) as vault:
        refused = [entry for entry in vault.ledger.entries() if entry.kind == "refused"]
        assert [(entry.actor, entry.action) for entry in refused] == [("user-42", "open")]


@pytest.mark.parametrize("read_only", [True, False])
def test_reader_completes_no_creation(read_only: bool) -> None:
    """A vault whose first record was not written yet opens; only a writer writes it."""
    store = MemoryStore()
    create(store)
    store.delete(names.record_name(0))

    with reopen(store, read_only=read_only) as vault:
        assert vault.snapshots() == []

    assert (names.record_name(0) in {entry.key for entry in store.list("")}) is not read_only


def test_folder_in_the_place_of_the_next_record_is_damage(tmp_path: Path) -> None:
    """The disk calls the name taken and has no object there; nothing is overwritten."""
    key = lb.KeyFile.generate(tmp_path / "key")
    with lb.Vault.create(tmp_path / "vault", key, state_dir=None) as vault:
        place = tmp_path / "vault" / names.record_name(len(vault.ledger))
        place.mkdir(parents=True)

        with pytest.raises(DamagedData) as caught:
            vault.backup([lb.Item("a", data=b"1")], name="n")

        assert caught.value.kind == "unreadable"
        place.rmdir()
        vault.backup([lb.Item("a", data=b"1")], name="n")
        assert vault.check(data=True).ok


class Pages(WrapperStore):
    """Something before the store that answers reads of what is not there."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.left = 0

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Give a page for what is not there."""
        try:
            return super().get(key, start=start, length=length)
        except FileNotFoundError:
            if self.left <= 0:
                raise
            self.left -= 1
            return b"<html>We will be back soon</html>"[start:][:length]


def test_what_the_store_does_not_list_is_no_record() -> None:
    """A page in the place of the next record is not folded, and nobody commits behind it."""
    store, _ = vault_of(2)
    pages = Pages(store)
    with reopen(pages) as vault:
        pages.left = 2
        with pytest.raises(StoreError) as caught:
            vault.snapshots()
        vault.backup(items({"new": b"new"}), name="n")
        assert vault._session.log.state.alarms == ()
    with reopen(store) as vault:
        assert len(vault.snapshots()) == 3

    assert caught.value.transient


def test_listing_that_shows_nothing_proves_nothing() -> None:
    """An erasure does not call old keys gone because the store lists none."""

    class Blind(WrapperStore):
        """Lists nothing now and then."""

        blind = False

        def list(self, prefix: str) -> Iterator[StoredObject]:
            """List nothing."""
            return iter(()) if self.blind else super().list(prefix)

    store = MemoryStore()
    create(store)
    blind = Blind(store)
    with reopen(blind) as vault:
        vault.backup([lb.Item("a", data=b"1", subject="user-42")], name="n")
        blind.blind = True
        with pytest.raises(lb.ErasureIncomplete) as caught:
            vault.erase_subjects(["user-42"], reason="request 118")
        assert vault.prune().receipts == []
        blind.blind = False
        receipt = vault.erase_subjects(["user-42"], reason="request 118")

    assert caught.value.receipt.level == "E0"
    assert receipt.level == "E1"


def test_commit_waits_for_the_keys_of_what_was_folded() -> None:
    """A change of keys when a summary is due, by this very handle, makes no void record."""
    store, _ = vault_of(1)
    with reopen(store) as vault:
        log = vault._session.log
        while log.state.size - log.state.last_summary < summary.SUMMARY_EVERY:
            vault.backup(items({"a": b"%d" % log.state.size}), name="n")
        vault.keys.rotate()
    with reopen(store) as vault:
        assert vault._session.log.state.alarms == ()
        assert vault.check().ok
