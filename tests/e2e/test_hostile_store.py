"""A store that shows endless objects, or ones that cannot be read: bounded, local, told."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.support import SEED, create, items, noise, read_snapshot, reopen

import loopbackup as lb
from loopbackup.errors import DamagedData, InputError
from loopbackup.vault.format import bounds, names
from loopbackup.vault.ledger import commit
from loopbackup.vault.ledger.commit import put_list
from loopbackup.vault.store.local import LocalStore
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.store.protocol import Store
from loopbackup.vault.store.seam import StoreSeam
from loopbackup.vault.store.wrappers import WrapperStore
from loopbackup.vault.verbs.check import CheckReport


class Swollen(WrapperStore):
    """Shows zeros without end under the names that hold a word."""

    def __init__(self, inner: Store, word: str) -> None:
        super().__init__(inner)
        self.word = word

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Give as many zeros as are asked for; the system backs them by no memory."""
        if self.word not in key:
            return super().get(key, start=start, length=length)
        assert length is not None, "no bound was given"
        return bytes(length)


class Unreadable(WrapperStore):
    """Cannot read the objects whose names begin so, as on a disk with bad sectors."""

    def __init__(self, inner: Store, *prefixes: str) -> None:
        super().__init__(inner)
        self.prefixes = prefixes

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Fail as the system does."""
        if key.startswith(self.prefixes):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().get(key, start=start, length=length)


CONTENTS = {name: noise(300_000, name) for name in ("a", "b")}


def fill(store: Store) -> str:
    """Make a vault with two snapshots of a pack each; name the pack of the older."""
    create(store)
    with reopen(store) as vault:
        vault.backup(items({"a": CONTENTS["a"]}), name="old")
        (pack,) = [entry.key for entry in store.list("packs/")]
        vault.backup(items({"b": CONTENTS["b"]}), name="new")
        vault._session.log._summarise()
    return pack


@pytest.fixture
def store() -> MemoryStore:
    """Give a filled vault in memory."""
    store = MemoryStore()
    fill(store)
    return store


@pytest.mark.parametrize("word", ["vault", "ledger/", "slot-", "root"])
def test_an_endless_object_ends_the_opening(store: MemoryStore, word: str) -> None:
    """It is damage that names the object, and took no more than its kind allows."""
    with pytest.raises(DamagedData) as caught:
        reopen(Swollen(store, word))

    assert caught.value.kind == "oversized"
    assert word in str(caught.value.object)


def test_endless_summaries_are_passed_over(store: MemoryStore) -> None:
    """They are a cache of the ledger, which is whole."""
    with reopen(Swollen(store, "summary/")) as vault:
        assert len(vault.snapshots()) == 2


def test_an_endless_list_is_damage(store: MemoryStore) -> None:
    """The fold cannot go on without it, and says which it is."""
    digest = put_list(StoreSeam(store), b"x")

    with reopen(Swollen(store, "lists/")) as vault, pytest.raises(DamagedData) as caught:
        vault._session.log.fetch_list(digest)

    assert (caught.value.kind, caught.value.object) == ("oversized", names.list_name(digest))


def test_an_endless_shard_is_named_by_a_check(store: MemoryStore) -> None:
    """The vault opens, and the check ends."""
    with reopen(Swollen(store, "keys/shard/"), read_only=True) as vault:
        report = vault.check()

    assert "oversized" in {problem.kind for problem in report.problems}


def test_a_list_that_nobody_would_read_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer keeps to the bound that it holds others to."""
    monkeypatch.setattr(commit, "MAX_LIST_BYTES", 1000)
    store = MemoryStore()

    put_list(StoreSeam(store), bytes(1000 - 23))
    with pytest.raises(InputError, match="a list of 1,001 bytes"):
        put_list(StoreSeam(store), bytes(1001 - 23))

    assert [entry.size_bytes for entry in store.list("")] == [1000]


