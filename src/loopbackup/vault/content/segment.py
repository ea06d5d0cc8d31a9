"""
Segments: the pieces that the index is made of, and where they say chunks lie.

A segment is an index object, or the directory of a pack whose run needed no
more than one. Blocks are opened per domain, when that domain is asked for.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
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
from .refs import PackRefs

__all__ = [
    "Blob",
    "Place",
    "SegmentReader",
    "blob_of",
    "build_index",
    "places_of",
    "read_front",
    "rows_of",
]

FRONT_READ: Final = 256 << 10
READ_AHEAD: Final = 1 << 20
BLOCK_BYTES: Final = 4 << 20
"""About what a block of an index object holds; nothing may seal 2 GiB at once."""


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
    packs: PackRefs
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
            return cls(short, PackRefs.of([front]), store, front.length, blocks, None)
        count, odd = divmod(len(directory.domains), 16)
        if (
            odd
            or len(directory.generations) != 4 * count
            or len(directory.ends) != 8 * count
            or len(directory.packs) % PACK_REF.size
        ):
            raise DamagedData("the directory of an index object does not fit itself")
        return cls(short, PackRefs(directory.packs), store, front.length, {}, directory)

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
        refs = PackRefs.of(fronts)
        return cls(short, refs, store, 0, blocks, None, rebuilt=True, lost=lost)

    @classmethod
    def missing(cls, store: StoreSeam, pack: bytes, exc: LoopbackupError) -> SegmentReader:
        """Stand in for the directory of a pack that cannot be read: it says nothing."""
        return cls(pack, PackRefs(b""), store, 0, {}, None, lost=[_lost(pack, exc)])

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

    def plain_blocks(self, domain: Domain) -> Iterator[tuple[int, int, bytes]]:
        """
        Yield the opened blocks of a domain: number of its first pack, generation, bytes.

        Memory: one block.
        """
        for block in self.blocks(domain.id):
            plain = domain.open_block(block.data, block.generation, block.salt)
            yield block.base, block.generation, plain

    def block_bytes(self, domain_id: bytes) -> int:
        """Give the bytes of a domain's blocks, without reading any."""
        if self._directory is None:
            return sum(len(block.data) for block in self._blocks.get(domain_id, ()))
        numbers = self._numbers(domain_id)
        return max(0, self._end(numbers.stop - 1) - self._end(numbers.start - 1)) if numbers else 0

    def _numbers(self, domain_id: bytes) -> range:
        """Give which blocks of an index object are a domain's."""
        assert self._directory is not None
        ids = self._directory.domains

        def key(number: int) -> bytes:
            return ids[16 * number : 16 * number + 16]

        every = range(len(ids) // 16)
        first = bisect_left(every, domain_id, key=key)
        return range(first, bisect_right(every, domain_id, lo=first, key=key))

    def _end(self, number: int) -> int:
        """Give where a block of an index object ends, from the end of the directory."""
        assert self._directory is not None
        return _integer(self._directory.ends, 8, number) if number >= 0 else 0

    def blocks(self, domain_id: bytes) -> Iterator[SealedBlock]:
        """Yield the sealed blocks of a domain; one request each where they are not at hand."""
        directory = self._directory
        if directory is None:
            yield from self._blocks.get(domain_id, ())
            return
        before, copies = -1, 0
        for number in self._numbers(domain_id):
            data = self._read(self._end(number - 1), self._end(number))
            generation = _integer(directory.generations, 4, number)
            copies = copies + 1 if generation == before else 0
            before = generation
            yield SealedBlock(generation, data, fmt.block_salt(directory.salt, copies))

    def _read(self, start: int, end: int) -> bytes:
        """Read a part of the object; domains are asked for in order, so read ahead."""
        name = names.index_name(self.short[1:])
        at, window = self._window
        if not at <= start <= end <= at + len(window):
            length = max(end - start, READ_AHEAD)
            at, window = start, self._store.get_upto(name, length, start=self._front + start)
            # What is longer is one domain's alone, and nobody reads it twice in a row.
            self._window = (at, window) if length == READ_AHEAD else (0, b"")
        if end > at + len(window):
            raise DamagedData("an index object is cut short", object=name)
        return window[start - at : end - at]

    def rows(self, domain: Domain) -> Iterator[tuple[Blob, bytes]]:
        """Yield the blobs of a domain, each with its members."""
        for base, generation, plain in self.plain_blocks(domain):
            for row, pack, members in rows_of(plain, self.packs, base):
                yield blob_of(row, pack, generation), members

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


def rows_of(plain: bytes, packs: PackRefs, base: int) -> Iterator[tuple[BlobRow, PackFront, bytes]]:
    """
    Yield the rows of an opened block, each with its pack and its members.

    Args:
        base: Number of the block's first pack among *packs*.
    """
    known, pack = -1, None
    for row, members in fmt.decode_block(plain):
        if row.pack != known or pack is None:
            if base + row.pack >= len(packs):
                raise DamagedData("an index block names a pack that its segment does not")
            known, pack = row.pack, packs[base + row.pack]
        yield row, pack, members


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
            pack). Each generation gets a block, or several of about 4 MiB.
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
            for number, some in enumerate(_shares(parts)):
                own = fmt.block_salt(salt, number)
                blocks.append(domain.seal_block(fmt.merge_blocks(some), generation, own))
                domains.append(domain.id)
                generations.append(generation.to_bytes(4, "little"))
    ends = (end.to_bytes(8, "little") for end in accumulate(map(len, blocks)))
    directory = IndexDirectory(
        salt, b"".join(refs), b"".join(domains), b"".join(generations), b"".join(ends)
    )
    front = fmt.seal_front(index_secret, vault_id, directory)
    data = b"".join([front, *blocks])
    return Front(b"i" + names.content_hash(data), names.content_hash(front)), data


def _shares(parts: list[tuple[int, bytes]]) -> Iterator[list[tuple[int, bytes]]]:
    """Cut what is to be one domain's into blocks that a reader need not hold all at once."""
    share: list[tuple[int, bytes]] = []
    size = 0
    for part in parts:
        if share and size + len(part[1]) > BLOCK_BYTES:
            yield share
            share, size = [], 0
        share.append(part)
        size += len(part[1])
    yield share


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
