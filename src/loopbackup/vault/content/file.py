"""The content of one entry as a raw file: only the chunks that are asked for are read."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from itertools import accumulate

from ...errors import DamagedData
from ..format.entries import Node
from ..keys.domains import Domain
from .streams import Chunks, read_ids

__all__ = ["ChunkFile"]


class ChunkFile(io.RawIOBase):
    """
    One entry's content; holes of a sparse file read as zeros.

    Opening reads nothing. The ids of a long file are read as far as the
    position needs them; one chunk of content is held at a time.

    Args:
        node: The entry, a file or an item.
        domain: Whose it is.
        chunks: Gives chunks by id.
        length_of: Gives the length of a chunk in bytes without reading it, or
            None where nobody knows.

    Raises:
        DamagedData: The extents of the entry do not fit its size.
    """

    def __init__(
        self,
        node: Node,
        domain: Domain,
        chunks: Chunks,
        length_of: Callable[[bytes], int | None],
    ) -> None:
        self._domain = domain
        self._chunks = chunks
        self._length_of = length_of
        self._size = node.size
        self._extents = _extents(node)
        lengths = [length for _, length in self._extents]
        # Where in the concatenated data each extent begins.
        self._data_starts = list(accumulate(lengths, initial=0))
        is_listed = node.extra is not None and node.extra.listed
        named = list(node.chunk_ids())
        # Each leaves the queue only when it is read: a store may fail, and be well again.
        self._unread_lists = deque(named if is_listed else ())
        self._ids = [] if is_listed else named
        self._starts: list[int] = [0]
        self._held: tuple[int, bytes | memoryview] = (-1, b"")
        self._at = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def tell(self) -> int:
        """Give the position in bytes."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a position; beyond the end reads give nothing."""
        bases = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}
        if whence not in bases:
            raise ValueError(f"whence is 0, 1 or 2, not {whence}")
        if bases[whence] + offset < 0:
            raise ValueError("negative position")
        self._at = bases[whence] + offset
        return self._at

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        """Read from the chunk, or the hole, at the position."""
        wanted = min(len(buffer), self._size - self._at)
        if wanted <= 0:
            return 0
        number = bisect_right(self._extents, self._at, key=lambda extent: extent[0]) - 1
        offset, length = self._extents[number] if number >= 0 else (0, 0)
        if self._at < offset + length:
            wanted = min(wanted, offset + length - self._at)
            part = self._data(self._data_starts[number] + self._at - offset, wanted)
            buffer[: len(part)] = part
            wanted = len(part)
        else:
            following = self._extents[number + 1 : number + 2]
            end = following[0][0] if following else self._size
            wanted = min(wanted, end - self._at)
            buffer[:wanted] = bytes(wanted)
        self._at += wanted
        return wanted

    def _data(self, position: int, wanted: int) -> memoryview:
        """Give at least one byte of the data at *position*, and at most *wanted*."""
        number = self._chunk_at(position)
        start = position - self._starts[number]
        part = memoryview(self._chunk(number))[start : start + wanted]
        if not part:
            # An end before the end would pass for a shorter file.
            raise DamagedData("the chunks of an entry are shorter than the entry")
        return part

    def _chunk_at(self, position: int) -> int:
        """Find the chunk of a position; lengths come from the index, not from the data."""
        while self._starts[-1] <= position:
            number = len(self._starts) - 1
            while number == len(self._ids):
                self._read_list()
            length = self._length_of(self._ids[number])
            if length is None:
                length = len(self._chunk(number))
            self._starts.append(self._starts[-1] + length)
        return bisect_right(self._starts, position) - 1

    def _read_list(self) -> None:
        if not self._unread_lists:
            raise DamagedData("the chunks of an entry are shorter than the entry")
        self._ids += read_ids(self._unread_lists[0], self._domain, self._chunks)
        self._unread_lists.popleft()

    def _chunk(self, number: int) -> bytes | memoryview:
        if self._held[0] == number:
            try:
                self._chunks.may_read(self._domain)
            except DamagedData:
                self._held = (-1, b"")
                raise
        else:
            self._held = (number, self._chunks.read(self._domain, self._ids[number]))
        return self._held[1]


def _extents(node: Node) -> list[tuple[int, int]]:
    """Give where the data of an entry lie, ascending; checked, for they come from a store."""
    if node.extra is None or node.extra.extents is None:
        return [(0, node.size)] if node.size else []
    end = 0
    for offset, length in node.extra.extents:
        if offset < end or length <= 0:
            raise DamagedData("the extents of a sparse file overlap or are out of order")
        end = offset + length
    if end > node.size:
        raise DamagedData("the extents of a sparse file go beyond its end")
    return [(offset, length) for offset, length in node.extra.extents]
