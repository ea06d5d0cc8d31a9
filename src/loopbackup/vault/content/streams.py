"""
Entry streams: the entries of one domain in a snapshot, in tree order.

A stream is cut between entries where a keyed hash of the path says so, so
that a change in one place leaves the other chunks as they were.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

import msgspec
from blake3 import blake3

from ...errors import DamagedData, InputError
from ..format import codec
from ..format.entries import Node, tree_order
from ..format.header import MAX_STREAM_CHUNK
from ..format.snapshot import INLINE_STREAM, SnapshotRoot, StreamList, TableRow
from ..keys.domains import Domain
from .upload import Upload

__all__ = [
    "Chunks",
    "Cursor",
    "StreamReader",
    "StreamWriter",
    "TableReader",
    "TableWriter",
    "content_ids",
    "decode_nodes",
    "read_ids",
]

MIN_CHUNK: Final = 32 << 10
MIN_ROWS: Final = 64
MAX_ROWS: Final = 4096
MAX_TABLES_HELD: Final = 256
EXPECTED: Final = 64
"""Chunks that a distant store is asked for at once, for whoever reads one after the other."""
MAX_LIST_BYTES: Final = 24 << 20
"""Of a stream's list: it is one chunk, and has to fit into a pack uncompressed."""
_CUT: Final = 2**32 // 512
"""One entry in 512 ends a chunk that is long enough."""
_ARRAY32: Final = struct.Struct(">BI")
_FIRST: Final = struct.Struct("<I")
_nodes: Final = msgspec.msgpack.Decoder(list[Node])


def decode_nodes(data: bytes | memoryview) -> list[Node]:
    """Decode one stream chunk."""
    try:
        return _nodes.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise DamagedData(f"a stream chunk is malformed: {exc}") from exc


class StreamWriter:
    """Writes one domain's stream; entries must come in tree order, each path once."""

    def __init__(self, domain: Domain, upload: Upload) -> None:
        self.domain = domain
        self._upload = upload
        self._key = domain.stream_key
        self._parts: list[bytes] = []
        self._size = 0
        self._first = b""
        self._chunks: list[bytes] = []
        self._firsts: list[bytes] = []
        self._list_bytes = 0
        self._last = b""
        self.entries = 0
        self.size = 0

    def add(self, path: bytes, encoded: bytes, size: int) -> bool:
        """
        Append one encoded :class:`Node`; False if one of that path was the last.

        Raises:
            InputError: The paths are too many and too long for one stream.
        """
        if path == self._last:
            return False
        self._last = path
        if not self._parts:
            self._first = path
        self._parts.append(encoded)
        self._size += len(encoded)
        self.entries += 1
        self.size += size
        if self._size >= MIN_CHUNK and (self._size >= MAX_STREAM_CHUNK or self._cuts(path)):
            self._cut()
        return True

    def _cuts(self, path: bytes) -> bool:
        value: int = _FIRST.unpack_from(blake3(path, key=self._key).digest())[0]
        return value < _CUT

    def _cut(self) -> None:
        data = b"".join([_ARRAY32.pack(0xDD, len(self._parts)), *self._parts])
        self._put(data, "stream")
        self._firsts.append(self._first)
        self._parts, self._size = [], 0
        # An id, a path and the length of that.
        self._list_bytes += 32 + len(self._first) + _ARRAY32.size
        if self._list_bytes > MAX_LIST_BYTES:
            raise InputError(
                f"the paths of one subject are too long for one snapshot after {self.entries:,} "
                "entries; back it up in parts, under several names"
            )

    def _put(self, data: bytes, kind: str) -> None:
        chunk_id = self.domain.chunk_id(data, kind)
        if not self._upload.has(self.domain, chunk_id):
            self._upload.put(self.domain, chunk_id, data, kind)
        self._chunks.append(chunk_id)

    def finish(self) -> TableRow:
        """Put what is left; give the row that finds the stream again."""
        if self._parts:
            self._cut()
        ids = b"".join(self._chunks)
        listed = len(self._chunks) > INLINE_STREAM
        if listed:
            data = codec.encode(StreamList(ids, self._firsts))
            self._chunks = []
            self._put(data, "list")
            ids = self._chunks[0]
        return TableRow(self.domain.id, ids, listed, self.entries, self.size)


