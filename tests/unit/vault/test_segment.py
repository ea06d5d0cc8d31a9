"""Segments: index objects and packs' directories, in bounds whatever they claim."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.vault.blocks import encode_block

from loopbackup.errors import DamagedData, NewerFormat
from loopbackup.vault.content import segment
from loopbackup.vault.content.refs import PackRefs
from loopbackup.vault.content.segment import SegmentReader, build_index, places_of
from loopbackup.vault.format import names
from loopbackup.vault.format import pack as fmt
from loopbackup.vault.format.pack import MEMBER, BlobRow, IndexDirectory, PackFront
from loopbackup.vault.keys.domains import Domain, DomainRecord, new_record, open_domain
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.store.seam import StoreSeam

SECRET = b"i" * 32
VAULT = b"v" * 16
SALT = b"s" * 16


def make_domain(subject: str, generations: int = 1) -> Domain:
    """Make a domain with fresh keys."""
    domain_id, record = new_record((subject,), os.urandom(1)[0])
    keys = [(number, os.urandom(32)) for number in range(1, generations + 1)]
    return open_domain(VAULT, domain_id, DomainRecord(record.secret, keys, record.label))


def row(offset: int, members: int = 0) -> BlobRow:
    """Make a row of a blob."""
    return BlobRow(0, os.urandom(32), offset, 100, 200, members, 1, 1 if members else 0)


def stored(data: bytes) -> tuple[StoreSeam, bytes]:
    """Store an index object; give its short name."""
    store, digest = StoreSeam(MemoryStore()), names.content_hash(data)
    store.put(names.index_name(digest), data)
    return store, b"i" + digest


def load(data: bytes, front: bytes | None = None) -> SegmentReader:
    """Store and load an index object."""
    store, short = stored(data)
    return SegmentReader.load(store, SECRET, VAULT, short, front)


def pack_front(digest: bytes, length: int) -> PackFront:
    """Name a pack."""
    return PackFront(b"p" + digest, length, b"h" * 32)


def test_index_gives_each_domain_its_own_rows() -> None:
    """Of several packs and generations, members included; offsets from the pack's first byte."""
    domains = [make_domain(f"user-{n}", generations=2) for n in range(20)]
    packs = [os.urandom(32) for _ in range(3)]
    contents = {}
    expected: dict[bytes, set[tuple[bytes, bytes, int, int, bytes]]] = {}
    for domain in domains:
        parts = []
        for number, pack in enumerate(packs):
            members = MEMBER.pack(os.urandom(32), 150) + MEMBER.pack(os.urandom(32), 50)
            rows = [row(10 * number), row(99, members=2)]
            front = pack_front(pack, 5000 + number)
            parts.append((front, 1 + number % 2, encode_block(rows, [b"", members])))
            for made, its in zip(rows, (b"", members), strict=True):
                expected.setdefault(domain.id, set()).add(
                    (b"p" + pack, made.id, 5000 + number + made.offset, 1 + number % 2, its)
                )
        contents[domain] = parts

    named, data = build_index(SECRET, VAULT, contents)
    reader = load(data, named.hash)

    assert named.name == b"i" + names.content_hash(data)
    assert set(reader.domains()) == expected.keys()
    for domain in domains:
        found = {
            (blob.pack, blob.id, blob.offset, blob.generation, bytes(members))
            for blob, members in reader.rows(domain)
        }
        assert found == expected[domain.id]
    assert list(reader.rows(make_domain("nobody"))) == []
    assert reader.size > 0


def test_empty_index_is_an_index() -> None:
    """Nothing in it, nothing found."""
    reader = load(build_index(SECRET, VAULT, {})[1])

    assert (list(reader.domains()), list(reader.packs), reader.size) == ([], [], 0)


def test_front_of_another_object_is_not_believed() -> None:
    """A store cannot answer with an old index in the place of a new one."""
    _, old = build_index(SECRET, VAULT, {})
    new, data = build_index(SECRET, VAULT, {})
    store, short = stored(data)
    store.overwrite(names.index_name(short[1:]), old)

    with pytest.raises(DamagedData, match="another directory"):
        SegmentReader.load(store, SECRET, VAULT, short, new.hash)


def test_block_of_another_object_is_damage() -> None:
    """Each block is bound to the salt of the directory that it stands behind."""
    domain, pack = make_domain("user-42"), pack_front(b"p" * 32, 0)
    _, old = build_index(SECRET, VAULT, {domain: [(pack, 1, encode_block([row(0)], [b""]))]})
    new, data = build_index(SECRET, VAULT, {domain: [(pack, 1, encode_block([row(0)], [b""]))]})
    size = load(data).size
    swapped = data[:-size] + old[-size:]

    with pytest.raises(DamagedData):
        list(load(swapped, new.hash).rows(domain))


def test_members_are_places_in_their_bundle() -> None:
    """Each with its start and length."""
    domain = make_domain("user-42")
    ids = [os.urandom(32), os.urandom(32)]
    members = MEMBER.pack(ids[0], 150) + MEMBER.pack(ids[1], 50)
    pack = pack_front(b"p" * 32, 0)
    _front, data = build_index(
        SECRET, VAULT, {domain: [(pack, 1, encode_block([row(0, 2)], [members]))]}
    )

    ((blob, its),) = load(data).rows(domain)

    assert [(i, p.start, p.length) for i, p in places_of(blob, its)] == [
        (ids[0], 0, 150),
        (ids[1], 150, 50),
    ]


