"""
Measure what subjects cost: many in one backup, and a million in one vault.

    python benchmarks/subjects.py --folder /dev/shm [--subjects 10000] [--fill 1000000]

Prints wall and CPU seconds, peak memory, bytes and requests of each step.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import loopbackup as lb
from loopbackup.vault.keys.credentials import Seed
from loopbackup.vault.store.local import LocalStore
from loopbackup.vault.store.wrappers import CountingStore
from loopbackup.vault.vault import Vault
from loopbackup.vault.verbs.creation import create_vault
from loopbackup.vault.verbs.hosting import system_clock
from loopbackup.vault.verbs.opening import open_vault

ITEMS_EACH = 5


def items(first: int, count: int, version: str) -> Iterator[lb.Item]:
    """Yield some small items of each subject, as a host's database would."""
    for number in range(first, first + count):
        subject = ("acme", f"user-{number}")
        for kind in range(ITEMS_EACH):
            text = f"record {kind} of user {number}, state {version} ".encode() * 8
            yield lb.Item(
                f"users/{number}/{kind}.json", data=text, version=version, subject=subject
            )


class Bench:
    """One vault, measured from outside."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "vault"
        self._state = folder / "state"
        self._seed = Seed(os.urandom(32))
        self.store = CountingStore(LocalStore(self._folder, fsync=False))
        create_vault(
            self._folder,
            self._seed,
            storage_options=None,
            location=None,
            grace_s=86_400,
            single_writer=True,
            clock=system_clock,
            store=self.store,
        )

    def open(self, *, local: bool = True) -> Vault:
        """Open the vault, with or without local state."""
        session = open_vault(
            self._folder,
            self._seed,
            storage_options=None,
            actor=None,
            read_only=False,
            head=None,
            clock=system_clock,
            state_dir=self._state if local else None,
            store=self.store,
        )
        return Vault(session, None)

    def size(self) -> int:
        """Give the bytes that the vault takes."""
        return sum(entry.size_bytes for entry in self.store.list(""))


def main() -> None:
    """Run all steps and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", default=None)
    parser.add_argument("--subjects", type=int, default=10_000)
    parser.add_argument("--fill", type=int, default=0)
    parser.add_argument("--prune", action="store_true", help="prune after the fill")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        run(Bench(folder), options.subjects, options.fill, prune=options.prune)
    finally:
        shutil.rmtree(folder)


def run(bench: Bench, subjects: int, fill: int, *, prune: bool) -> None:
    """Fill the vault, then measure one run of so many subjects."""
    heads = f"{'wall s':>7} {'CPU s':>7} {'peak MB':>8} {'vault MB':>9} {'puts':>6} {'gets':>6}"
    print(f"{'step':<44} {heads}")
    vault = step(bench, "open (new vault)", bench.open)
    for first in range(0, fill, subjects):
        vault.backup(items(first, subjects, "a"), name=f"fill-{first}")
        if first // subjects % 10 == 9:
            print(f"  {first + subjects:,} subjects, peak {peak_mb():.0f} MB", flush=True)
    if fill:
        if prune:
            step(bench, "prune (merges packs and index)", vault.prune)
        step(bench, f"the vault holds {fill:,} subjects; close", vault.close)
        vault = step(bench, "open it again", bench.open)
    new = items(fill, subjects, "a")
    step(bench, f"back up {subjects:,} new subjects", lambda: vault.backup(new, name="run"))
    again = items(fill, subjects, "a")
    step(bench, "again, nothing changed", lambda: vault.backup(again, name="run"))
    edited = items(fill, subjects, "b")
    snap = step(bench, "again, all changed", lambda: vault.backup(edited, name="run"))
    one = items(fill + subjects, 1, "a")
    step(bench, "one new subject", lambda: vault.backup(one, name="one"))
    target = f"memory://{os.getpid()}"
    wanted = ("acme", f"user-{fill + 7}")
    step(bench, "restore one subject", lambda: vault.restore(snap, target, subject=wanted))
    prior = ("acme", f"user-{fill // 2}")
    step(bench, "erase one subject", lambda: vault.erase_subjects([prior], reason="benchmark"))
    vault.close()
    step(bench, "open with local state", bench.open).close()
    step(bench, "open without local state", lambda: bench.open(local=False)).close()


def step(bench: Bench, name: str, work):  # type: ignore[no-untyped-def]
    """Run one step and print its row."""
    bench.store.reset()
    cpu, wall = time.process_time(), time.perf_counter()
    result = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    counts = bench.store.snapshot()
    puts, gets = counts.requests.get("put", 0), counts.requests.get("get", 0)
    print(
        f"{name:<44} {wall:7.2f} {cpu:7.2f} {peak_mb():8.0f} {bench.size() / 1e6:9.1f} "
        f"{puts:6,} {gets:6,}",
        flush=True,
    )
    return result


def peak_mb() -> float:
    """Give the peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
