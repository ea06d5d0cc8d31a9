"""
A compact table of where chunks lie: 48 bytes a chunk, found in about a microsecond.

Records of one width lie in buckets by the first bits of the chunk id, which is
a keyed hash and so spreads evenly. A bucket is searched as bytes: there is
nothing to sort, and adding a segment moves nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from .segment import Blob, Place, places_of

__all__ = ["PlaceTable"]

_RECORD: Final = struct.Struct("<32sIIII")
"""A blob: id, pack, offset, stored length, plain length. A part: id, bundle, start, length, 0."""
_ID: Final = 32
_NUMBER: Final = struct.Struct("<I")
_PART: Final = 1 << 31
"""Set where the number is that of a bundle, not of a pack."""
_SHIFT: Final = 28
"""No pack is longer than 2**28 bytes, so codec and kind fit above the lengths."""
_MASK: Final = (1 << _SHIFT) - 1
_ROWS_A_BUCKET: Final = 128
_MAX_BITS: Final = 16
_BITS_A_STEP: Final = 4


class PlaceTable:
    """
    The places of one domain's chunks, in the order in which they were added.

    May be read from many threads while one adds.
    """

    __slots__ = ("_buckets", "_bundles", "_count", "_full", "_numbers", "_packs")

    def __init__(self) -> None:
        # Both change at once where the table grows.
        self._buckets: tuple[int, list[bytearray]] = (_MAX_BITS, [bytearray()])
        self._full = _ROWS_A_BUCKET
        self._bundles = bytearray()
        self._packs: list[tuple[bytes, int]] = []
        self._numbers: dict[tuple[bytes, int], int] = {}
        self._count = 0

    def __len__(self) -> int:
        """Give how many places are held; a chunk may have several."""
        return self._count

    @property
    def size_bytes(self) -> int:
        """Memory of the records, with the spare room of their buckets."""
        return self._bundles.__sizeof__() + sum(b.__sizeof__() for b in self._buckets[1])

    def add(self, blob: Blob, members: bytes) -> None:
        """
        Add the chunks of a blob.

        Raises:
            DamagedData: The members do not fill the bundle.
        """
        if not members:
            self._bucket(blob.id).extend(self._encode(blob))
            self._count += 1
            if self._count > self._full:
                self._grow()
            return
        parts = list(places_of(blob, members))
        number = _PART | len(self._bundles) // _RECORD.size
        self._bundles += self._encode(blob)
        for chunk_id, place in parts:
            record = _RECORD.pack(chunk_id, number, place.start, place.length, 0)
            self._bucket(chunk_id).extend(record)
        self._count += len(parts)
        if self._count > self._full:
            self._grow()

    def _grow(self) -> None:
        """Spread the records over more buckets; each is moved a few times in all."""
        shift, old = self._buckets
        if not shift:
            return
        shift -= _BITS_A_STEP
        new = [bytearray() for _ in range(len(old) << _BITS_A_STEP)]
        for bucket in old:
            for at in range(0, len(bucket), _RECORD.size):
                number = (bucket[at] << 8 | bucket[at + 1]) >> shift
                new[number] += bucket[at : at + _RECORD.size]
        self._buckets = (shift, new)
        self._full = _ROWS_A_BUCKET * len(new)

    def first_pack(self, chunk_id: bytes) -> bytes | None:
        """Give the short name of the pack of the first place, or None; a third of the cost."""
        bucket = self._bucket(chunk_id)
        at = bucket.find(chunk_id)
        if at < 0:
            return None
        if at % _RECORD.size:
            place = next(self.find(chunk_id), None)
            return None if place is None else place.blob.pack
        number: int = _NUMBER.unpack_from(bucket, at + _ID)[0]
        if number & _PART:
            number = _NUMBER.unpack_from(self._bundles, (number & ~_PART) * _RECORD.size + _ID)[0]
        return self._packs[number][0]

    def find(self, chunk_id: bytes) -> Iterator[Place]:
        """Yield the places of a chunk, the first one added first."""
        bucket = self._bucket(chunk_id)
        at = bucket.find(chunk_id)
        while at >= 0:
            # Bytes that look like the id may stand across two records.
            if at % _RECORD.size == 0:
                yield self._decode(bucket, at)
            at = bucket.find(chunk_id, at + 1)

    def _bucket(self, chunk_id: bytes) -> bytearray:
        shift, buckets = self._buckets
        return buckets[(chunk_id[0] << 8 | chunk_id[1]) >> shift]

    def _encode(self, blob: Blob) -> bytes:
        key = (blob.pack, blob.generation)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._packs)
            self._packs.append(key)
        stored = blob.stored | blob.codec << _SHIFT
        plain = blob.plain | blob.kind << _SHIFT
        return _RECORD.pack(blob.id, number, blob.offset, stored, plain)

    def _decode(self, records: bytearray, at: int) -> Place:
        chunk_id, number, first, second, third = _RECORD.unpack_from(records, at)
        if not number & _PART:
            blob = self._blob(chunk_id, number, first, second, third)
            return Place(blob, 0, blob.plain)
        bundle = (number & ~_PART) * _RECORD.size
        return Place(self._blob(*_RECORD.unpack_from(self._bundles, bundle)), first, second)

    def _blob(self, blob_id: bytes, number: int, offset: int, stored: int, plain: int) -> Blob:
        pack, generation = self._packs[number]
        return Blob(
            pack,
            offset,
            stored & _MASK,
            plain & _MASK,
            stored >> _SHIFT,
            plain >> _SHIFT,
            generation,
            blob_id,
        )
