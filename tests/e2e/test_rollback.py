"""Old copies, cut tails and other histories: told to whoever remembers, unknown to who does not."""

from functools import partial
from pathlib import Path

import pytest
from tests.e2e.support import create, dump, items, load, read_all, reopen

import loopbackup as lb
from loopbackup.errors import DamagedData, InputError, RollbackDetected
from loopbackup.vault.format import names
from loopbackup.vault.ledger.core import encode_state
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.store.wrappers import CountingStore


def grown(store: MemoryStore, count: int) -> str:
    """Commit so many snapshots more; give the head."""
    with reopen(store) as vault:
        for number in range(count):
            vault.backup(items({f"{number}": b"%d" % number}), name="n")
        return vault.head


def test_old_copy_of_the_store_is_refused_with_a_head() -> None:
    """A head that was kept elsewhere is enough."""
    store = MemoryStore()
    create(store)
    grown(store, 1)
    old = dump(store)
    head = grown(store, 1)

    with pytest.raises(RollbackDetected) as caught:
        reopen(load(old), head=head)

    assert caught.value.seen > caught.value.found
    with reopen(store, head=head) as vault:
        assert vault.freshness == "fresh"


def test_old_copy_of_the_store_is_refused_by_a_host_that_remembers(tmp_path: Path) -> None:
    """The state folder of the host knows the last head; another host does not."""
    store = MemoryStore()
    create(store)
    grown(store, 1)
    old = load(dump(store))
    with reopen(store, state_dir=tmp_path / "state") as vault:
        vault.backup(items({"new": b"new"}), name="n")

    with pytest.raises(RollbackDetected):
        reopen(old, state_dir=tmp_path / "state")
    with reopen(old, state_dir=tmp_path / "other") as vault:
        assert vault.freshness == "unknown"
        assert len(vault.snapshots()) == 1
    with reopen(store, state_dir=tmp_path / "state") as vault:
        assert vault.freshness == "fresh"
        assert len(vault.snapshots()) == 2


@pytest.mark.parametrize("keep", ["head", "state"])
@pytest.mark.parametrize("cut", [1, 2, 5])
def test_cut_tail_of_the_ledger_is_refused(cut: int, keep: str, tmp_path: Path) -> None:
    """Any number of records from its end."""
    store = MemoryStore()
    create(store)
    head = grown(store, 4)
    with reopen(store, state_dir=tmp_path) as vault:
        size = int(vault.head.split(":")[0])
    for number in range(size - cut, size):
        store.delete(names.record_name(number))

    kept = {"head": partial(reopen, head=head), "state": partial(reopen, state_dir=tmp_path)}

    with pytest.raises(RollbackDetected):
        kept[keep](store)
    with reopen(store) as vault:
        assert vault.freshness == "unknown"


@pytest.mark.parametrize("gap", [1, 2, 3])
def test_lost_record_in_the_middle_is_never_taken_for_the_end(gap: int) -> None:
    """Without any memory too: all later snapshots would be out of sight."""
    store = MemoryStore()
    create(store)
    grown(store, 4)
    store.delete(names.record_name(gap))

    with pytest.raises(DamagedData) as caught:
        reopen(store)

    assert caught.value.object == names.record_name(gap)


def test_longer_gap_is_told_by_check() -> None:
    """A listing shows what stands beyond it."""
    store = MemoryStore()
    create(store)
    grown(store, 4)
    for number in (2, 3):
        store.delete(names.record_name(number))

    with reopen(store, read_only=True) as vault:
        report = vault.check()

    assert "missing_record" in [problem.kind for problem in report.problems]


def test_two_histories_of_one_vault_are_a_fork(tmp_path: Path) -> None:
    """Two copies that were both written to: whoever saw one refuses the other."""
    store = MemoryStore()
    create(store)
    grown(store, 1)
    other = load(dump(store))
    with reopen(store, state_dir=tmp_path) as vault:
        vault.backup(items({"here": b"here"}), name="n")
        head = vault.head
    grown(other, 1)
    grown(other, 3)

    for options in ({"head": head}, {"state_dir": tmp_path}):
        with pytest.raises(RollbackDetected) as caught:
            reopen(other, **options)
        assert caught.value.kind == "fork"


