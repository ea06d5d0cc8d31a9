"""
Segments: the pieces that the index is made of, and where they say chunks lie.

A segment is an index object, or the directory of a pack whose run needed no
more than one. Blocks are opened per domain, when that domain is asked for.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import Final, NamedTuple

from attrs import define, field

from ...errors import DamagedData, LoopbackupError, NewerFormat, NotFoundError
from ..format import names, seal
from ..format import pack as fmt
from ..format.pack import MEMBER, PACK_REF, BlobRow, IndexDirectory, PackDirectory, PackFront
from ..keys.domains import Domain
from ..ledger.values import Front
from ..store.seam import StoreSeam

__all__ = [
    "Blob",
    "Place",
    "SegmentReader",
    "blob_of",
    "build_index",
    "places_of",
    "read_front",
]

FRONT_READ: Final = 256 << 10
READ_AHEAD: Final = 1 << 20


class Blob(NamedTuple):
    """Where a blob lies: in a pack, from its first byte, and how to open it."""

    pack: bytes
    """Short name."""
    offset: int
    stored: int
    """Payload without salt and tag."""
    plain: int
    codec: int
    kind: int
    generation: int
    id: bytes

    @property
    def length(self) -> int:
        """Bytes in the pack, salt and tag included."""
        return self.stored + seal.BLOB_OVERHEAD


class Place(NamedTuple):
    """Where a chunk lies: a blob, or a part of a bundle."""

    blob: Blob
    start: int
    length: int


def read_front(
    store: StoreSeam, index_secret: bytes, vault_id: bytes, short: bytes, expected: bytes | None
) -> tuple[PackDirectory | IndexDirectory, PackFront]:
    """
    Read the directory of a pack or an index object with one range or two.

    Args:
        expected: Hash of the front, from whatever named the object; None only
            where nothing rests on what the directory says.

    Raises:
        DamagedData: It is not the front that *expected* names.
    """
    is_pack = short[:1] == b"p"
    name = names.pack_name(short[1:]) if is_pack else names.index_name(short[1:])
    start = store.get_upto(name, FRONT_READ)
    size = fmt.directory_length(index_secret, vault_id, start, pack=is_pack)
    length = fmt.HEAD_BYTES + size
    if len(start) < length:
        start += store.get(name, start=len(start), length=length - len(start))
    digest = names.content_hash(memoryview(start)[:length])
    if expected is not None and digest != expected:
        raise DamagedData("another directory stands in an object's front", object=name)
    directory = fmt.open_directory(
        index_secret, vault_id, start[fmt.HEAD_BYTES : length], pack=is_pack
    )
    return directory, PackFront(short, length, digest)


class SealedBlock(NamedTuple):
    """An index block as it lies in some object."""

    generation: int
    data: bytes
    salt: bytes
    """That of the object, which the block is bound to."""
    base: int = 0
    """Number of its first pack in :attr:`SegmentReader.packs`."""


@define
class SegmentReader:
    """One segment with its directory loaded; blocks are read when asked for."""

    short: bytes
    packs: list[PackFront]
    _store: StoreSeam
    _front: int
    _blocks: dict[bytes, list[SealedBlock]]
    _directory: IndexDirectory | None
    rebuilt: bool = False
    """The index object is gone; the directories of its packs stand in for it."""
    lost: list[DamagedData] = field(factory=list)
    """Why it does not give all that it should: what it says nothing about cannot be read."""
    _window: tuple[int, bytes] = (0, b"")

    @classmethod
    def load(
        cls,
        store: StoreSeam,
        index_secret: bytes,
        vault_id: bytes,
        short: bytes,
        expected: bytes | None,
    ) -> SegmentReader:
        """Read a segment's directory; *expected* as for :func:`read_front`."""
        directory, front = read_front(store, index_secret, vault_id, short, expected)
        if isinstance(directory, PackDirectory):
            blocks: dict[bytes, list[SealedBlock]] = {}
            _sort_in(blocks, directory, 0)
            return cls(short, [front], store, front.length, blocks, None)
        count, odd = divmod(len(directory.domains), 16)
        if (
            odd
            or len(directory.generations) != 4 * count
            or len(directory.ends) != 8 * count
            or len(directory.packs) % PACK_REF.size
        ):
            raise DamagedData("the directory of an index object does not fit itself")
        packs = [
            PackFront(b"p" + digest, length, hash_)
            for digest, length, hash_ in PACK_REF.iter_unpack(directory.packs)
        ]
        return cls(short, packs, store, front.length, {}, directory)

    @classmethod
    def rebuild(
        cls,
        store: StoreSeam,
        index_secret: bytes,
        vault_id: bytes,
        short: bytes,
        packs: list[Front],
    ) -> SegmentReader:
        """Make a segment again from the directories of its packs."""
        fronts: list[PackFront] = []
        blocks: dict[bytes, list[SealedBlock]] = {}
        lost: list[DamagedData] = []
        for pack in packs:
            try:
                directory, front = read_front(store, index_secret, vault_id, *pack)
            except (NotFoundError, DamagedData, NewerFormat) as exc:
                lost.append(_lost(pack.name, exc))
                continue
            assert isinstance(directory, PackDirectory)
            _sort_in(blocks, directory, len(fronts))
            fronts.append(front)
        return cls(short, fronts, store, 0, blocks, None, rebuilt=True, lost=lost)

    @classmethod
    def missing(cls, store: StoreSeam, pack: bytes, exc: LoopbackupError) -> SegmentReader:
        """Stand in for the directory of a pack that cannot be read: it says nothing."""
        return cls(pack, [], store, 0, {}, None, lost=[_lost(pack, exc)])

    def domains(self) -> Iterator[bytes]:
        """Yield the ids of the domains that have a block here, ascending."""
        if self._directory is None:
            yield from sorted(self._blocks)
            return
        last = b""
        ids = self._directory.domains
        for at in range(0, len(ids), 16):
            if ids[at : at + 16] != last:
                last = ids[at : at + 16]
                yield last

    def blocks(self, domain_id: bytes) -> list[SealedBlock]:
        """Give the sealed blocks of a domain; one request where they are not at hand."""
        if self._directory is None:
            return self._blocks.get(domain_id, [])
        directory = self._directory
        count = len(directory.domains) // 16
        ids = directory.domains
        number = bisect_left(range(count), domain_id, key=lambda n: ids[16 * n : 16 * n + 16])
        found = []
        while number < count and ids[16 * number : 16 * number + 16] == domain_id:
            start = _integer(directory.ends, 8, number - 1) if number else 0
            data = self._read(start, _integer(directory.ends, 8, number))
            generation = _integer(directory.generations, 4, number)
            found.append(SealedBlock(generation, data, directory.salt))
            number += 1
        return found

    def _read(self, start: int, end: int) -> bytes:
        """Read a part of the object; domains are asked for in order, so read ahead."""
        at, window = self._window
        if not at <= start <= end <= at + len(window):
            name = names.index_name(self.short[1:])
            length = max(end - start, READ_AHEAD)
            at, window = start, self._store.get_upto(name, length, start=self._front + start)
            self._window = at, window
        if end > at + len(window):
            raise DamagedData(
                "an index object is cut short", object=names.index_name(self.short[1:])
            )
        return window[start - at : end - at]

    def rows(self, domain: Domain) -> Iterator[tuple[Blob, bytes]]:
        """Yield the blobs of a domain, each with its members."""
        for block in self.blocks(domain.id):
            plain = domain.open_block(block.data, block.generation, block.salt)
            for row, members in fmt.decode_block(plain):
                if block.base + row.pack >= len(self.packs):
                    raise DamagedData("an index block names a pack that its segment does not")
                yield blob_of(row, self.packs[block.base + row.pack], block.generation), members

    def places(self, domain: Domain) -> dict[bytes, Place]:
        """Give every chunk that it names of a domain, with its place."""
        return {
            chunk_id: place
            for blob, members in self.rows(domain)
            for chunk_id, place in places_of(blob, members)
        }

    @property
    def size(self) -> int:
        """Bytes of its index blocks."""
        if self._directory is None:
            return sum(len(b.data) for blocks in self._blocks.values() for b in blocks)
        ends = self._directory.ends
        return int.from_bytes(ends[-8:], "little") if ends else 0

    def chunk_packs(self, domain: Domain, wanted: set[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """Yield (pack, chunk id) for each place of a wanted chunk."""
        for blob, members in self.rows(domain):
            for chunk_id, _place in places_of(blob, members):
                if chunk_id in wanted:
                    yield blob.pack, chunk_id


def _sort_in(blocks: dict[bytes, list[SealedBlock]], directory: PackDirectory, base: int) -> None:
    """Add the blocks of a pack's directory to those of their domains."""
    for block in directory.blocks:
        sealed = SealedBlock(block.generation, block.data, directory.salt, base)
        blocks.setdefault(block.domain, []).append(sealed)


def _integer(column: bytes, width: int, number: int) -> int:
    return int.from_bytes(column[width * number : width * (number + 1)], "little")


def _lost(pack: bytes, exc: LoopbackupError) -> DamagedData:
    gone = isinstance(exc, NotFoundError)
    return DamagedData(
        "a pack is missing" if gone else f"a pack's directory cannot be read: {exc}",
        kind="missing" if gone else "damaged",
        object=names.pack_name(pack[1:]),
    )


def build_index(
    index_secret: bytes,
    vault_id: bytes,
    contents: dict[Domain, list[tuple[PackFront, int, bytes]]],
) -> tuple[Front, bytes]:
    """
    Encode an index object; give what it is called and its bytes.

    Args:
        contents: For each domain (pack, generation, plain block of that
            pack). Each generation gets one block.
    """
    salt = os.urandom(16)
    packs: dict[bytes, int] = {}
    refs: list[bytes] = []
    blocks: list[bytes] = []
    domains: list[bytes] = []
    generations: list[bytes] = []
    for domain in sorted(contents, key=lambda d: d.id):
        by_generation: dict[int, list[tuple[int, bytes]]] = {}
        for pack, generation, plain in contents[domain]:
            if pack.name not in packs:
                packs[pack.name] = len(packs)
                refs.append(PACK_REF.pack(pack.name[1:], pack.length, pack.hash))
            by_generation.setdefault(generation, []).append((packs[pack.name], plain))
        for generation, parts in sorted(by_generation.items()):
            blocks.append(domain.seal_block(fmt.merge_blocks(parts), generation, salt))
            domains.append(domain.id)
            generations.append(generation.to_bytes(4, "little"))
    ends = (end.to_bytes(8, "little") for end in accumulate(map(len, blocks)))
    directory = IndexDirectory(
        salt, b"".join(refs), b"".join(domains), b"".join(generations), b"".join(ends)
    )
    front = fmt.seal_front(index_secret, vault_id, directory)
    data = b"".join([front, *blocks])
    return Front(b"i" + names.content_hash(data), names.content_hash(front)), data


def blob_of(row: BlobRow, pack: PackFront, generation: int) -> Blob:
    """Give where a row's blob lies."""
    return Blob(
        pack.name,
        pack.length + row.offset,
        row.stored,
        row.plain,
        row.codec,
        row.kind,
        generation,
        row.id,
    )


def places_of(blob: Blob, members: bytes) -> Iterator[tuple[bytes, Place]]:
    """Yield every chunk of a blob with its place."""
    if not members:
        yield blob.id, Place(blob, 0, blob.plain)
        return
    start = 0
    for chunk_id, length in MEMBER.iter_unpack(members):
        yield chunk_id, Place(blob, start, length)
        start += length
    if start != blob.plain:
        raise DamagedData("the members of a bundle do not fill it")
