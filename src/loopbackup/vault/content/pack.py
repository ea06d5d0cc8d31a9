"""Building a pack in memory: blobs are encrypted straight into its buffer."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from typing import Final

from attrs import define, field, frozen
from blake3 import blake3

from ..format import names, seal
from ..format import pack as fmt
from ..format.pack import MEMBER, Block, PackDirectory, PackFront
from ..keys.domains import Domain

__all__ = ["PackBuilder", "SealedPack", "new_buffer"]

FRONT_RESERVE: Final = 1 << 20
_BLOCK_COST: Final = 16 + seal.BLOB_OVERHEAD + 32
"""Upper bound of what a block costs in a directory beside its rows."""


@define
class _Rows:
    domain: Domain
    generation: int
    rows: bytearray = field(factory=bytearray)
    members: bytearray = field(factory=bytearray)


@frozen
class SealedPack:
    """A finished pack: what it is called, its bytes, and what is in it."""

    front: PackFront
    data: memoryview
    contents: tuple[tuple[Domain, int, bytes], ...]
    """(domain, generation, plain index block)."""


def new_buffer(size: int) -> mmap.mmap:
    """
    Give memory to build a pack of *size* bytes in.

    Mapped, not a bytearray: that would be filled with zeros at once, while
    every other thread waits, and a small pack needs little of it.
    """
    return mmap.mmap(-1, FRONT_RESERVE + size)


class PackBuilder:
    """
    One open pack. Not thread-safe but for writing into reserved places.

    ``reserve`` hands out a place in the buffer; the caller encrypts into it,
    from any thread, and must be done before ``seal``.

    Args:
        size: Bytes of a full pack.
        buffer: From :func:`new_buffer`, and in no other use until the pack is put.
    """

    def __init__(self, size: int, buffer: mmap.mmap) -> None:
        self._size = size
        self.buffer = buffer
        self._used = 0
        self._directory = 32
        self._groups: dict[tuple[bytes, int], _Rows] = {}
        self.spoiled = False
        """A reserved place was never filled: the pack must not be put."""

    def __len__(self) -> int:
        return self._used

    def reserve(
        self,
        domain: Domain,
        chunk_id: bytes,
        *,
        kind: int,
        codec: int,
        stored: int,
        plain: int,
        members: Sequence[tuple[bytes, int]] = (),
    ) -> memoryview | None:
        """Give the place for a blob, or None when the pack is full."""
        length = stored + seal.BLOB_OVERHEAD
        key = (domain.id, domain.generation)
        directory = self._directory + fmt.ROW.size + MEMBER.size * len(members)
        if key not in self._groups:
            directory += _BLOCK_COST
        if fmt.front_bytes(directory) + self._used + length > self._size:
            return None
        group = self._groups.setdefault(key, _Rows(domain, domain.generation))
        group.rows += fmt.ROW.pack(
            0, chunk_id, self._used, stored, plain, len(members), codec, kind
        )
        for member in members:
            group.members += MEMBER.pack(*member)
        start = FRONT_RESERVE + self._used
        self._used += length
        self._directory = directory
        return memoryview(self.buffer)[start : start + length]

    def seal(self, index_secret: bytes, vault_id: bytes, *, last: bool) -> SealedPack:
        """
        Finish the pack: full size, or the ladder's next step for a run's last.

        What is left over is filled with random bytes, which look like blobs.
        """
        salt = os.urandom(16)
        contents = tuple(
            (group.domain, group.generation, fmt.join_block(group.rows, group.members))
            for group in self._groups.values()
        )
        blocks = [
            Block(domain.id, generation, domain.seal_block(plain, generation, salt))
            for domain, generation, plain in contents
        ]
        front = fmt.seal_front(index_secret, vault_id, PackDirectory(salt, blocks))
        used = len(front) + self._used
        total = fmt.ladder(used, self._size) if last else self._size
        if len(front) <= FRONT_RESERVE:
            view = memoryview(self.buffer)[FRONT_RESERVE - len(front) :][:total]
            view[: len(front)] = front
        else:
            blobs = memoryview(self.buffer)[FRONT_RESERVE : FRONT_RESERVE + self._used]
            view = memoryview(bytearray(total))
            view[: len(front)] = front
            view[len(front) : used] = blobs
        view[used:] = blake3(os.urandom(32)).digest(total - used)
        name = b"p" + names.content_hash(view)
        return SealedPack(PackFront(name, len(front), names.content_hash(front)), view, contents)
