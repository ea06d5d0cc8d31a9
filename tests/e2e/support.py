"""Vaults in memory that can be copied, damaged, and held against what they must contain."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import loopbackup as lb
from loopbackup.errors import LoopbackupError
from loopbackup.terms import Actor, Gate
from loopbackup.testing.memory import SIZES
from loopbackup.vault.keys.credentials import Credential, Seed
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.store.protocol import Store
from loopbackup.vault.vault import Vault
from loopbackup.vault.verbs.creation import create_vault
from loopbackup.vault.verbs.hosting import system_clock
from loopbackup.vault.verbs.opening import open_vault

SEED = Seed(bytes(range(32)))
Objects: TypeAlias = dict[str, bytes]
Contents: TypeAlias = dict[str, dict[str, bytes]]
"""Snapshot id -> path -> content."""


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Give the time; each look takes a moment."""
        self.now += timedelta(milliseconds=1)
        return self.now

    def pass_by(self, **units: float) -> None:
        """Let time pass."""
        self.now += timedelta(**units)


def noise(length: int, name: str) -> bytes:
    """Return bytes that look random and are the same in every run."""
    return hashlib.shake_128(name.encode()).digest(length)


def create(
    store: Store,
    *,
    grace_s: int = 86_400,
    credential: Credential = SEED,
    clock: Callable[[], datetime] = system_clock,
) -> None:
    """Make a vault with small chunks and packs in *store*."""
    create_vault(
        "memory://test",
        credential,
        storage_options=None,
        location=None,
        grace_s=grace_s,
        single_writer=True,
        clock=clock,
        store=store,
        sizes=SIZES,
    )


def reopen(
    store: Store,
    *,
    credential: Credential = SEED,
    head: str | None = None,
    state_dir: Path | None = None,
    read_only: bool = False,
    actor: Actor | None = None,
    gate: Gate | None = None,
    override: str | None = None,
    clock: Callable[[], datetime] = system_clock,
) -> Vault:
    """Open the vault in *store* as another process would."""
    session = open_vault(
        "memory://test",
        credential,
        storage_options=None,
        actor=actor,
        read_only=read_only,
        head=head,
        clock=clock,
        state_dir=state_dir,
        gate=gate,
        override=override,
        store=store,
    )
    return Vault(session, actor)


def new_vault(**options: Any) -> Vault:
    """Make and open a vault in a store of its own."""
    store = MemoryStore()
    create(store, grace_s=options.pop("grace_s", 86_400), clock=options.get("clock", system_clock))
    return reopen(store, **options)


def dump(store: Store) -> Objects:
    """Copy all objects out of a store."""
    return {entry.key: store.get(entry.key) for entry in store.list("")}


def load(objects: Objects) -> MemoryStore:
    """Put objects into a new store."""
    store = MemoryStore()
    for key, data in objects.items():
        store.put(key, data, if_absent=True)
    return store


def items(contents: dict[str, bytes], **more: Any) -> list[lb.Item]:
    """Make items of path and content."""
    return [lb.Item(path, data=data, **more) for path, data in contents.items()]


def read_snapshot(snapshot: lb.Snapshot) -> dict[str, bytes]:
    """Read every file and item of a snapshot."""
    found = {}
    for entry in snapshot.ls(recursive=True):
        if entry.type in ("file", "item"):
            with snapshot.open(entry.path) as file:
                found[entry.path] = file.read()
    return found


def read_all(vault: Vault) -> Contents:
    """Read every entry of every snapshot."""
    return {snapshot.id: read_snapshot(snapshot) for snapshot in vault.snapshots()}


def read_what_is_left(vault: Vault, expected: Contents) -> tuple[Contents, list[tuple[str, str]]]:
    """
    Ask for everything that a vault should hold.

    Returns:
        What came back, and (snapshot, path) of what did not; the path is empty
        where a snapshot is not there at all.

    Raises:
        AssertionError: Something came back that is wrong.
    """
    found: Contents = {}
    missing: list[tuple[str, str]] = []
    live = {snapshot.id: snapshot for snapshot in vault.snapshots()}
    assert live.keys() <= expected.keys(), "a snapshot that never was"
    for snapshot_id, entries in expected.items():
        if snapshot_id not in live:
            missing.append((snapshot_id, ""))
            continue
        for path, content in entries.items():
            try:
                with live[snapshot_id].open(path) as file:
                    data = file.read()
            except LoopbackupError:
                missing.append((snapshot_id, path))
                continue
            assert data == content, "wrong data"
            found.setdefault(snapshot_id, {})[path] = data
    return found, missing


def names_of(paths: Iterable[bytes | None]) -> set[str]:
    """Decode the paths of problems."""
    return {path.decode() for path in paths if path is not None}
