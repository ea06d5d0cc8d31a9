"""Where a file has data: the holes of a sparse file are neither read nor stored."""

from __future__ import annotations

import errno
import heapq
import os
from collections.abc import Iterator
from typing import Final, TypeAlias

__all__ = ["MAX_EXTENTS", "Extents", "cut_extents", "data_extents"]

Extents: TypeAlias = list[tuple[int, int]]
"""(offset, length) in bytes, ascending, not touching."""

MAX_EXTENTS: Final = 8192
"""An entry names so many; its size in a stream stays bounded by that."""

_UNTOLD: Final = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOTTY})


def data_extents(fd: int, size_bytes: int) -> Extents | None:
    """
    Give the extents of data in the first *size_bytes* of a file.

    None where nothing is a hole, or the file system does not tell. Where a
    file has more than ``MAX_EXTENTS``, its smallest holes count as data.

    Cost: two system calls an extent; memory for ``MAX_EXTENTS`` of them.
    """
    largest: list[tuple[int, int]] = []
    try:
        for start, end in _holes(fd, size_bytes):
            hole = end - start, start
            if len(largest) < MAX_EXTENTS - 1:
                heapq.heappush(largest, hole)
            else:
                heapq.heappushpop(largest, hole)
    except OSError as exc:
        if exc.errno not in _UNTOLD:
            raise
        return None
    if not largest:
        return None
    extents, at = [], 0
    for start, length in sorted((start, length) for length, start in largest):
        if start > at:
            extents.append((at, start - at))
        at = start + length
    if at < size_bytes:
        extents.append((at, size_bytes - at))
    return extents


def _holes(fd: int, size_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of each hole, ascending."""
    at = 0
    while at < size_bytes:
        data = _seek(fd, at, os.SEEK_DATA, size_bytes)
        if data > at:
            yield at, data
        at = _seek(fd, data, os.SEEK_HOLE, size_bytes)


def _seek(fd: int, at: int, whence: int, size_bytes: int) -> int:
    """Seek, but not beyond *size_bytes*; behind the last data there is its end."""
    try:
        return min(os.lseek(fd, at, whence), size_bytes)
    except OSError as exc:
        # Either the rest is one hole, or the file was cut short a moment ago.
        if exc.errno != errno.ENXIO:
            raise
        return size_bytes


def cut_extents(extents: Extents, count_bytes: int) -> Extents:
    """Give the part of *extents* that holds their first *count_bytes* of data."""
    kept = []
    for offset, length in extents:
        if count_bytes <= 0:
            break
        kept.append((offset, min(length, count_bytes)))
        count_bytes -= length
    return kept
