"""Keyring shards: found by tag and by id, at any size, and no hostile table fools them."""

import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopbackup.errors import DamagedData
from loopbackup.vault.format import codec
from loopbackup.vault.keys.domains import DomainRecord, new_record
from loopbackup.vault.keys.shards import Shard, ShardRow


def make_rows(count: int, *, tags: int = 2**64) -> list[ShardRow]:
    """Make rows of numbered subjects; few *tags* make them collide."""
    rows = []
    for number in range(count):
        domain_id, record = new_record((f"user-{number}",), number % 256)
        rows.append((int.from_bytes(os.urandom(8)) % tags, domain_id, codec.encode(record)))
    return rows


@pytest.mark.parametrize("count", [0, 1, 2, 255, 4000])
def test_every_row_is_found_by_tag_and_by_id(count: int) -> None:
    """Also in an empty shard, and in one of 4,000 subjects."""
    rows = make_rows(count)

    shard = Shard.build(rows)

    assert len(shard) == count
    assert sorted(shard.rows()) == sorted(rows)
    for number, (tag, domain_id, record) in enumerate(rows):
        wanted = codec.decode(record, DomainRecord)
        assert shard.find(tag, [f"user-{number}"]) == (domain_id, wanted)
        assert shard.find_id(domain_id) == wanted
    assert shard.find(1, ["nobody"]) is None
    assert shard.find_id(b"x" * 16) is None


def test_equal_tags_are_told_apart_by_their_labels() -> None:
    """A search tag is a hint; the label decides."""
    rows = make_rows(300, tags=3)

    shard = Shard.build(rows)

    for number, (tag, domain_id, _record) in enumerate(rows):
        found = shard.find(tag, [f"user-{number}"])
        assert found is not None
        assert found[0] == domain_id
        assert shard.find(tag, ["somebody-else"]) is None


def test_extreme_tags_are_found() -> None:
    """The first and the last possible tag."""
    rows = [(tag, *row[1:]) for tag, row in zip((0, 2**64 - 1), make_rows(2), strict=True)]

    shard = Shard.build(rows)

    assert shard.find(0, ["user-0"]) is not None
    assert shard.find(2**64 - 1, ["user-1"]) is not None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\1\0\0",
        b"\xff" * 4,
        struct.pack("<IQI", 1, 0, 2**32 - 1),
        struct.pack("<IQI", 1, 0, 0) + b"more",
        struct.pack("<IQQII", 2, 0, 0, 9, 0),
    ],
    ids=["nothing", "short", "huge count", "huge end", "bytes left over", "ends go back"],
)
def test_table_that_does_not_fit_is_damage(payload: bytes) -> None:
    """Counts and ends near 2**32 allocate nothing."""
    with pytest.raises(DamagedData):
        Shard(payload)


@given(st.data())
def test_altered_shard_gives_damage_or_nothing_else(data: st.DataObject) -> None:
    """Even one that authenticates: no other exception comes out of any table."""
    raw = bytearray(Shard.build(make_rows(5)).payload)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))

    try:
        shard = Shard(bytes(raw))
        for tag, domain_id, _record in shard.rows():
            shard.find(tag, ["user-1"])
            shard.find_id(domain_id)
    except DamagedData:
        return
    assert len(shard) <= 5
