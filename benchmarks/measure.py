"""Measure one process from outside: wall, CPU, peak memory; and what it left on disk."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import frozen

__all__ = ["Figures", "Footprint", "footprint", "run"]


@frozen
class Figures:
    """What one process cost, with all children that it waited for."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    """Of the largest process, where it was several."""
    call_wall_s: float | None = None
    """Of the library's call alone, where the process says so."""
    call_cpu_s: float | None = None


@frozen
class Footprint:
    """What a folder takes: bytes of content, and files."""

    size_bytes: int
    objects: int


def run(
    argv: Sequence[str], *, env: Mapping[str, str] | None, cwd: Path | None, log: Path
) -> Figures:
    """
    Run a process to its end and give what it cost.

    Its output goes to *log*. A process that fails ends the run of the benchmark:
    a figure of something that did not work is none.
    """
    with log.open("wb") as out:
        begin = time.perf_counter()
        process = subprocess.Popen(
            argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        tail = log.read_text(errors="replace")[-2000:]
        raise SystemExit(f"{' '.join(argv)}\nended with status {process.returncode}:\n{tail}")
    # The kernel counts the peak of this small process, from which it was forked, as a floor.
    return Figures(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def footprint(folder: Path) -> Footprint:
    """Count what lies below *folder*."""
    sizes = [
        os.lstat(os.path.join(parent, name)).st_size
        for parent, _, names in os.walk(folder)
        for name in names
    ]
    return Footprint(sum(sizes), len(sizes))
