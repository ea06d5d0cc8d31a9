"""The packs that a segment names, as compact as they were read: 68 bytes each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, overload

from ..format.pack import PACK_REF, PackFront

__all__ = ["PackRefs"]

_NAME: Final = 32


class PackRefs(Sequence[PackFront]):
    """
    A sequence of packs that makes each front when asked for it.

    Args:
        joined: As in :class:`~..format.pack.IndexDirectory`, whole references only.
    """

    __slots__ = ("_joined",)

    def __init__(self, joined: bytes) -> None:
        self._joined = joined

    @classmethod
    def of(cls, packs: Iterable[PackFront]) -> PackRefs:
        """Gather fronts."""
        return cls(b"".join(PACK_REF.pack(p.name[1:], p.length, p.hash) for p in packs))

    def __len__(self) -> int:
        return len(self._joined) // PACK_REF.size

    def __iter__(self) -> Iterator[PackFront]:
        for digest, length, hash_ in PACK_REF.iter_unpack(self._joined):
            yield PackFront(b"p" + digest, length, hash_)

    @overload
    def __getitem__(self, number: int) -> PackFront: ...
    @overload
    def __getitem__(self, number: slice) -> PackRefs: ...
    def __getitem__(self, number: int | slice) -> PackFront | PackRefs:
        if isinstance(number, slice):
            return PackRefs.of(list(self)[number])
        index = range(len(self))[number]
        digest, length, hash_ = PACK_REF.unpack_from(self._joined, index * PACK_REF.size)
        return PackFront(b"p" + digest, length, hash_)

    def name(self, number: int) -> bytes:
        """Give the short name of a pack, for less."""
        at = number * PACK_REF.size
        return b"p" + self._joined[at : at + _NAME]