def test_open_handle_notices_when_the_store_goes_back() -> None:
    """What a process has folded it does not unlearn: reads go on, commits fail or follow on."""
    store = MemoryStore()
    create(store)
    with reopen(store) as vault:
        vault.backup(items({"a": b"a"}), name="n")
        size = int(vault.head.split(":")[0])
        store.delete(names.record_name(size - 1))

        with pytest.raises(DamagedData):
            vault.ledger.verify()
        assert not vault.check().ok


def test_text_that_is_no_head_is_the_callers_mistake() -> None:
    """And says how a head looks."""
    store = MemoryStore()
    create(store)

    with pytest.raises(InputError, match="64 hex"):
        reopen(store, head="latest")


# ---- summaries


def test_opening_an_old_vault_takes_few_requests(tmp_path: Path) -> None:
    """After hundreds of commits: ten requests and the records since the last summary."""
    store = MemoryStore()
    create(store)
    with reopen(store) as vault:
        for number in range(150):
            vault.forget(vault.backup(items({"a": b"%d" % number}), name="n"), reason="test")
        last = vault.backup(items({"last": b"last"}), name="n")
        contents = read_all(vault)
        size, since = vault._session.log.state.size, vault._session.log.state.last_summary
    tail = size + 2 - since
    counting = CountingStore(store)

    with reopen(counting, read_only=True) as vault:
        assert counting.snapshot().total <= 10 + tail
        assert vault.snapshot("latest").id == last.id
        assert read_all(vault) == contents
        assert vault.check(data=True).ok

    assert size > 300
    assert tail <= 70
    with reopen(store, state_dir=tmp_path) as vault:
        vault.snapshots()
    counting.reset()
    with reopen(counting, state_dir=tmp_path, read_only=True) as vault:
        assert counting.snapshot().total <= 10
        assert vault.freshness == "fresh"


def test_planted_summary_is_not_believed() -> None:
    """One that no record of a maintainer commits to, or with a name of no form."""
    store = MemoryStore()
    create(store)
    grown(store, 3)
    with reopen(store, read_only=True) as vault:
        state = vault._session.log.state
        state.snapshots = {}
        planted = b"LBKSUM1" + encode_state(state)
    store.put(names.summary_name(state.size, names.content_hash(planted)), planted, if_absent=True)
    for name in ("summary/nonsense", "summary/99-" + "0" * 64):
        store.put(name, planted, if_absent=True)

    with reopen(store) as vault:
        assert len(vault.snapshots()) == 3
        vault.prune()


# ---- a store that cannot be written to


def test_read_only_store_can_be_read() -> None:
    """Restores work, what cannot be recorded is not, and acts say that they cannot."""
    from loopbackup.vault.store.wrappers import ReadOnlyStore

    store = MemoryStore()
    create(store)
    grown(store, 2)
    before = dump(store)

    with reopen(ReadOnlyStore(store)) as vault:
        assert len(read_all(vault)) == 2
        with pytest.raises(lb.StoreError) as caught:
            vault.backup(items({"new": b"new"}), name="n")
        assert caught.value.kind == "denied"

    assert dump(store) == before


def test_vault_opened_for_reading_writes_nothing(tmp_path: Path) -> None:
    """Not even that somebody looked; acts are refused before they begin."""
    store = MemoryStore()
    create(store)
    grown(store, 1)
    before = dump(store)

    with reopen(store, read_only=True) as vault:
        vault.restore(vault.snapshot("latest"), tmp_path / "out")
        assert vault.check(data=True).ok
        for act in (
            lambda: vault.backup(items({"new": b"new"}), name="n"),
            lambda: vault.forget(vault.snapshot("latest"), reason="test"),
            vault.prune,
        ):
            with pytest.raises(InputError, match="reading only"):
                act()

    assert (tmp_path / "out" / "0").read_bytes() == b"0"
    assert dump(store) == before
