"""The compact table of places: exact, in order, and small; in memory and on disk."""

from __future__ import annotations

import os
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.vault.blocks import encode_block

from loopbackup.errors import DamagedData
from loopbackup.vault.content.places import PlaceTable
from loopbackup.vault.content.refs import PackRefs
from loopbackup.vault.content.segment import Place, blob_of, places_of
from loopbackup.vault.format.pack import MEMBER, BlobRow, PackFront

PACKS = [PackFront(b"p" + bytes([n]) * 32, 1000 * n, b"h" * 32) for n in range(3)]
REFS = PackRefs.of(PACKS)
IDS = st.binary(min_size=32, max_size=32)
NUMBER = st.integers(0, (1 << 32) - 1)
ROW = BlobRow(0, b"", 500_000, 300_000, 524_288, 0, 1, 0)


@st.composite
def rows(draw: st.DrawFn) -> tuple[BlobRow, bytes]:
    """Draw a blob, or a bundle with its members."""
    ids = draw(st.lists(IDS, max_size=4))
    lengths = [draw(st.integers(0, 1 << 30)) for _ in ids]
    return BlobRow(
        draw(st.integers(0, 2)),
        draw(IDS),
        draw(NUMBER),
        draw(NUMBER),
        sum(lengths) if ids else draw(NUMBER),
        len(ids),
        draw(st.integers(0, 1)),
        1 if ids else draw(st.sampled_from([0, 2, 3, 4, 5, 6])),
    ), b"".join(map(MEMBER.pack, ids, lengths))


def block(*found: tuple[BlobRow, bytes]) -> bytes:
    """Encode rows."""
    return encode_block([row for row, _ in found], [members for _, members in found])


def blobs(count: int) -> bytes:
    """Make a block of so many blobs with random ids."""
    return block(*((ROW._replace(id=os.urandom(32)), b"") for _ in range(count)))


@given(
    st.lists(st.tuples(st.integers(1, 3), st.lists(rows(), max_size=6)), max_size=4),
    st.sampled_from([0, 70, 3000]),
    st.sampled_from([0, 1 << 20]),
)
def test_table_gives_back_every_place(
    blocks: list[tuple[int, list[tuple[BlobRow, bytes]]]], others: int, memory_bytes: int
) -> None:
    """As a dict of lists would, however much it has grown; other ids have no place."""
    table = PlaceTable(memory_bytes)
    table.add(REFS, 0, 9, blobs(others))
    model: dict[bytes, list[Place]] = {}
    for number, (generation, found) in enumerate(blocks):
        table.add(REFS, 0, generation, block(*found))
        if number % 2:
            table.settle()
        for row, members in found:
            for chunk_id, place in places_of(blob_of(row, PACKS[row.pack], generation), members):
                model.setdefault(chunk_id, []).append(place)
    ids = [*model, bytes(32), b"\xff" * 31 + b"\xfe", os.urandom(32)]

    for _ in range(2):
        firsts = table.first_packs(ids)
        for chunk_id, first in zip(ids, firsts, strict=True):
            found_places = table.find(chunk_id)
            assert sorted(found_places) == sorted(model.get(chunk_id, []))
            expected = found_places[0].blob.pack if found_places else None
            assert first == table.first_pack(chunk_id) == expected
        table.settle()
    assert len(table) == others + sum(map(len, model.values()))
    assert (table.file_bytes > 0) == (memory_bytes == 0 and len(table) > 0)
    table.close()


@pytest.mark.parametrize("memory_bytes", [0, 1 << 20])
def test_places_of_a_chunk_are_in_the_order_of_their_segments(memory_bytes: int) -> None:
    """So that all processes that have folded the same read the same copy first."""
    table = PlaceTable(memory_bytes)
    chunk_id = os.urandom(32)
    segments = [PackRefs.of([PackFront(b"p" + os.urandom(32), 0, bytes(32))]) for _ in range(90)]

    for number, packs in enumerate(segments):
        table.add(packs, 0, 1, block((ROW._replace(id=chunk_id), b"")))
        if number % 4 == 0:
            table.settle()

    expected = [packs[0].name for packs in segments]
    assert [place.blob.pack for place in table.find(chunk_id)] == expected
    table.settle()
    assert [place.blob.pack for place in table.find(chunk_id)] == expected
    table.close()


