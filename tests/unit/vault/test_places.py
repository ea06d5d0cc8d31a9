"""The compact table of places: exact, in order, and small."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopbackup.errors import DamagedData
from loopbackup.vault.content.places import PlaceTable
from loopbackup.vault.content.segment import Blob, Place, places_of
from loopbackup.vault.format.pack import MEMBER

IDS = st.binary(min_size=32, max_size=32)
PACKS = st.sampled_from([b"p" + bytes([n]) * 32 for n in range(3)])
OTHER = Blob(b"p" * 33, 0, 10, 100, 1, 0, 1, b"")
LENGTH = st.integers(0, (1 << 28) - 1)


@st.composite
def blobs(draw: st.DrawFn) -> tuple[Blob, bytes]:
    """Draw a blob, or a bundle with its members."""
    ids = draw(st.lists(IDS, max_size=4))
    lengths = [draw(st.integers(0, 1 << 20)) for _ in ids]
    plain = sum(lengths) if ids else draw(st.integers(0, 1 << 25))
    blob = Blob(
        draw(PACKS),
        draw(LENGTH),
        draw(LENGTH),
        plain,
        draw(st.integers(0, 1)),
        1 if ids else draw(st.sampled_from([0, 2, 3, 4, 5, 6])),
        draw(st.integers(1, 3)),
        draw(IDS),
    )
    return blob, b"".join(map(MEMBER.pack, ids, lengths))


@given(st.lists(blobs(), max_size=20), st.sampled_from([0, 100, 3000]))
def test_table_gives_back_every_place_in_order(rows: list[tuple[Blob, bytes]], others: int) -> None:
    """As a dict of lists would, however much it has grown; other ids have no place."""
    table = PlaceTable()
    for number in range(others):
        table.add(OTHER._replace(id=b"%032d" % number), b"")
    model: dict[bytes, list[Place]] = {}
    for blob, members in rows:
        table.add(blob, members)
        for chunk_id, place in places_of(blob, members):
            model.setdefault(chunk_id, []).append(place)

    for chunk_id, places in model.items():
        assert list(table.find(chunk_id)) == places
        assert table.first_pack(chunk_id) == places[0].blob.pack
    for other in (bytes(32), os.urandom(32)):
        assert list(table.find(other)) == model.get(other, [])
    assert table.first_pack(b"\xff" * 31 + b"\xfe") is None
    assert len(table) == others + sum(map(len, model.values()))


def test_id_across_two_records_is_no_record() -> None:
    """The end of one record and the beginning of the next may look like an id."""
    table = PlaceTable()
    first = Blob(b"p" * 33, 0x01010101, 0x01010101, 0x01010101, 0, 0, 1, b"\1" * 32)
    table.add(first, b"")
    table.add(first._replace(id=b"\1" * 31 + b"\2"), b"")

    assert list(table.find(b"\1" * 32)) == [Place(first, 0, first.plain)]
    assert table.first_pack(b"\1" * 32) == first.pack


def test_members_that_do_not_fill_their_bundle_are_damage() -> None:
    """And nothing of the bundle is added."""
    table = PlaceTable()
    bundle = Blob(b"p" * 33, 0, 10, 100, 1, 1, 1, b"b" * 32)

    with pytest.raises(DamagedData):
        table.add(bundle, MEMBER.pack(b"m" * 32, 99))

    assert (len(table), table.first_pack(b"m" * 32)) == (0, None)


def test_chunk_costs_48_bytes() -> None:
    """And the spare room that a growing buffer has, an eighth."""
    count = 200_000
    table = PlaceTable()
    for _ in range(count):
        table.add(OTHER._replace(id=os.urandom(32)), b"")

    assert table.size_bytes / count < 48 * 1.125 + 2
