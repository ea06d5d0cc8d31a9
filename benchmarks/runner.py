"""
Run one step of loopbackup as a process of its own, as a host's nightly job would.

Writes the cost of the library's call alone to ``--figures``; whoever started
the process measures all of it. Nothing of the benchmark is imported here.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import loopbackup as lb

NAME = "bench"


def items(source: Path) -> Iterator[lb.Item]:
    """Give files below ``users/<number>`` as items of that subject."""
    for parent, folders, names in os.walk(source / "users"):
        folders.sort()
        folder = Path(parent)
        for name in sorted(names):
            path = folder / name
            stat = path.stat()
            yield lb.Item(
                str(path.relative_to(source)),
                data=partial(path.read_bytes),
                version=f"{stat.st_ino}-{stat.st_mtime_ns}-{stat.st_size}",
                subject=("acme", folder.name),
            )


def prune(vault: lb.Vault) -> None:
    """Forget all but the last snapshot and delete what only the others needed."""
    for snapshot in vault.snapshots(name=NAME)[1:]:
        vault.forget(snapshot, reason="the benchmark is over")
    vault.prune()


def check(vault: lb.Vault) -> None:
    """Verify all data; damage would be a failed run."""
    report = vault.check(data=True)
    if not report.ok:
        raise SystemExit(f"{len(report.problems)} problems")


def main() -> None:
    """Open the vault and do one step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "step", choices=["create", "backup", "items", "restore", "partial", "check", "prune"]
    )
    parser.add_argument("--vault", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--to", type=Path)
    parser.add_argument("--part", default="")
    parser.add_argument("--figures", type=Path, required=True)
    options = parser.parse_args()
    key = lb.Passphrase.from_env("BENCH_PASSPHRASE")
    if options.step == "create":
        # Without grace the prune deletes at once, as the other tools do.
        lb.Vault.create(options.vault, key, grace_s=0, state_dir=options.state).close()
        return
    steps: dict[str, Callable[[lb.Vault], object]] = {
        "backup": lambda vault: vault.backup(options.source, name=NAME),
        "items": lambda vault: vault.backup(items(options.source), name=NAME),
        "restore": lambda vault: vault.restore(vault.snapshot(name=NAME), options.to),
        "partial": lambda vault: vault.restore(
            vault.snapshot(name=NAME), options.to, include=[f"/{options.part}"]
        ),
        "check": check,
        "prune": prune,
    }
    with lb.Vault.open(options.vault, key, state_dir=options.state) as vault:
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        steps[options.step](vault)
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    options.figures.write_text(json.dumps({"wall_s": wall_s, "cpu_s": cpu_s}))


if __name__ == "__main__":
    main()
