"""Whole backups and restores while the index lies in a scratch file, and what opening reads."""

from __future__ import annotations

import os

import pytest

from loopbackup.testing.faults import FaultStore, script
from loopbackup.vault.content import index as module
from loopbackup.vault.store.memory import MemoryStore

from .support import create, items, read_snapshot, reopen


@pytest.fixture
def _on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MEMORY_BYTES", 0)


def many(first: int, count: int) -> dict[str, bytes]:
    """Make small files and one large one."""
    found = {f"f/{n:04d}": b"%d" % n * 50 for n in range(first, first + count)}
    return found | {"large": bytes(1000) + os.urandom(200_000)}


@pytest.mark.usefixtures("_on_disk")
def test_vault_works_with_its_index_on_disk() -> None:
    """Backups find what is there, a prune moves it, and what comes back is what was stored."""
    store = MemoryStore()
    create(store, grace_s=0)
    first, second = many(0, 400), many(200, 400)
    with reopen(store) as vault:
        vault.backup(items(first), name="n")
    with reopen(store) as vault:
        vault.backup(items(second), name="n")
        before = sum(entry.size_bytes for entry in store.list("packs/"))
        vault.backup(items(second), name="n")
        tables = vault._session.index._tables.values()
        assert any(table.places.file_bytes > 0 for table in tables)
        assert sum(entry.size_bytes for entry in store.list("packs/")) < before + 100_000
    with reopen(store) as vault:
        newest, *older = sorted(vault.snapshots(), key=lambda s: s.created_at, reverse=True)
        for snapshot in older:
            vault.forget(snapshot, reason="old")
        vault.prune()
        assert vault.check(data=True).ok
        assert read_snapshot(newest) == second


def test_opening_reads_nothing_of_the_index() -> None:
    """So it takes as long for a hundred million chunks as for none."""
    store = MemoryStore()
    create(store)
    with reopen(store) as vault:
        vault.backup(items({"large": os.urandom(6_000_000)}), name="n")
    assert list(store.list("index/")) != []

    faults = FaultStore(store, script())
    with reopen(faults):
        keys = [call.key for call in faults.calls]

    assert keys != []
    assert not [key for key in keys if key.startswith(("index/", "packs/"))]