def test_id_across_two_records_is_no_record() -> None:
    """The end of one record and the beginning of the next may look like an id."""
    table = PlaceTable()
    twin = b"\0" * 31 + b"\1"
    row = BlobRow(0, bytes(32), 0, 0, 0, 0, 0, 0)

    table.add(REFS, 0, 1, block((row, b""), (row._replace(id=twin), b"")))
    table.settle()

    assert [place.blob.id for place in table.find(bytes(32))] == [bytes(32)]
    assert [place.blob.id for place in table.find(twin)] == [twin]
    assert table.first_pack(b"\0" * 30 + b"\1\0") is None


@pytest.mark.parametrize(
    "plain",
    [
        block((ROW._replace(id=b"b" * 32, plain=100, members=1), MEMBER.pack(b"m" * 32, 99))),
        block((ROW._replace(id=b"b" * 32, pack=3), b"")),
        block((ROW._replace(id=b"b" * 32, pack=2**32 - 1), b"")),
        block((ROW._replace(id=b"b" * 32), b""))[:-1],
        b"",
    ],
    ids=["members", "pack", "pack near 2**32", "cut", "empty"],
)
def test_block_that_does_not_fit_itself_is_damage(plain: bytes) -> None:
    """And no chunk of it is found."""
    table = PlaceTable()

    with pytest.raises(DamagedData):
        table.add(REFS, 0, 1, plain)

    assert (len(table), table.first_pack(b"m" * 32), table.first_pack(b"b" * 32)) == (0, None, None)


def test_numbers_too_large_for_a_record_are_kept_whole() -> None:
    """No count or length of a row is ever cut off."""
    table = PlaceTable()
    large = ROW._replace(id=b"b" * 32, offset=2**32 - 1, stored=2**32 - 1, plain=2**32 - 1)

    table.add(REFS, 1, 1, block((large._replace(pack=1), b"")))

    assert table.find(b"b" * 32) == [
        Place(blob_of(large, PACKS[2], 1), 0, 2**32 - 1),
    ]


def test_ids_that_begin_alike_are_found() -> None:
    """Whoever has the keys may choose ids; that makes a table slow, and nothing else."""
    table = PlaceTable()
    ids = [b"same" + number.to_bytes(28, "big") for number in range(40_000)]

    table.add(REFS, 0, 1, block(*((ROW._replace(id=chunk_id), b"") for chunk_id in ids)))
    table.settle()

    assert all(table.first_packs(ids[::997]))
    assert table.first_pack(b"same" + b"\xff" * 28) is None


@pytest.mark.parametrize("expected", [0, 100_000])
def test_chunk_costs_at_most_48_bytes_of_memory(expected: int) -> None:
    """Everything counted that its table has allocated, mapped or not, and its pack's name."""
    count, packs = 100_000, PackRefs.of([PACKS[0]] * (100_000 // 64))
    plain = blobs(count)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    table = PlaceTable()

    table.expect(expected)
    table.add(packs, 0, 1, plain)
    table.settle()

    traced = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    mapped = table.mapped_bytes
    names = sum(68 for _ in packs)
    assert mapped > count * 40
    assert (traced + mapped + names) / count < 48
    assert traced + mapped == pytest.approx(table.memory_bytes, rel=0.01)


def test_chunk_on_disk_costs_less_than_a_byte_of_memory() -> None:
    """However many there are, once they are settled."""
    count = 100_000
    plain = blobs(count)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    table = PlaceTable(1 << 20)

    table.add(REFS, 0, 1, plain)
    table.settle()

    traced = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert (traced + table.mapped_bytes) / count < 1
    assert table.file_bytes < 50 * count
    table.close()