class Chunks(Protocol):
    """Whatever gives chunks by domain and id."""

    def read(self, domain: Domain, chunk_id: bytes, kind: str = "data") -> bytes | memoryview:
        """Give one chunk, verified."""
        ...

    def may_read(self, domain: Domain) -> object:
        """Raise DamagedData, kind "erased", if a domain was erased since."""
        ...

    def expect(self, domain: Domain, chunk_ids: Iterable[bytes]) -> int:
        """Begin to fetch what will be read soon, if that pays; give its stored length."""
        ...


def content_ids(node: Node, domain: Domain, chunks: Chunks) -> Iterator[bytes]:
    """Yield the chunk ids of an entry's content, in order; those of long files are read."""
    if node.extra is None or not node.extra.listed:
        yield from node.chunk_ids()
        return
    for list_id in node.chunk_ids():
        yield from read_ids(list_id, domain, chunks)


def read_ids(list_id: bytes, domain: Domain, chunks: Chunks) -> list[bytes]:
    """Read one of the chunks that hold the chunk ids of a long file."""
    ids = bytes(chunks.read(domain, list_id, "ids"))
    if len(ids) % 32:
        raise DamagedData("a list of chunk ids is cut short")
    return [ids[at : at + 32] for at in range(0, len(ids), 32)]


class StreamReader:
    """Reads one domain's stream."""

    def __init__(self, domain: Domain, row: TableRow, reader: Chunks) -> None:
        self.domain = domain
        self.row = row
        self._reader = reader
        self.firsts: list[bytes] | None = None
        ids = row.chunks
        if row.listed:
            listing = codec.decode(reader.read(domain, ids, "list"), StreamList)
            ids, self.firsts = listing.chunks, listing.firsts
            if len(ids) != 32 * len(self.firsts):
                raise DamagedData("a stream's list does not fit itself")
        if len(ids) % 32:
            raise DamagedData("a stream's list of chunks is cut short")
        self.chunks = [ids[at : at + 32] for at in range(0, len(ids), 32)]
        self._next = -1
        self._asked = 0

    def nodes(self, number: int) -> list[Node]:
        """Read and decode chunk *number*."""
        if number == self._next and number >= self._asked:
            self._asked = number + EXPECTED
            self._reader.expect(self.domain, self.chunks[number : self._asked])
        self._next = number + 1
        return decode_nodes(self._reader.read(self.domain, self.chunks[number], "stream"))

    def __iter__(self) -> Iterator[Node]:
        for number in range(len(self.chunks)):
            yield from self.nodes(number)

    def covering(self, path: bytes) -> int:
        """Give the number of the chunk that *path* is in, if it is in any."""
        if self.firsts is None:
            return 0
        return self._chunk_of(tree_order(path))

    def _chunk_of(self, key: bytes) -> int:
        """Give the number of the chunk in which the first entry not before *key* may be."""
        if self.firsts is None:
            return 0
        return max(0, bisect_right(self.firsts, key, key=tree_order) - 1)

    def past(self, path: bytes) -> int:
        """Give the number of the first chunk that may hold what comes after all below *path*."""
        return self._chunk_of(_after(path))

    def span(self, path: bytes) -> range:
        """
        Give the numbers of the chunks that may hold *path* and what lies below it.

        All of them for the empty path, and where the stream has no list.
        """
        if not path or self.firsts is None:
            return range(len(self.chunks))
        end = bisect_left(self.firsts, _after(path), key=tree_order)
        return range(self.covering(path), end)


def _after(path: bytes) -> bytes:
    """Give the key right behind everything below *path*: "/" is NUL in tree order."""
    return tree_order(path) + b"\1"


class Cursor:
    """
    Finds entries of a stream by path; cheap when asked in tree order.

    Short streams without a list are searched chunk by chunk.
    """

    def __init__(self, stream: StreamReader) -> None:
        self._stream = stream
        self._all: dict[bytes, Node] | None = None
        self._current: dict[bytes, Node] = {}
        self._low, self._high = b"\1", b"\0"
        """What keys the current chunk covers: none so far."""

    def find(self, path: bytes) -> Node | None:
        """Give the entry at *path*, or None."""
        firsts = self._stream.firsts
        if firsts is None:
            return self._find_in_all(path)
        key = tree_order(path)
        if not self._low <= key < self._high and firsts:
            number = self._stream.covering(path)
            self._current = {node.path: node for node in self._stream.nodes(number)}
            self._low = tree_order(firsts[number]) if number else b""
            after = number + 1
            self._high = tree_order(firsts[after]) if after < len(firsts) else b"\xff" * 65
        return self._current.get(path)

    def _find_in_all(self, path: bytes) -> Node | None:
        if self._all is None:
            self._all = {node.path: node for node in self._stream}
        return self._all.get(path)


