"""
Records of one width, found by the 32-byte id that they begin with.

Ids are keyed hashes and so spread evenly: the first bits of an id say in
which part its records lie, the next ones in which bucket of the part. A part
is one exact piece of memory, or of a scratch file where the table outgrows
its share of memory; a few later records lie beside it, in order of arrival.
"""

from __future__ import annotations

import mmap
import struct
import threading
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from .scratch import TAG_BYTES, ScratchFile

__all__ = ["RecordTable"]

_HEAD: Final = struct.Struct(">I")
_HEAD_BITS: Final = 32
_MAX_BITS: Final = 16
"""Parts are told apart by at most the first two bytes of an id."""
PART_ROWS: Final = 16_384
"""A part with more is split in two."""
_BUCKET_ROWS: Final = 16
_MAX_BUCKET_BITS: Final = 10
TAIL_ROWS: Final = 64
"""So many records of a part may lie beside it, to be searched one by one."""
SPILL_ROWS: Final = 64
"""So many for each part wait in memory to be sorted in; 100 bytes each."""
_MIN_SPILL_ROWS: Final = 1 << 16
_SPARE_BYTES: Final = 64 << 20
"""What is no longer used may take so much of a scratch file beside as much as what is."""
_MAX_EXPECTED: Final = 1 << 27
"""Whoever says that he has more costs no more memory than that."""
_MAPPED_BYTES: Final = 128 << 10
"""Memory from here on is mapped, so that not an allocator decides what it costs."""


