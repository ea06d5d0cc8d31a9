"""
A compact table of where chunks lie: at most 48 bytes a chunk, found in microseconds.

A record is the whole chunk id and thirteen bytes that say which pack and where
in it, or which part of which bundle. Bundles, and the few blobs whose numbers
do not fit into thirteen bytes, have records of their own beside.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from ...errors import DamagedData
from ..format.pack import MEMBER, BlobRow
from .records import RecordTable
from .refs import PackRefs
from .segment import Blob, Place, rows_of

__all__ = ["MEMORY_BYTES", "PlaceTable"]

MEMORY_BYTES: Final = 256 << 20
"""Records beyond so much lie in a scratch file."""

_ID: Final = 32
_PLACE_BYTES: Final = 13
_RECORD_BYTES: Final = _ID + _PLACE_BYTES
# A blob's place, from the high bits: 0, pack 27, offset 26, stored 23, plain 23, codec 1, kind 3.
_PACK_BITS: Final = 27
_OFFSET_BITS: Final = 26
_SIZE_BITS: Final = 23
_SIZES: Final = (1 << _SIZE_BITS) - 1
_KIND_BITS: Final = 4
# A part's: 1, number of the blob beside 31, start 32, length 32, zeros 8.
_PART: Final = 1 << 103
_PLACE_HEAD: Final = struct.Struct(">I")
_PART_HEAD: Final = 1 << 31
_PART_PAD: Final = 8
_BESIDE: Final = struct.Struct("<32sIQIIBB")
"""A blob beside the table: id, pack, offset, stored, plain, codec, kind."""
_BATCH: Final = 4096


class PlaceTable:
    """
    The places of one domain's chunks. Thread-safe.

    Args:
        memory_bytes: More records than fit into so much lie in a scratch file.
    """

    __slots__ = ("_beside", "_firsts", "_last", "_next", "_records", "_sources")

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self._records = RecordTable(_RECORD_BYTES, memory_bytes)
        self._beside = bytearray()
        # Packs are numbered through: a segment's, once for each generation that it has.
        self._firsts: list[int] = []
        self._sources: list[tuple[PackRefs, int]] = []
        self._next = 0
        self._last = (-1, b"")
        """The pack that was asked for last: number and name."""

    def __len__(self) -> int:
        """Give how many places are held; a chunk may have several."""
        return len(self._records)

    @property
    def memory_bytes(self) -> int:
        """Memory of all that it holds, but for the names of packs, which segments hold."""
        return self._records.memory_bytes + self._beside.__sizeof__()

    @property
    def mapped_bytes(self) -> int:
        """What of it is mapped."""
        return self._records.mapped_bytes

    @property
    def file_bytes(self) -> int:
        """Length of its scratch file."""
        return self._records.file_bytes

    def close(self) -> None:
        """Free memory and the scratch file; nothing is found any more."""
        self._records.close()
        self._beside = bytearray()

    # ---- adding

    def expect(self, count: int) -> None:
        """Make an empty table ready for so many chunks."""
        self._records.expect(count)

    def add(self, packs: PackRefs, base: int, generation: int, plain: bytes) -> None:
        """
        Add the chunks of an opened index block; call :meth:`settle` after the last block.

        Args:
            packs: Of the segment.
            base: Number of the block's first pack among them.

        Raises:
            DamagedData: The block does not fit itself, or names a pack that is
                not there. Some of it may have been added.
            StoreError: The scratch file cannot be written.
        """
        if not self._sources or self._sources[-1] != (packs, generation):
            self._firsts.append(self._next)
            self._sources.append((packs, generation))
            self._next += len(packs)
        records = self._encoded(packs, base, plain)
        while batch := list(islice(records, _BATCH)):
            self._records.extend(batch)

    def settle(self) -> None:
        """Sort in what was added; StoreError where the scratch file cannot be written."""
        self._records.settle()

    def _encoded(self, packs: PackRefs, base: int, plain: bytes) -> Iterator[bytes]:
        """Yield the records of a block."""
        first = self._firsts[-1] + base
        for row, front, members in rows_of(plain, packs, base):
            offset, pack = front.length + row.offset, first + row.pack
            if members:
                yield from self._parts(row, offset, pack, members)
            elif (
                (row.plain | row.stored) >> _SIZE_BITS
                or offset >> _OFFSET_BITS
                or pack >> _PACK_BITS
            ):
                yield self._part(row.id, self._put_beside(row, offset, pack), 0, row.plain)
            else:
                place = (pack << _OFFSET_BITS | offset) << _SIZE_BITS | row.stored
                place = (place << _SIZE_BITS | row.plain) << _KIND_BITS | row.codec << 3 | row.kind
                yield row.id + place.to_bytes(_PLACE_BYTES, "big")

    def _parts(self, row: BlobRow, offset: int, pack: int, members: bytes) -> Iterator[bytes]:
        parts = list(MEMBER.iter_unpack(members))
        if sum(length for _, length in parts) != row.plain:
            raise DamagedData("the members of a bundle do not fill it")
        number, start = self._put_beside(row, offset, pack), 0
        for chunk_id, length in parts:
            yield self._part(chunk_id, number, start, length)
            start += length

    def _part(self, chunk_id: bytes, number: int, start: int, length: int) -> bytes:
        place = ((number << 32 | start) << 32 | length) << _PART_PAD | _PART
        return chunk_id + place.to_bytes(_PLACE_BYTES, "big")

    def _put_beside(self, row: BlobRow, offset: int, pack: int) -> int:
        number = len(self._beside) // _BESIDE.size
        self._beside += _BESIDE.pack(
            row.id, pack, offset, row.stored, row.plain, row.codec, row.kind
        )
        return number

    # ---- looking up

    def find(self, chunk_id: bytes) -> list[Place]:
        """Give the places of a chunk, mostly in the order in which they were added."""
        return [self._decode(record) for record in self._records.matching(chunk_id)]

    def first_pack(self, chunk_id: bytes) -> bytes | None:
        """Give the short name of the pack of the first of :meth:`find`, or None, for less."""
        return self._pack_of(self._records.first(chunk_id))

    def first_packs(self, chunk_ids: Sequence[bytes]) -> list[bytes | None]:
        """Give :meth:`first_pack` of many chunks; a scratch file is gone through once."""
        return list(map(self._pack_of, self._records.firsts(chunk_ids)))

    def _pack_of(self, record: bytes | None) -> bytes | None:
        if record is None:
            return None
        number: int = _PLACE_HEAD.unpack_from(record, _ID)[0]
        if number < _PART_HEAD:
            number >>= 31 - _PACK_BITS
        else:
            number = self._blob_beside(number & ~_PART_HEAD)[1]
        # Who asks for many chunks asks for many of one pack.
        known, name = self._last
        if number != known:
            name = self._source(number)[0]
            self._last = (number, name)
        return name

    def _decode(self, record: bytes) -> Place:
        place = int.from_bytes(record[_ID:], "big")
        if place & _PART:
            place = (place ^ _PART) >> _PART_PAD
            blob = self._blob(*self._blob_beside(place >> 64))
            return Place(blob, place >> 32 & 0xFFFFFFFF, place & 0xFFFFFFFF)
        kind, codec, place = place & 7, place >> 3 & 1, place >> _KIND_BITS
        plain, place = place & _SIZES, place >> _SIZE_BITS
        stored, place = place & _SIZES, place >> _SIZE_BITS
        offset, pack = place & (1 << _OFFSET_BITS) - 1, place >> _OFFSET_BITS
        return Place(self._blob(record[:_ID], pack, offset, stored, plain, codec, kind), 0, plain)

    def _blob_beside(self, number: int) -> tuple[bytes, int, int, int, int, int, int]:
        return _BESIDE.unpack_from(self._beside, number * _BESIDE.size)

    def _blob(
        self, blob_id: bytes, pack: int, offset: int, stored: int, plain: int, codec: int, kind: int
    ) -> Blob:
        name, generation = self._source(pack)
        return Blob(name, offset, stored, plain, codec, kind, generation, blob_id)

    def _source(self, number: int) -> tuple[bytes, int]:
        """Give the pack and the generation that a number stands for."""
        at = bisect_right(self._firsts, number) - 1
        packs, generation = self._sources[at]
        return packs.name(number - self._firsts[at]), generation
