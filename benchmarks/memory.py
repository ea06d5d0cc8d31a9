"""
Measure whether memory stays flat: back up ever more, watch the process meanwhile.

    python -m benchmarks.memory [--gib 1,2,4] [--folder /dev/shm] [--out bench-results]

The source is random bytes that are made while they are read, so that it needs
no room; the store throws away the bodies of packs, for the same reason.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from attrs import frozen

MIB = 1 << 20
ITEM_BYTES = 64 * MIB
EVERY_S = 0.05


@frozen
class Curve:
    """Resident bytes over the time of one backup."""

    source_bytes: int
    peak_bytes: int
    points: list[tuple[float, int]]
    """Seconds since the start, resident bytes."""


class _Noise(io.RawIOBase):
    """Random bytes without an end in memory."""

    def __init__(self, seed: int, size_bytes: int) -> None:
        self._random = Random(seed)
        self._left = size_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        count = min(len(buffer), self._left, MIB)
        buffer[:count] = self._random.randbytes(count)
        self._left -= count
        return count


def _child(gib: float, folder: Path) -> None:
    """Back up so much in this process; its parent watches it."""
    import loopbackup as lb

    def items() -> Iterator[lb.Item]:
        for number in range(round(gib * 2**30) // ITEM_BYTES):
            source = io.BufferedReader(_Noise(number, ITEM_BYTES), MIB)
            yield lb.Item(f"dump/{number:05d}.bin", data=source)

    key = lb.Passphrase("not a secret")
    with lb.Vault.create(folder / "vault", key, state_dir=folder / "state") as vault:
        vault.backup(items(), name="dump")


def _empty_packs(vault: Path) -> None:
    """
    Throw away the bodies of the packs that were put.

    They are noise here and never read again; kept, 4 GiB would need 4 GiB.
    """
    for path in vault.glob("packs/**/*"):
        if path.is_file() and path.stat().st_size:
            path.chmod(0o600)
            os.truncate(path, 0)


def measure(gib: float, folder: Path) -> Curve:
    """Back up *gib* GiB in a process of its own and give its memory over time."""
    argv = [sys.executable, "-m", "benchmarks.memory", "--child", str(gib)]
    points: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory(dir=folder) as place:
        begin = time.perf_counter()
        process = subprocess.Popen([*argv, "--folder", place])
        while process.poll() is None:
            points.append((time.perf_counter() - begin, _resident(process.pid)))
            _empty_packs(Path(place, "vault"))
            time.sleep(EVERY_S)
        if process.returncode != 0:
            raise SystemExit(f"the backup ended with status {process.returncode}")
    return Curve(round(gib * 2**30), max(size for _, size in points), points)


def _resident(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, IndexError, ProcessLookupError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _plot(curves: list[Curve], path: Path) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for curve in curves:
        label = f"{curve.source_bytes / 2**30:g} GiB"
        axis.plot(
            [at for at, _ in curve.points], [size / 1e6 for _, size in curve.points], label=label
        )
    axis.set_xlabel("seconds")
    axis.set_ylabel("resident MB")
    axis.set_ylim(bottom=0)
    axis.legend(title="source")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure the sizes one after the other and print their peaks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", default="1,2,4")
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--out", type=Path, default=Path("bench-results"))
    parser.add_argument("--child", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        _child(options.child, options.folder)
        return
    curves = []
    for size in options.gib.split(","):
        curves.append(measure(float(size), options.folder))
        peak, took = curves[-1].peak_bytes / 1e6, curves[-1].points[-1][0]
        print(f"{size:>5} GiB  peak {peak:5.0f} MB  {took:6.1f} s", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    table = [
        {"source_bytes": c.source_bytes, "peak_bytes": c.peak_bytes, "points": c.points}
        for c in curves
    ]
    (options.out / "memory.json").write_text(json.dumps(table))
    _plot(curves, options.out / "memory.png")


if __name__ == "__main__":
    main()
