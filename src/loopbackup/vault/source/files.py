"""Reading one regular file of this machine, whole or without its holes."""

from __future__ import annotations

import os
from typing import Self

from ..format.entries import Node, clamp_ns
from .sparse import Extents

__all__ = ["FileReader", "SparseReader"]


class FileReader:
    """Read one regular file; owns the descriptor."""

    __slots__ = ("_fd", "_node")

    def __init__(self, fd: int, node: Node) -> None:
        self._fd = fd
        self._node = node

    def readinto(self, buffer: memoryview, /) -> int:
        """Read into *buffer*; 0 means the end."""
        return os.readv(self._fd, (buffer,))

    def changed(self) -> bool:
        """Tell whether the file is no longer what the scan saw."""
        now, node = os.fstat(self._fd), self._node
        return (
            now.st_size != node.size
            or clamp_ns(now.st_mtime_ns) != node.mtime_ns
            or clamp_ns(now.st_ctime_ns) != node.ctime_ns
            or now.st_ino != node.inode
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._fd)


class SparseReader(FileReader):
    """Read the data of a sparse file, one extent after the other."""

    __slots__ = ("_ahead",)

    def __init__(self, fd: int, node: Node, extents: Extents) -> None:
        super().__init__(fd, node)
        self._ahead = extents[::-1]

    def readinto(self, buffer: memoryview, /) -> int:
        """Read into *buffer*; 0 means the end of the data, or of a file cut short meanwhile."""
        if not self._ahead:
            return 0
        offset, length = self._ahead.pop()
        count = os.preadv(self._fd, (buffer[:length],), offset)
        if not count:
            self._ahead.clear()
        elif count < length:
            self._ahead.append((offset + count, length - count))
        return count
