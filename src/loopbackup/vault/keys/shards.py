"""
Keyring shards: sorted tables of domain records that are searched in place.

A vault has 256 home shards and 16 young ones. New domains go into a young
shard; when all young ones are full they are spread to their homes in one go,
so that adding a few subjects to a vault of a million writes under 1 MB.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final

from attrs import define, field

from ...errors import DamagedData
from ..format import codec
from ..format.codec import little
from .domains import DomainRecord

__all__ = ["HOMES", "SHARDS", "YOUNG", "YOUNG_LIMIT_BYTES", "Shard", "ShardRow"]

HOMES: Final = 256
YOUNG: Final = range(256, 272)
SHARDS: Final = 272
YOUNG_LIMIT_BYTES: Final = 1 << 20
_COUNT: Final = struct.Struct("<I")
_ID: Final = 16

ShardRow = tuple[int, bytes, bytes]
"""(search tag, domain id, encoded record)."""


@define
class Shard:
    """
    One shard, opened: u32 count, tags (u64, ascending), ends (u32), rows.

    A row is a 16-byte domain id and a msgpack :class:`DomainRecord`. Memory:
    the payload itself; an index by id (about 100 bytes a row) when asked for.
    """

    payload: bytes
    _tags: array[int] = field(init=False)
    _ends: array[int] = field(init=False)
    _base: int = field(init=False)
    _by_id: dict[bytes, int] | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        view = memoryview(self.payload)
        if len(view) < _COUNT.size:
            raise DamagedData("a keyring shard is cut short")
        (count,) = _COUNT.unpack_from(view)
        ends = _COUNT.size + 8 * count
        self._base = ends + 4 * count
        if self._base > len(view):
            raise DamagedData("a keyring shard is cut short")
        self._tags = little("Q", view[_COUNT.size : ends])
        self._ends = little("I", view[ends : self._base])
        ends_in_order = all(end - start >= _ID for start, end in pairwise((0, *self._ends)))
        if not ends_in_order or self._base + (self._ends[-1] if count else 0) != len(view):
            raise DamagedData("a keyring shard does not fit its table")

    @classmethod
    def build(cls, rows: Iterable[ShardRow]) -> Shard:
        """Make a shard of *rows*, in any order."""
        ordered = sorted(rows, key=lambda row: row[0])
        ends, at = [], 0
        for _, domain_id, record in ordered:
            at += len(domain_id) + len(record)
            ends.append(at)
        count = len(ordered)
        payload = b"".join(
            [
                struct.pack(f"<I{count}Q", count, *(row[0] for row in ordered)),
                struct.pack(f"<{count}I", *ends),
                *(part for row in ordered for part in row[1:]),
            ]
        )
        return cls(payload)

    def __len__(self) -> int:
        return len(self._tags)

    def rows(self) -> Iterator[ShardRow]:
        """Yield all rows, by ascending tag."""
        start = 0
        for tag, end in zip(self._tags, self._ends, strict=True):
            row = self.payload[self._base + start : self._base + end]
            yield tag, row[:16], row[16:]
            start = end

    def _row(self, number: int) -> tuple[bytes, DomainRecord]:
        start = self._ends[number - 1] if number else 0
        row = self.payload[self._base + start : self._base + self._ends[number]]
        return row[:16], codec.decode(row[16:], DomainRecord)

    def find(self, tag: int, label: list[str]) -> tuple[bytes, DomainRecord] | None:
        """Find a domain by its subject."""
        return next(self.find_all(tag, label), None)

    def find_all(self, tag: int, label: list[str]) -> Iterator[tuple[bytes, DomainRecord]]:
        """Find all domains of a subject: two writers may each have made one."""
        number = bisect_left(self._tags, tag)
        while number < len(self._tags) and self._tags[number] == tag:
            domain_id, record = self._row(number)
            if record.label == label:
                yield domain_id, record
            number += 1

    def find_id(self, domain_id: bytes) -> DomainRecord | None:
        """Find a domain by its id."""
        if self._by_id is None:
            starts = [0, *self._ends[:-1]] if len(self) else []
            self._by_id = {
                self.payload[self._base + start : self._base + start + 16]: number
                for number, start in enumerate(starts)
            }
        number = self._by_id.get(domain_id)
        return None if number is None else self._row(number)[1]
