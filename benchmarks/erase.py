"""
Measure what it costs to erase one of a million.

    python -m benchmarks.erase --folder /dev/shm [--subjects 1000000]

Fills a vault's keyring with so many subjects, backs up a few of them, and
prints wall and CPU seconds, bytes and requests of erasing one person, a
thousand, and a tenant of ten.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import loopbackup as lb
from loopbackup.vault.keys.credentials import Seed
from loopbackup.vault.store.local import LocalStore
from loopbackup.vault.store.wrappers import CountingStore
from loopbackup.vault.vault import Vault
from loopbackup.vault.verbs.creation import create_vault
from loopbackup.vault.verbs.domains import ensure_domains
from loopbackup.vault.verbs.hosting import system_clock
from loopbackup.vault.verbs.opening import open_vault

BATCH = 16_384


def new_vault(folder: Path) -> tuple[CountingStore, Vault]:
    """Make a vault without a passphrase."""
    seed, store = Seed(os.urandom(32)), CountingStore(LocalStore(folder, fsync=True))
    create_vault(
        folder,
        seed,
        storage_options=None,
        location=None,
        grace_s=86_400,
        single_writer=True,
        clock=system_clock,
        store=store,
    )
    session = open_vault(
        folder,
        seed,
        storage_options=None,
        actor=None,
        read_only=False,
        head=None,
        clock=system_clock,
        state_dir=None,
        store=store,
    )
    return store, Vault(session, None)


def fill(vault: Vault, count: int) -> None:
    """Make so many subjects, a few thousand a record, as backups do."""
    session = vault._session
    for first in range(0, count, BATCH):
        batch = [("acme", f"user-{n}") for n in range(first, min(first + BATCH, count))]
        ensure_domains(session.store, session.log, session.keyring, batch)


def step(store: CountingStore, name: str, work: Callable[[], object]) -> None:
    """Run one step and print its row."""
    store.reset()
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    counts = store.snapshot()
    puts, gets = counts.requests.get("put", 0), counts.requests.get("get", 0)
    up, down = counts.bytes_up / 1e6, counts.bytes_down / 1e6
    cells = [name, f"{wall:.2f}", f"{cpu:.2f}", f"{up:.2f}", f"{down:.1f}", puts, gets]
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def main() -> None:
    """Fill, back up, erase."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", default=None)
    parser.add_argument("--subjects", type=int, default=1_000_000)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        store, vault = new_vault(folder / "vault")
        print("| step | wall s | CPU s | MB written | MB read | puts | gets |")
        print("|---|---|---|---|---|---|---|")
        count = options.subjects
        step(store, f"fill with {count:,} subjects", lambda: fill(vault, count))
        people = [("acme", f"user-{n * 97}") for n in range(2_000)]
        people += [("small", f"user-{n}") for n in range(10)]
        items = [lb.Item(f"{t}/{p}", data=p.encode() * 40, subject=(t, p)) for t, p in people]
        step(store, "back up 2,010 of them", lambda: vault.backup(items, name="n"))
        erase = vault.erase_subjects
        step(store, "erase one", lambda: erase(people[7:8], reason="benchmark"))
        step(store, "erase another", lambda: erase(people[8:9], reason="benchmark"))
        step(store, "erase 1,000", lambda: erase(people[100:1_100], reason="benchmark"))
        step(store, "erase a tenant of ten", lambda: erase(["small"], reason="benchmark"))
        step(store, "prune", vault.prune)
        assert vault.check(data=True).ok
        vault.close()
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
