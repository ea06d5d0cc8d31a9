"""
Sorting entries that come in any order, in bounded memory.

Sorted runs are spilled to an anonymous temporary file, encrypted under a key
that lives in memory only: no name may reach a disk in clear.
"""

from __future__ import annotations

import heapq
import os
import tempfile
from collections.abc import Iterator
from typing import IO, Final

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

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
        self._file: IO[bytes] | None = None
        self._runs: list[list[tuple[int, int]]] = []
        self._aead = AESGCM(AESGCM.generate_key(bit_length=256))
        self._counter = 0

    def add(self, domain: bytes, key: bytes, encoded: bytes, size: int) -> None:
        """Add one encoded entry."""
        self._rows.append((domain, key, self._arrival, encoded, size))
        self._arrival += 1
        self._bytes += len(key) + len(encoded) + _OVERHEAD
        if self._bytes >= SPILL_BYTES:
            self._spill()

    def _spill(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._rows.sort()
        run = []
        for at in range(0, len(self._rows), _BATCH):
            plain = msgspec.msgpack.encode(self._rows[at : at + _BATCH])
            self._counter += 1
            nonce = self._counter.to_bytes(12, "big")
            data = nonce + self._aead.encrypt(nonce, plain, None)
            run.append((self._file.seek(0, os.SEEK_END), len(data)))
            self._file.write(data)
        self._runs.append(run)
        self._rows, self._bytes = [], 0

    def __iter__(self) -> Iterator[SortedEntry]:
        self._rows.sort()
        runs = [self._read(run) for run in self._runs]
        return heapq.merge(*runs, iter(self._rows))

    def _read(self, run: list[tuple[int, int]]) -> Iterator[SortedEntry]:
        assert self._file is not None
        for start, length in run:
            self._file.seek(start)
            data = self._file.read(length)
            yield from _rows.decode(self._aead.decrypt(data[:12], data[12:], None))

    def close(self) -> None:
        """Free memory and the temporary file."""
        self._rows = []
        if self._file is not None:
            self._file.close()
