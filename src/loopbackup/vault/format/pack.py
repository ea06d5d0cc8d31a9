"""
Packs and index objects: sealed directories in front of blobs or index blocks.

Both begin with a sealed head of fixed size that gives the length of the
sealed directory behind it, so that either is read with one range or two.
A directory lists index blocks, one for each domain and generation; a block
opens with that domain's keys only.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Annotated, Final, NamedTuple

from msgspec import Meta, Struct

from ...errors import DamagedData
from . import codec, seal
from .header import Bytes16
from .seal import Kind

__all__ = [
    "HEAD_BYTES",
    "BlobRow",
    "Block",
    "IndexDirectory",
    "PackDirectory",
    "PackFront",
    "block_salt",
    "decode_block",
    "directory_length",
    "join_block",
    "ladder",
    "merge_blocks",
    "open_directory",
    "seal_front",
]

_HEAD: Final = struct.Struct("<I")
HEAD_BYTES: Final = seal.SEAL_OVERHEAD + 64
DIRECTORY_PAD: Final = 4096
MIN_PACK_BYTES: Final = 65_536
MAX_PLAIN_BYTES: Final = 32 << 20
"""No blob may claim to be longer than this once it is decompressed."""

ROW: Final = struct.Struct("<I32sIIIIBB")
MEMBER: Final = struct.Struct("<32sI")
_COUNT: Final = struct.Struct("<I")
_SALTS: Final = (1 << 128) - 1

STORED: Final = 0
ZSTD: Final = 1

CONTENT_KINDS: Final = ("data", "bundle", "stream", "list", "table", "root", "ids")
"""What a blob is; its number stands in the row, its name in the id key's label."""


class BlobRow(NamedTuple):
    """
    One blob in an index block.

    ``offset`` counts from the end of the pack's directory; ``stored`` is the
    length of the payload without salt and tag.
    """

    pack: int
    id: bytes
    offset: int
    stored: int
    plain: int
    members: int
    codec: int
    kind: int


class Block(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A sealed index block and whose it is."""

    domain: Bytes16
    generation: int
    data: bytes


class PackDirectory(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """The directory of a pack; blocks name it as pack 0."""

    salt: Bytes16
    """Random; every block is bound to it, so that it opens in this object only."""
    blocks: list[Block]


class IndexDirectory(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """
    The directory of an index object.

    ``packs`` is a sequence of 68 bytes each: hash, u32 length of the front
    (head and directory) that blob offsets count from, and hash of that front.
    Blocks lie behind the directory, in the order of ``domains``, which is
    ascending.
    """

    salt: Bytes16
    """As in :class:`PackDirectory`."""
    packs: bytes
    domains: bytes
    generations: Annotated[bytes, Meta(max_length=1 << 30)]
    """u32 for each domain."""
    ends: bytes
    """u64 for each domain: where its block ends, from the end of the directory."""


class PackFront(NamedTuple):
    """A pack as an index object names it; what is read of it is held against ``hash``."""

    name: bytes
    """Short name."""
    length: int
    """Bytes of head and directory; blob offsets count from there."""
    hash: bytes


PACK_REF: Final = struct.Struct("<32sI32s")


def join_block(rows: bytes | bytearray, members: bytes | bytearray) -> bytes:
    """Put encoded rows and all of their members (36 bytes each), in the same order, together."""
    return b"".join((_COUNT.pack(len(rows) // ROW.size), rows, members))


def block_salt(salt: bytes, number: int) -> bytes:
    """
    Give what a block is bound to: the salt of its object, plus its number.

    Args:
        number: Among the blocks of one domain and generation, so that none of
            them can stand in the place of another.
    """
    return (int.from_bytes(salt, "little") + number & _SALTS).to_bytes(16, "little")


def merge_blocks(parts: Iterable[tuple[int, bytes]]) -> bytes:
    """Make one block of those of several packs, each with the number that its pack gets."""
    rows, members = bytearray(), bytearray()
    for number, plain in parts:
        (count,) = _COUNT.unpack_from(plain)
        start, end = len(rows), _COUNT.size + count * ROW.size
        rows += memoryview(plain)[_COUNT.size : end]
        for at in range(start, len(rows), ROW.size):
            _COUNT.pack_into(rows, at, number)
        members += memoryview(plain)[end:]
    return join_block(rows, members)


def decode_block(plain: bytes) -> Iterator[tuple[BlobRow, bytes]]:
    """Yield each row with its members; DamagedData when they do not fit."""
    if len(plain) < _COUNT.size:
        raise DamagedData("an index block is cut short")
    (count,) = _COUNT.unpack_from(plain)
    at = _COUNT.size + count * ROW.size
    if at > len(plain):
        raise DamagedData("an index block is cut short")
    for fields in ROW.iter_unpack(memoryview(plain)[_COUNT.size : at]):
        row = BlobRow._make(fields)
        end = at + row.members * MEMBER.size
        if row.kind >= len(CONTENT_KINDS) or row.codec > ZSTD:
            raise DamagedData("an index block holds a row of no known kind")
        if end > len(plain):
            raise DamagedData("an index block does not fit its rows")
        yield row, plain[at:end]
        at = end
    if at != len(plain):
        raise DamagedData("an index block does not fit its rows")


def seal_front(
    index_secret: bytes, vault_id: bytes, directory: PackDirectory | IndexDirectory
) -> bytes:
    """Give the sealed head and directory of a pack or an index object."""
    pack = isinstance(directory, PackDirectory)
    kind = Kind.PACK_DIRECTORY if pack else Kind.INDEX_DIRECTORY
    body = seal.seal(index_secret, kind, vault_id, codec.encode(directory), pad=DIRECTORY_PAD)
    head_kind = Kind.PACK_HEAD if pack else Kind.INDEX_HEAD
    head = seal.seal(index_secret, head_kind, vault_id, _HEAD.pack(len(body)), pad=64)
    return head + body


def front_bytes(directory_payload: int) -> int:
    """Give the length of a front whose directory encodes to so many bytes."""
    padded = -(-(directory_payload + 4) // DIRECTORY_PAD) * DIRECTORY_PAD
    return HEAD_BYTES + seal.SEAL_OVERHEAD + padded


def directory_length(index_secret: bytes, vault_id: bytes, data: bytes, *, pack: bool) -> int:
    """Open a head and give the length of the directory behind it."""
    kind = Kind.PACK_HEAD if pack else Kind.INDEX_HEAD
    head = seal.open_sealed(index_secret, kind, vault_id, data[:HEAD_BYTES])
    if len(head) != _HEAD.size:
        raise DamagedData("the head of a pack is malformed")
    (size,) = _HEAD.unpack(head)
    return int(size)


def open_directory(
    index_secret: bytes, vault_id: bytes, data: bytes, *, pack: bool
) -> PackDirectory | IndexDirectory:
    """Open a sealed directory, given exactly its bytes."""
    kind = Kind.PACK_DIRECTORY if pack else Kind.INDEX_DIRECTORY
    plain = seal.open_sealed(index_secret, kind, vault_id, data)
    if pack:
        return codec.decode(plain, PackDirectory)
    return codec.decode(plain, IndexDirectory)


def ladder(size: int, pack_size: int) -> int:
    """Give the stored size of a run's last pack: a power of two, at least 64 KiB."""
    rung = max(MIN_PACK_BYTES, 1 << (size - 1).bit_length())
    return min(rung, pack_size)
