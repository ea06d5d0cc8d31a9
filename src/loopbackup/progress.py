"""The one seam for progress: counts go in, a function or a line on stderr shows them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, TypeAlias

from attrs import frozen

__all__ = ["Progress", "ProgressLike", "Reporter"]

INTERVAL_S = 0.1


@frozen
class Progress:
    """How far a verb is: entries and bytes done so far, seconds since it began."""

    verb: str
    files: int
    bytes_done: int
    seconds: float
    done: bool = False

    def __str__(self) -> str:
        rate = self.bytes_done / self.seconds / 1e6 if self.seconds else 0.0
        done = f"{self.files:,} entries, {self.bytes_done / 1e6:,.1f} MB"
        return f"{self.verb}: {done}, {rate:,.0f} MB/s"


ProgressLike: TypeAlias = bool | Callable[[Progress], Any]


class Reporter:
    """Counts, and shows them at most ten times a second; silent unless asked."""

    def __init__(self, verb: str, show: ProgressLike) -> None:
        self._verb = verb
        self._show = _to_stderr if show is True else show or None
        self._start = time.monotonic()
        self._next = self._start
        self.files = 0
        self.bytes_done = 0

    def advance(self, *, files: int = 0, size_bytes: int = 0) -> None:
        """Add to the counts."""
        self.files += files
        self.bytes_done += size_bytes
        if self._show is not None and time.monotonic() >= self._next:
            self._next = time.monotonic() + INTERVAL_S
            self._emit(done=False)

    def finish(self) -> None:
        """Show the end."""
        if self._show is not None:
            self._emit(done=True)

    @property
    def seconds(self) -> float:
        """Seconds since the verb began."""
        return time.monotonic() - self._start

    def _emit(self, *, done: bool) -> None:
        if self._show is not None:
            self._show(Progress(self._verb, self.files, self.bytes_done, self.seconds, done))


def _to_stderr(progress: Progress) -> None:
    end = "\n" if progress.done else ""
    sys.stderr.write(f"\r{progress}\x1b[K{end}")
    sys.stderr.flush()
