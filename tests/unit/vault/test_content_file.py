"""A file's content is read where it is asked for, holes and long lists included."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopbackup.errors import DamagedData
from loopbackup.vault.content.file import ChunkFile
from loopbackup.vault.format.entries import FILE, Extra, Node
from loopbackup.vault.keys.domains import Domain, meta_domain

DOMAIN = meta_domain(bytes(16), bytes(32), [(1, bytes(32))])


class Shelf:
    """Chunks in a dict, and what was asked for."""

    def __init__(self) -> None:
        self.chunks: dict[tuple[str, bytes], bytes] = {}
        self.asked: list[tuple[str, bytes]] = []

    def put(self, data: bytes, kind: str = "data") -> bytes:
        """Keep a chunk; give its id."""
        chunk_id = DOMAIN.chunk_id(data, kind)
        self.chunks[kind, chunk_id] = data
        return chunk_id

    def read(self, domain: Domain, chunk_id: bytes, kind: str = "data") -> bytes:
        """Give a chunk."""
        self.asked.append((kind, chunk_id))
        return self.chunks[kind, chunk_id]

    def may_read(self, domain: Domain) -> object:
        """Raise nothing: nobody is erased here."""
        return None

    def expect(self, domain: Domain, chunk_ids: Iterable[bytes]) -> int:
        """Do nothing: it is all here."""
        return 0

    def length_of(self, chunk_id: bytes) -> int:
        """Give a chunk's length, as an index does."""
        return len(self.chunks["data", chunk_id])


def opened(
    shelf: Shelf, pieces: Sequence[bytes], size: int, extents: list[tuple[int, int]] | None = None
) -> ChunkFile:
    """Open a file of these chunks."""
    ids = b"".join(map(shelf.put, pieces))
    extra = None if extents is None else Extra(extents=extents)
    node = Node(b"a", FILE, size=size, chunks=ids, extra=extra)
    return ChunkFile(node, DOMAIN, shelf, shelf.length_of)


@st.composite
def sparse_files(draw: st.DrawFn) -> tuple[bytes, list[tuple[int, int]], list[bytes]]:
    """Content with holes, where its data lie, and the data cut anywhere."""
    content, extents, data = b"", [], b""
    for hole in draw(st.lists(st.integers(0, 9), max_size=4)):
        piece = draw(st.binary(min_size=1, max_size=12))
        content += bytes(hole)
        extents.append((len(content), len(piece)))
        content, data = content + piece, data + piece
    content += bytes(draw(st.integers(0, 9)))
    cuts = sorted(draw(st.sets(st.integers(1, len(data) - 1), max_size=5))) if len(data) > 1 else []
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]
    return content, extents, pieces


@given(sparse_files(), st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)), max_size=6))
def test_a_sparse_file_reads_like_a_full_one(
    file: tuple[bytes, list[tuple[int, int]], list[bytes]], reads: list[tuple[int, int]]
) -> None:
    """Wherever one seeks, the bytes are those of the file with zeros in its holes."""
    content, extents, pieces = file
    sparse = io.BufferedReader(opened(Shelf(), pieces, len(content), extents), 4)

    for position, length in reads:
        sparse.seek(position)
        assert sparse.read(length) == content[position : position + length]
    sparse.seek(0)
    assert sparse.read() == content


@given(st.lists(st.binary(min_size=1, max_size=9), max_size=6), st.integers(0, 60))
def test_a_file_reads_the_same_from_anywhere(pieces: list[bytes], position: int) -> None:
    """Chunk borders are nowhere to be seen."""
    content = b"".join(pieces)
    file = opened(Shelf(), pieces, len(content))

    file.seek(position)

    assert file.readall() == content[position:]


def test_a_huge_sparse_file_costs_what_its_data_cost() -> None:
    """Fifty gigabytes of hole are not made of memory, and no chunk is read for them."""
    shelf = Shelf()
    file = opened(shelf, [b"needle"], 50 << 30, [(40 << 30, 6)])

    assert shelf.asked == []
    file.seek(30 << 30)
    assert file.read(4) == bytes(4)
    assert shelf.asked == []
    file.seek((40 << 30) - 2)
    assert file.read(2) + file.read(9) == b"\0\0needle"
    assert file.seek(0, io.SEEK_END) == 50 << 30
    assert file.read(1) == b""


def test_ids_of_a_long_file_are_read_as_far_as_needed() -> None:
    """Opening reads no list of ids, and the first byte only the first list."""
    shelf = Shelf()
    ids = [shelf.put(bytes([n]) * 10) for n in range(8)]
    lists = [shelf.put(b"".join(ids[at : at + 2]), "ids") for at in range(0, 8, 2)]
    node = Node(b"a", FILE, size=80, chunks=b"".join(lists), extra=Extra(listed=True))

    file = ChunkFile(node, DOMAIN, shelf, shelf.length_of)

    assert shelf.asked == []
    assert file.read(3) == bytes(3)
    assert shelf.asked == [("ids", lists[0]), ("data", ids[0])]
    file.seek(75)
    assert file.read(9) == bytes([7]) * 5
    assert [asked for asked in shelf.asked if asked[0] == "data"] == [
        ("data", ids[0]),
        ("data", ids[7]),
    ]


@pytest.mark.parametrize(
    "extents",
    [
        [(5, 5), (0, 5)],
        [(0, 6), (5, 5)],
        [(0, 0)],
        [(-1, 3)],
        [(15, 10)],
    ],
    ids=["descending", "overlapping", "empty", "negative", "beyond the end"],
)
def test_extents_that_fit_no_file_are_damage(extents: list[tuple[int, int]]) -> None:
    """What a store says of holes is not believed blindly."""
    with pytest.raises(DamagedData):
        opened(Shelf(), [bytes(10)], 20, extents)


def test_data_that_end_before_their_extents_are_damage() -> None:
    """A file never just ends early."""
    file = opened(Shelf(), [b"abc"], 20, [(10, 8)])

    assert file.read(10) == bytes(10)
    assert file.read(8) == b"abc"
    with pytest.raises(DamagedData):
        file.read(5)


def test_wrong_seeks_are_value_errors() -> None:
    """As for every file."""
    file = opened(Shelf(), [b"abc"], 3)

    with pytest.raises(ValueError, match="negative"):
        file.seek(-1)
    with pytest.raises(ValueError, match="whence"):
        file.seek(0, 9)