class TableWriter:
    """Writes a snapshot's table of domains; rows must come ascending by domain id."""

    def __init__(self, meta: Domain, upload: Upload) -> None:
        self._meta = meta
        self._upload = upload
        self._rows: list[TableRow] = []
        self._chunks: list[bytes] = []
        self._firsts: list[bytes] = []
        self.rows = 0
        self.entries = 0
        self.size = 0
        self._domains = bytearray()

    @property
    def domain_ids(self) -> bytes:
        """The ids of all domains, concatenated."""
        return bytes(self._domains)

    def has_domain(self, domain_id: bytes) -> bool:
        """Tell whether a domain has a row."""
        ids = self._domains
        number = bisect_left(
            range(self.rows), domain_id, key=lambda n: bytes(ids[16 * n : 16 * n + 16])
        )
        return ids[16 * number : 16 * number + 16] == domain_id

    def add(self, row: TableRow) -> None:
        """Append one row."""
        self._rows.append(row)
        self.rows += 1
        self.entries += row.entries
        self.size += row.size
        self._domains += row.domain
        # Ids are random, so their last byte cuts the table by its content.
        cuts = row.domain[-1] == 0 and len(self._rows) >= MIN_ROWS
        if cuts or len(self._rows) >= MAX_ROWS:
            self._cut()

    def _cut(self) -> None:
        data = codec.encode(self._rows)
        chunk_id = self._meta.chunk_id(data, "table")
        if not self._upload.has(self._meta, chunk_id):
            self._upload.put(self._meta, chunk_id, data, "table")
        self._chunks.append(chunk_id)
        self._firsts.append(self._rows[0].domain)
        self._rows = []

    def rows_again(self, reader: Chunks) -> Iterator[TableRow]:
        """Yield all rows again, reading back those that were put."""
        for chunk_id in list(self._chunks):
            yield from codec.decode(reader.read(self._meta, chunk_id, "table"), list[TableRow])
        yield from list(self._rows)

    def finish(self, snapshot: bytes, nonce: bytes) -> tuple[bytes, SnapshotRoot]:
        """Put the last chunk and the root; give the root's id and the root."""
        if self._rows:
            self._cut()
        root = SnapshotRoot(
            1,
            snapshot,
            b"".join(self._chunks),
            b"".join(self._firsts),
            self.entries,
            self.size,
            nonce,
        )
        data = codec.encode(root)
        chunk_id = self._meta.chunk_id(data, "root")
        self._upload.put(self._meta, chunk_id, data, "root")
        return chunk_id, root


class TableReader:
    """Reads a snapshot's table of domains, as little of it as is asked for."""

    def __init__(self, meta: Domain, root: SnapshotRoot, reader: Chunks) -> None:
        self._meta = meta
        self._reader = reader
        table, firsts = root.table, root.firsts
        if len(table) % 32 or len(firsts) * 2 != len(table):
            raise DamagedData("a snapshot's root does not fit itself")
        self._chunks = [table[at : at + 32] for at in range(0, len(table), 32)]
        self._firsts = [firsts[at : at + 16] for at in range(0, len(firsts), 16)]
        self._held: OrderedDict[int, dict[bytes, TableRow]] = OrderedDict()

    def __iter__(self) -> Iterator[TableRow]:
        for number in range(len(self._chunks)):
            yield from self.rows(number)

    @property
    def chunks(self) -> list[bytes]:
        """Ids of the table's chunks."""
        return self._chunks

    def spans(self) -> Iterator[tuple[bytes, bytes, bytes]]:
        """Yield (chunk id, first domain, beginning of the next chunk) of each chunk."""
        ends = [*self._firsts, b"\xff" * 17][1:]
        yield from zip(self._chunks, self._firsts, ends, strict=True)

    def rows(self, number: int) -> list[TableRow]:
        """Read and decode chunk *number*."""
        data = self._reader.read(self._meta, self._chunks[number], "table")
        return codec.decode(data, list[TableRow])

    def find(self, domain_id: bytes) -> TableRow | None:
        """Give the row of a domain, or None if the snapshot holds nothing of it."""
        number = bisect_right(self._firsts, domain_id) - 1
        if number < 0:
            return None
        held = self._held.get(number)
        if held is None:
            held = self._held[number] = {row.domain: row for row in self.rows(number)}
            while len(self._held) > MAX_TABLES_HELD:
                self._held.popitem(last=False)
        return held.get(domain_id)