def test_bounds_leave_room_for_what_is_written() -> None:
    """Each is at least what the format says that a writer may make."""
    assert bounds.MAX_RECORD_BYTES > 16 << 24
    assert bounds.MAX_HEADER_OBJECT_BYTES > bounds.MAX_RECORD_BYTES + 65_536
    assert bounds.MAX_LIST_BYTES <= 1 << 30


# ---- what cannot be read


Spoil = Callable[[Path], None]


def _link(path: Path) -> None:
    elsewhere = path.with_name("elsewhere.bin")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def assert_told_of(report: CheckReport, pack: str, old: lb.Snapshot) -> None:
    """Hold a report against the loss of one pack, which one snapshot needs."""
    assert pack in {problem.object for problem in report.problems}
    assert {name for problem in report.problems for name in problem.snapshots} == {old.id}


@pytest.mark.parametrize("spoil", [_link, _loop, _folder, _fifo])
def test_what_stands_in_a_packs_place_costs_that_pack_only(tmp_path: Path, spoil: Spoil) -> None:
    """A link, a folder or a FIFO there: check goes on and names it, all else is restored."""
    store = LocalStore(tmp_path / "vault", fsync=False)
    pack = fill(store)
    spoil(tmp_path / "vault" / pack)

    with reopen(store) as vault:
        old = vault.snapshot("latest", name="old")
        report = vault.check(data=True)
        assert read_snapshot(vault.snapshot("latest", name="new")) == {"b": CONTENTS["b"]}
        vault.restore(vault.snapshot("latest", name="new"), tmp_path / "new")
        with pytest.raises(DamagedData):
            vault.restore(old, tmp_path / "old")
        again = vault.backup(items({"c": b"c", "b": CONTENTS["b"]}), name="new")
        assert read_snapshot(again) == {"c": b"c", "b": CONTENTS["b"]}

    assert_told_of(report, pack, old)
    assert (tmp_path / "new" / "b").read_bytes() == CONTENTS["b"]


def test_bad_sectors_under_a_pack_cost_that_pack_only(tmp_path: Path) -> None:
    """An input/output error of one object ends neither a check nor a restore of another."""
    store = MemoryStore()
    pack = fill(store)

    with reopen(Unreadable(store, pack)) as vault:
        old = vault.snapshot("latest", name="old")
        report = vault.check(data=True)
        vault.restore(vault.snapshot("latest", name="new"), tmp_path / "new")
        with pytest.raises(DamagedData) as caught:
            vault.restore(old, tmp_path / "old")

    assert_told_of(report, pack, old)
    assert (tmp_path / "new" / "b").read_bytes() == CONTENTS["b"]
    assert not isinstance(caught.value, lb.StoreError)


@pytest.mark.parametrize("prefix", ["vault", "ledger/", "keys/"])
def test_bad_sectors_under_what_every_opening_needs(store: MemoryStore, prefix: str) -> None:
    """The error names the object; nothing is taken for missing, and nothing is written."""
    before = sorted(entry.key for entry in store.list(""))

    with pytest.raises(DamagedData) as caught:
        reopen(Unreadable(store, prefix))

    assert caught.value.kind == "unreadable"
    assert str(caught.value.object).startswith(prefix)
    assert sorted(entry.key for entry in store.list("")) == before


def test_bad_sectors_under_a_summary_cost_time_only(store: MemoryStore) -> None:
    """The ledger is folded from its first record."""
    with reopen(Unreadable(store, "summary/"), credential=SEED) as vault:
        assert len(vault.snapshots()) == 2


def test_bounds_are_those_of_the_format_page() -> None:
    """Another reader has to stop at the same byte."""
    page = (Path(__file__).parents[2] / "docs/reference/format.md").read_text("utf-8")

    assert f"| record | {bounds.MAX_RECORD_BYTES:,}:" in page
    assert f"| `vault` | {bounds.MAX_HEADER_OBJECT_BYTES:,}:" in page
    assert bounds.MAX_ROOT_BYTES == 2**20
    assert bounds.MAX_SHARD_BYTES == 2**28
    assert bounds.MAX_LIST_BYTES == bounds.MAX_SUMMARY_BYTES == 2**30
