"""
Sorting entries that come in any order, in bounded memory.

Sorted runs are spilled to a scratch file: no name may reach a disk in clear.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final

import msgspec

from .scratch import ScratchFile

__all__ = ["EntrySorter", "SortedEntry"]

SPILL_BYTES: Final = 48 << 20
_BATCH: Final = 2048
_OVERHEAD: Final = 200
"""What an entry costs in memory beside its bytes."""

SortedEntry = tuple[bytes, bytes, int, bytes, int]
"""(domain id, sort key, arrival, encoded node, size)."""
_rows: Final = msgspec.msgpack.Decoder(list[tuple[bytes, bytes, int, bytes, int]])


class EntrySorter:
    """Collects entries; iterating gives them by domain, then tree order, then arrival."""

    def __init__(self) -> None:
        self._rows: list[SortedEntry] = []
        self._bytes = 0
        self._arrival = 0
        self._file: ScratchFile | None = None
        self._runs: list[list[tuple[int, int]]] = []

    def add(self, domain: bytes, key: bytes, encoded: bytes, size: int) -> None:
        """Add one encoded entry."""
        self._rows.append((domain, key, self._arrival, encoded, size))
        self._arrival += 1
        self._bytes += len(key) + len(encoded) + _OVERHEAD
        if self._bytes >= SPILL_BYTES:
            self._spill()

    def _spill(self) -> None:
        if self._file is None:
            self._file = ScratchFile()
        self._rows.sort()
        run = []
        for at in range(0, len(self._rows), _BATCH):
            plain = msgspec.msgpack.encode(self._rows[at : at + _BATCH])
            run.append((self._file.put([plain]), len(plain)))
        self._runs.append(run)
        self._rows, self._bytes = [], 0

    def __iter__(self) -> Iterator[SortedEntry]:
        self._rows.sort()
        runs = [self._read(run) for run in self._runs]
        return heapq.merge(*runs, iter(self._rows))

    def _read(self, run: list[tuple[int, int]]) -> Iterator[SortedEntry]:
        assert self._file is not None
        for start, length in run:
            yield from _rows.decode(self._file.get(start, length))

    def close(self) -> None:
        """Free memory and the temporary file."""
        self._rows = []
        if self._file is not None:
            self._file.close()