@pytest.mark.parametrize(
    "directory",
    [
        IndexDirectory(SALT, b"p" * 35, b"", b"", b""),
        IndexDirectory(SALT, b"", b"d" * 15, b"", b""),
        IndexDirectory(SALT, b"", b"d" * 16, b"", b"\0" * 8),
        IndexDirectory(SALT, b"", b"d" * 16, b"\1\0\0\0", b"\0" * 7),
        IndexDirectory(SALT, b"", b"d" * 16, b"\1\0\0\0", b""),
    ],
    ids=["pack", "domain", "no generation", "cut end", "no end"],
)
def test_directory_that_does_not_fit_itself_is_damage(directory: IndexDirectory) -> None:
    """Its columns have one length."""
    with pytest.raises(DamagedData):
        load(fmt.seal_front(SECRET, VAULT, directory))


@pytest.mark.parametrize("end", [1, 2**32, 2**63, 2**64 - 1])
def test_block_beyond_the_end_is_damage(end: int) -> None:
    """An end near 2**64 allocates nothing."""
    domain = make_domain("user-42")
    directory = IndexDirectory(SALT, b"", domain.id, b"\1\0\0\0", end.to_bytes(8, "little"))

    reader = load(fmt.seal_front(SECRET, VAULT, directory))

    with pytest.raises(DamagedData):
        list(reader.rows(domain))


def test_ends_that_go_back_are_damage() -> None:
    """A block cannot have a negative length."""
    domain = make_domain("user-42")
    ends = (100).to_bytes(8, "little") + (50).to_bytes(8, "little")
    directory = IndexDirectory(SALT, b"", domain.id * 2, b"\1\0\0\0" * 2, ends)

    reader = load(fmt.seal_front(SECRET, VAULT, directory) + bytes(100))

    with pytest.raises(DamagedData):
        list(reader.rows(domain))


def test_row_of_a_pack_that_is_not_there_is_damage() -> None:
    """Pack numbers are indexes into the segment's packs."""
    domain = make_domain("user-42")
    block = domain.seal_block(encode_block([row(0)._replace(pack=2**32 - 1)], [b""]), 1, SALT)
    directory = IndexDirectory(
        SALT, b"p" * 68, domain.id, b"\1\0\0\0", len(block).to_bytes(8, "little")
    )

    with pytest.raises(DamagedData):
        list(load(fmt.seal_front(SECRET, VAULT, directory) + block).rows(domain))


@settings(max_examples=60)
@given(st.data())
def test_altered_index_is_damage_or_gives_the_same_rows(data: st.DataObject) -> None:
    """Cut, flipped or extended anywhere: never other rows."""
    domain = make_domain("user-42")
    pack = pack_front(b"p" * 32, 7)
    _, whole = build_index(
        SECRET, VAULT, {domain: [(pack, 1, encode_block([row(0), row(9)], [b"", b""]))]}
    )
    expected = list(load(whole).rows(domain))
    raw = bytearray(whole)
    match data.draw(st.sampled_from(["cut", "flip", "extend"])):
        case "cut":
            del raw[data.draw(st.integers(0, len(raw) - 1)) :]
        case "flip":
            bit = data.draw(st.integers(0, len(raw) * 8 - 1))
            raw[bit // 8] ^= 1 << bit % 8
        case _:
            raw += data.draw(st.binary(min_size=1, max_size=40))

    try:
        found = list(load(bytes(raw)).rows(domain))
    except (DamagedData, NewerFormat):
        return
    assert found == expected


def long_index(monkeypatch: pytest.MonkeyPatch) -> tuple[Domain, bytes, bytes, list[BlobRow]]:
    """Make an index object with several blocks of one domain and generation: front hash, bytes."""
    monkeypatch.setattr(segment, "BLOCK_BYTES", 300)
    domain = make_domain("user-42", generations=2)
    rows = [row(number) for number in range(24)]
    contents = [
        (
            pack_front(b"%032d" % at, 0),
            1 + at // 12,
            encode_block(rows[at : at + 2], [b"", b""]),
        )
        for at in range(0, 24, 2)
    ]
    front, data = build_index(SECRET, VAULT, {domain: contents})
    return domain, front.hash, data, rows


def test_long_block_is_several(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to hold more than one of them to read a domain."""
    domain, front, data, rows = long_index(monkeypatch)

    reader = load(data, front)

    blocks = list(reader.plain_blocks(domain))
    assert [generation for _, generation, _ in blocks] == [1, 1, 1, 2, 2, 2]
    assert max(len(plain) for *_, plain in blocks) <= 300
    assert [blob.id for blob, _ in reader.rows(domain)] == [made.id for made in rows]
    assert reader.block_bytes(domain.id) == reader.size
    assert reader.block_bytes(make_domain("nobody").id) == 0


def test_block_in_the_place_of_its_neighbour_is_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a store could leave out one of a domain's blocks and give another one twice."""
    domain, front, data, _ = long_index(monkeypatch)
    size = load(data).size // 6
    start = len(data) - 6 * size
    twice = data[: start + size] + data[start : start + size] + data[start + 2 * size :]

    with pytest.raises(DamagedData):
        list(load(twice, front).rows(domain))


def test_fronts_are_made_when_asked_for() -> None:
    """A list of packs is what it was read as, and gives what it was made of."""
    packs = [pack_front(b"%032d" % number, number) for number in range(5)]
    refs = PackRefs.of(packs)

    assert list(refs) == packs
    assert [refs[number] for number in range(5)] == packs
    assert (refs[-1], list(refs[1:3]), len(refs)) == (packs[-1], packs[1:3], 5)
    assert [refs.name(number) for number in range(5)] == [pack.name for pack in packs]
    with pytest.raises(IndexError):
        refs[5]