class _Part:
    """The records whose ids begin with the same bits."""

    __slots__ = (
        *("at", "bits", "data", "file", "fresh", "mask", "plain", "settled"),
        *("shift", "spill", "spilled", "starts", "tail"),
    )

    def __init__(self, bits: int, buckets: int = 0) -> None:
        self.bits = bits
        self.shift = _HEAD_BITS - bits - buckets
        """The first 32 bits of an id, shifted and masked, say in which bucket it lies."""
        self.mask = (1 << buckets) - 1
        self.starts = array("I", (0, 0))
        """Number of the first record of each bucket, and how many there are."""
        self.data: bytes | mmap.mmap = b""
        """The sorted records."""
        self.file: ScratchFile | None = None
        """Where they lie if not in ``data``, from ``at``, each bucket a piece."""
        self.at = 0
        self.tail = b""
        """Later records in order of arrival."""
        self.spilled = array("Q")
        """Where still later ones lie until they are sorted in: start, length, start, and so on."""
        self.spill: ScratchFile | None = None
        self.fresh: list[bytes] = []
        """Those that came last."""
        self.settled = True
        """Whether all are where they are looked for: in buckets and tail."""
        self.plain = True
        """Whether all are in ``data``."""

    def bucket(self, number: int, width: int) -> bytes:
        """Give the records of a bucket."""
        first, last = self.starts[number], self.starts[number + 1]
        if self.file is None:
            return self.data[width * first : width * last]
        return self.file.get(self.at + width * first + TAG_BYTES * number, width * (last - first))

    def rows(self, width: int) -> Iterator[bytes]:
        """Yield all of its records, the sorted ones first."""
        for number in range(self.mask + 1):
            yield from _cut(self.bucket(number, width), width)
        yield from _cut(self.tail, width)
        if self.spill is not None:
            for start, length in zip(self.spilled[::2], self.spilled[1::2], strict=True):
                yield from _cut(self.spill.get(start, length), width)
        yield from self.fresh

    def join(self) -> None:
        """Put what came last where it is looked for."""
        self.tail += b"".join(self.fresh)
        self.fresh, self.settled, self.plain = [], True, False

    @property
    def memory_bytes(self) -> int:
        """Memory of its records and of what finds them."""
        size = self.__sizeof__() + self.starts.__sizeof__()
        size += self.tail.__sizeof__() + self.fresh.__sizeof__()
        size += sum(map(bytes.__sizeof__, self.fresh))
        if isinstance(self.data, bytes):
            size += self.data.__sizeof__()
        return size + self.mapped_bytes

    @property
    def mapped_bytes(self) -> int:
        """What of it is mapped: whole pages."""
        if isinstance(self.data, bytes):
            return 0
        return -(-len(self.data) // mmap.PAGESIZE) * mmap.PAGESIZE


class RecordTable:
    """
    A multimap from ids to records that begin with them. Thread-safe.

    Args:
        width: Bytes of a record, id included.
        memory_bytes: If there are more, :meth:`settle` moves all of them to a
            scratch file; what stays in memory are half a byte a record and
            what lies beside the parts.

    Cost: a look-up searches some 12 records; from a file, it reads and opens them.
    """

    __slots__ = (*("_count", "_directory", "_file", "_fresh", "_limit", "_lock", "_width"),)

    def __init__(self, width: int, memory_bytes: int) -> None:
        self._width = width
        self._limit = memory_bytes
        self._lock = threading.Lock()
        self._file: ScratchFile | None = None
        self._clear()

    def _clear(self) -> None:
        # Both change at once.
        self._directory = (_HEAD_BITS, [_Part(0)])
        """
        How far to shift the first 32 bits of an id, and parts by what is left of it:
        each once for every value that it covers.
        """
        self._count = 0
        self._fresh = 0

    def __len__(self) -> int:
        """Give how many records there are."""
        return self._count

    @property
    def memory_bytes(self) -> int:
        """Memory of all records and of what finds them."""
        with self._lock:
            held = sum(part.memory_bytes for part in self._distinct())
            return held + self._directory[1].__sizeof__()

    @property
    def mapped_bytes(self) -> int:
        """What of it is mapped."""
        with self._lock:
            return sum(part.mapped_bytes for part in self._distinct())

    @property
    def file_bytes(self) -> int:
        """Length of the scratch file."""
        return 0 if self._file is None else len(self._file)

    def close(self) -> None:
        """Forget everything and free the scratch file."""
        with self._lock:
            self._clear()
            if self._file is not None:
                self._file.close()
                self._file = None

    # ---- looking up

    def matching(self, key: bytes) -> list[bytes]:
        """Give all records of an id; DamagedData if the scratch file was altered."""
        with self._lock:
            head: int = _HEAD.unpack_from(key)[0]
            part = self._settled(head)
            records = part.bucket(head >> part.shift & part.mask, self._width)
            return [*_matches(records, key, self._width), *_matches(part.tail, key, self._width)]

    def first(self, key: bytes) -> bytes | None:
        """Give the first of :meth:`matching`, or None."""
        # Nearly all look-ups end here. What lies in memory is never changed, only replaced,
        # so it is read without the lock, by one call and not by three.
        shift, parts = self._directory
        head: int = _HEAD.unpack_from(key)[0]
        part = parts[head >> shift]
        if part.plain:
            number, starts, width = head >> part.shift & part.mask, part.starts, self._width
            records = part.data[starts[number] * width : starts[number + 1] * width]
            at = records.find(key)
            if at < 0:
                return None
            if at % width == 0:
                return records[at : at + width]
        return next(iter(self.matching(key)), None)

    def firsts(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Give :meth:`first` of many ids; a file is gone through once, in its order."""
        if self._file is None:
            return list(map(self.first, keys))
        found: list[bytes | None] = [None] * len(keys)
        for number in sorted(range(len(keys)), key=keys.__getitem__):
            found[number] = self.first(keys[number])
        return found

    def _settled(self, head: int) -> _Part:
        """Give the part of an id, whatever has been added to it."""
        shift, parts = self._directory
        part = parts[head >> shift]
        if part.spilled:
            self._pour(part)
            return self._settled(head)
        if not part.settled:
            part.join()
        return part

    # ---- adding

    def expect(self, count: int) -> None:
        """Make an empty table ready for so many records, which then need not be moved again."""
        with self._lock:
            if self._count == 0:
                bits = min((min(count, _MAX_EXPECTED) // PART_ROWS).bit_length(), _MAX_BITS)
                self._directory = (_HEAD_BITS - bits, [_Part(bits) for _ in range(1 << bits)])

    def extend(self, records: Iterable[bytes]) -> None:
        """
        Add records; call :meth:`settle` after the last ones.

        Raises:
            StoreError: The scratch file cannot be written. What was there is
                there still, but some of *records* may be.
        """
        with self._lock:
            (shift, parts), count = self._directory, 0
            for record in records:
                parts[_HEAD.unpack_from(record)[0] >> shift].fresh.append(record)
                count += 1
            self._count += count
            self._fresh += count
            grown = [part for part in self._distinct() if part.fresh]
            for part in grown:
                part.settled = part.plain = False
            for part in grown:
                # Each record is moved some three times in all.
                if not part.spilled and len(part.fresh) > max(PART_ROWS, part.starts[-1]) // 2:
                    self._pour(part)
            if self._fresh > max(SPILL_ROWS * len(parts), _MIN_SPILL_ROWS):
                self._spill()

    def settle(self) -> None:
        """
        Sort in what was added, and move all to where it should lie.

        Raises:
            StoreError: The scratch file cannot be written; nothing is lost.
        """
        with self._lock:
            size = self._count * self._width
            on_disk, old = size > self._limit, self._file
            parts = list(self._distinct())
            # Where much is to be written anew all is: nothing else frees the room.
            anew = (
                on_disk != (old is not None)
                or any(part.spilled for part in parts)
                or self.file_bytes > 2 * size + _SPARE_BYTES
            )
            if anew:
                self._file = ScratchFile() if on_disk else None
            for part in parts:
                if anew or len(part.fresh) + len(part.tail) // self._width > TAIL_ROWS:
                    self._pour(part)
                elif part.fresh:
                    part.join()
            self._fresh = 0
            if anew and old is not None:
                old.close()

    def _distinct(self) -> Iterator[_Part]:
        last = None
        for part in self._directory[1]:
            if part is not last:
                last = part
                yield part

    def _spill(self) -> None:
        """Write out what came last, as it came."""
        if self._file is None:
            self._file = ScratchFile()
        for part in self._distinct():
            if part.fresh:
                data = b"".join(part.fresh)
                part.spill = self._file
                part.spilled.extend((self._file.put([data]), len(data)))
                part.fresh = []
        self._fresh = 0

    def _pour(self, part: _Part) -> None:
        """Sort all records of a part, and split it where it has grown too large."""
        rows = sorted(part.rows(self._width))
        shift, parts = self._directory
        first = parts.index(part) >> (_HEAD_BITS - shift - part.bits)
        # Nothing is replaced before all is written.
        made = [
            (self._made(share, prefix, bits), prefix)
            for share, prefix, bits in _shares(rows, first, part.bits)
        ]
        self._fresh -= len(part.fresh)
        deeper = max(new.bits for new, _ in made) - (_HEAD_BITS - shift)
        if deeper > 0:
            shift, parts = shift - deeper, [old for old in parts for _ in range(1 << deeper)]
            self._directory = (shift, parts)
        for new, prefix in made:
            slots = 1 << (_HEAD_BITS - shift - new.bits)
            parts[prefix * slots : (prefix + 1) * slots] = [new] * slots

    def _made(self, rows: list[bytes], prefix: int, bits: int) -> _Part:
        buckets = min((len(rows) // _BUCKET_ROWS).bit_length(), _MAX_BUCKET_BITS)
        part = _Part(bits, buckets)
        first = prefix << buckets
        bounds = [
            bisect_left(rows, (first + number << part.shift).to_bytes(4, "big"))
            for number in range(1, 1 << buckets)
        ]
        part.starts = array("I", (0, *bounds, len(rows)))
        if self._file is None:
            part.data = _exact(b"".join(rows))
        else:
            part.file, part.plain = self._file, False
            pieces = zip((0, *bounds), (*bounds, len(rows)), strict=True)
            part.at = self._file.put([b"".join(rows[start:end]) for start, end in pieces])
        return part


def _shares(rows: list[bytes], prefix: int, bits: int) -> Iterator[tuple[list[bytes], int, int]]:
    """Halve sorted records that begin with *prefix* until no share is too large."""
    if len(rows) <= PART_ROWS or bits == _MAX_BITS:
        yield rows, prefix, bits
        return
    middle = (2 * prefix + 1) << (_MAX_BITS - bits - 1)
    half = bisect_left(rows, middle.to_bytes(2, "big"))
    yield from _shares(rows[:half], 2 * prefix, bits + 1)
    yield from _shares(rows[half:], 2 * prefix + 1, bits + 1)


def _exact(data: bytes) -> bytes | mmap.mmap:
    """Keep bytes in memory that costs what they take."""
    if len(data) < _MAPPED_BYTES:
        return data
    mapped = mmap.mmap(-1, len(data), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    mapped[:] = data
    return mapped


def _cut(records: bytes, width: int) -> Iterator[bytes]:
    return (records[at : at + width] for at in range(0, len(records), width))


def _matches(records: bytes, key: bytes, width: int) -> Iterator[bytes]:
    at = records.find(key)
    while at >= 0:
        # Bytes that look like the id may stand across two records.
        if at % width == 0:
            yield records[at : at + width]
        at = records.find(key, at + 1)
