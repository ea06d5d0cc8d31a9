"""
Measure what the distance to a store costs: the same work with latency and without, in turns.

    python -m benchmarks.latency [--mib 1024] [--tree FOLDER] [--ms 40] [--rounds 3]

Backed up are so many MiB of random bytes in one file, or a tree. The store is a folder; with
latency each request waits before it begins. Medians, and the median of each round's ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

MIB = 1 << 20
STEPS = ("first", "again", "restore", "check")


def work(folder: Path, source: Path, latency_ms: float) -> dict[str, float]:
    """Back up and restore in this process; give seconds, requests and memory."""
    import loopbackup as lb
    from loopbackup.vault.store.local import LocalStore
    from loopbackup.vault.store.wrappers import CountingStore, LatencyStore
    from loopbackup.vault.vault import Vault
    from loopbackup.vault.verbs.opening import open_vault

    key, found = lb.Passphrase("not a secret"), {}
    counting = CountingStore(LocalStore(folder / "vault"))
    # Without latency, too: what is compared is the waiting alone.
    store = LatencyStore(counting, request_s=latency_ms / 1000)
    lb.Vault.create(folder / "vault", key, state_dir=folder / "state").close()
    session = open_vault(
        folder / "vault",
        key,
        storage_options=None,
        actor=None,
        read_only=False,
        head=None,
        clock=lambda: datetime.now(UTC),
        state_dir=folder / "state",
        store=store,
    )

    def measure(name: str, call: Callable[[], object]) -> None:
        before, began = counting.snapshot().total, time.perf_counter()
        call()
        found[name] = time.perf_counter() - began
        found[f"{name} requests"] = counting.snapshot().total - before
        found[f"{name} MB"] = _peak_mb()

    with Vault(session, None) as vault:
        measure("first", lambda: vault.backup(source, name="n"))
        measure("again", lambda: vault.backup(source, name="n"))
        measure("restore", lambda: vault.restore("latest", folder / "out"))
        measure("check", lambda: vault.check(data=True))
    return found


def _peak_mb() -> float:
    """Give the most memory in use since the last call; also what was lately in use counts."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    Path("/proc/self/clear_refs").write_text("5")
    return int(line.split()[1]) / 1000


def run(arguments: argparse.Namespace, source: Path, latency_ms: float) -> dict[str, float]:
    """Do the work in a process of its own."""
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        command = [sys.executable, "-m", "benchmarks.latency", "--work", folder, str(source)]
        done = subprocess.run(
            [*command, str(latency_ms)], check=True, stdout=subprocess.PIPE, text=True
        )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Run, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--tree", type=Path)
    parser.add_argument("--ms", type=float, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default="/dev/shm")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        folder, source, latency_ms = arguments.work
        print(json.dumps(work(Path(folder), Path(source), float(latency_ms))))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as corpus:
        source = arguments.tree
        if source is None:
            source = Path(corpus)
            with (source / "random").open("wb") as file:
                for _ in range(arguments.mib):
                    file.write(os.urandom(MIB))
        pairs = [
            (run(arguments, source, 0), run(arguments, source, arguments.ms))
            for _ in range(arguments.rounds)
        ]
    print(f"| step | near s | {arguments.ms:g} ms away s | ratio | requests | peak MB |")
    print("|---|---|---|---|---|---|")
    for step in STEPS:
        near = statistics.median(pair[0][step] for pair in pairs)
        far = statistics.median(pair[1][step] for pair in pairs)
        ratio = statistics.median(pair[1][step] / pair[0][step] for pair in pairs)
        requests, peak = pairs[0][1][f"{step} requests"], max(p[1][f"{step} MB"] for p in pairs)
        print(f"| {step} | {near:.2f} | {far:.2f} | {ratio:.2f} | {requests} | {peak:.0f} |")


if __name__ == "__main__":
    main()
