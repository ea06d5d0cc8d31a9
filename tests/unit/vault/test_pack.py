"""Packs: directories that fit, blocks that say what they hold, sizes that say little."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.vault.blocks import encode_block

from loopbackup.errors import DamagedData, NewerFormat
from loopbackup.vault.content.pack import FRONT_RESERVE, PackBuilder, new_buffer
from loopbackup.vault.content.segment import SegmentReader, read_front
from loopbackup.vault.format import names
from loopbackup.vault.format import pack as fmt
from loopbackup.vault.format.pack import BlobRow, Block, IndexDirectory, PackDirectory
from loopbackup.vault.keys.domains import Domain, new_record, open_domain
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.store.seam import StoreSeam

SECRET = b"i" * 32
VAULT = b"v" * 16

hashes = st.binary(min_size=32, max_size=32)
u32 = st.integers(0, 2**32 - 1)


def make_domain(subject: str = "user-42") -> Domain:
    """Make a domain with fresh keys."""
    return open_domain(VAULT, *new_record((subject,), 0))


@st.composite
def rows(draw: st.DrawFn) -> list[tuple[BlobRow, bytes]]:
    """Make rows that fit their members."""
    found = []
    for _ in range(draw(st.integers(0, 6))):
        count = draw(st.integers(0, 4))
        members = b"".join(fmt.MEMBER.pack(draw(hashes), draw(u32)) for _ in range(count))
        row = BlobRow(
            draw(u32),
            draw(hashes),
            draw(u32),
            draw(u32),
            draw(u32),
            count,
            draw(st.sampled_from([0, 1])),
            draw(st.integers(0, 5)),
        )
        found.append((row, members))
    return found


@given(rows())
def test_block_survives_its_encoding(found: list[tuple[BlobRow, bytes]]) -> None:
    """Rows and members come back in their order."""
    plain = encode_block((row for row, _ in found), (members for _, members in found))

    assert list(fmt.decode_block(plain)) == found


@given(rows(), st.data())
def test_block_that_does_not_fit_itself_is_damage(
    found: list[tuple[BlobRow, bytes]], data: st.DataObject
) -> None:
    """Cut or extended anywhere: DamagedData, before any row with cut members is given."""
    plain = encode_block((row for row, _ in found), (members for _, members in found))
    hostile = data.draw(
        st.one_of(
            st.integers(0, len(plain) - 1).map(lambda end: plain[:end]),
            st.binary(min_size=1, max_size=60).map(lambda more: plain + more),
        )
    )

    given_so_far: list[tuple[BlobRow, bytes]] = []
    with pytest.raises(DamagedData):
        given_so_far.extend(fmt.decode_block(hostile))

    assert all(len(members) == 36 * row.members for row, members in given_so_far)


@pytest.mark.parametrize("count", [1, 2**32 - 1])
def test_counts_near_the_limit_allocate_nothing(count: int) -> None:
    """A block that claims 2**32 rows, or a row that claims 2**32 members, is damage."""
    row = BlobRow(0, b"x" * 32, 0, 0, 0, count, 0, 0)

    for plain in (count.to_bytes(4, "little"), encode_block([row], [b""])):
        with pytest.raises(DamagedData):
            list(fmt.decode_block(plain))


@pytest.mark.parametrize(
    ("codec", "kind"), [(2, 0), (0, len(fmt.CONTENT_KINDS))], ids=["codec", "kind"]
)
def test_row_of_unknown_codec_or_kind_is_damage(codec: int, kind: int) -> None:
    """Nothing is guessed."""
    row = BlobRow(0, b"x" * 32, 0, 0, 0, 0, codec, kind)

    with pytest.raises(DamagedData):
        list(fmt.decode_block(encode_block([row], [b""])))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_block_or_damage(plain: bytes) -> None:
    """No other exception comes out of garbage."""
    try:
        found = list(fmt.decode_block(plain))
    except DamagedData:
        return
    assert encode_block((r for r, _ in found), (m for _, m in found)) == plain


@pytest.mark.parametrize(
    "directory",
    [
        PackDirectory(b"s" * 16, [Block(b"d" * 16, 1, b"sealed")]),
        PackDirectory(b"s" * 16, []),
        IndexDirectory(b"s" * 16, b"p" * 68, b"d" * 16, b"\1\0\0\0", b"\1" + bytes(7)),
    ],
    ids=["pack", "empty", "index"],
)
def test_front_is_opened_with_its_secret_only(directory: PackDirectory | IndexDirectory) -> None:
    """Head and directory come back; the length is a multiple of 4 KiB and a constant."""
    pack = isinstance(directory, PackDirectory)
    front = fmt.seal_front(SECRET, VAULT, directory)

    size = fmt.directory_length(SECRET, VAULT, front, pack=pack)

    assert len(front) == fmt.HEAD_BYTES + size
    assert fmt.open_directory(SECRET, VAULT, front[fmt.HEAD_BYTES :], pack=pack) == directory
    for secret, kind in ((b"o" * 32, pack), (SECRET, not pack)):
        with pytest.raises(DamagedData):
            fmt.directory_length(secret, VAULT, front, pack=kind)


@given(st.data())
def test_altered_front_is_damage(data: st.DataObject) -> None:
    """A flipped bit anywhere in head or directory, or a cut."""
    directory = PackDirectory(b"s" * 16, [Block(b"d" * 16, 1, b"x")])
    front = bytearray(fmt.seal_front(SECRET, VAULT, directory))
    if data.draw(st.booleans()):
        bit = data.draw(st.integers(0, len(front) * 8 - 1))
        front[bit // 8] ^= 1 << bit % 8
    else:
        del front[data.draw(st.integers(0, len(front) - 1)) :]
    store = StoreSeam(MemoryStore())
    short = b"p" + b"x" * 32
    store.put(names.pack_name(short[1:]), bytes(front))

    with pytest.raises((DamagedData, NewerFormat)):
        read_front(store, SECRET, VAULT, short, None)


@pytest.mark.parametrize(
    ("size", "stored"),
    [(1, 65_536), (65_536, 65_536), (65_537, 131_072), (600_000, 1 << 20), (2 << 20, 1 << 20)],
)
def test_last_pack_is_padded_to_a_power_of_two(size: int, stored: int) -> None:
    """A provider learns one step of the ladder, and full packs have one size."""
    assert fmt.ladder(size, 1 << 20) == stored


# ---- building


def fill(builder: PackBuilder, domain: Domain, size: int, **more: object) -> bytes | None:
    """Encrypt a random blob into *builder*; give its id, or None when it is full."""
    data = os.urandom(size)
    chunk_id = domain.chunk_id(data)
    target = builder.reserve(domain, chunk_id, kind=0, codec=0, stored=size, plain=size)
    if target is None:
        return None
    domain.encrypt_into(target, data, chunk_id=chunk_id, codec=0, plain=size)
    return chunk_id


def test_full_pack_has_exactly_the_pack_size_and_every_blob_opens() -> None:
    """Filled with many small blobs of two domains, its directory finds them all."""
    store, domains = StoreSeam(MemoryStore()), [make_domain("user-42"), make_domain("acme")]
    builder = PackBuilder(1 << 20, new_buffer(1 << 20))
    put: dict[bytes, set[bytes]] = {domain.id: set() for domain in domains}
    number = 0
    while (chunk_id := fill(builder, domains[number % 2], 500 + number)) is not None:
        put[domains[number % 2].id].add(chunk_id)
        number += 1

    pack = builder.seal(SECRET, VAULT, last=False)
    store.put(names.pack_name(pack.front.name[1:]), pack.data)
    reader = SegmentReader.load(store, SECRET, VAULT, pack.front.name, pack.front.hash)

    assert len(pack.data) == 1 << 20
    assert b"p" + names.content_hash(pack.data) == pack.front.name
    assert set(reader.domains()) == put.keys()
    for domain in domains:
        found = {blob.id: blob for blob, _ in reader.rows(domain)}
        assert found.keys() == put[domain.id]
        for blob in found.values():
            plain = domain.decrypt(
                pack.data[blob.offset : blob.offset + blob.length],
                generation=1,
                chunk_id=blob.id,
                codec=0,
                plain=blob.plain,
            )
            assert domain.chunk_id(plain) == blob.id


def test_directory_longer_than_its_reserve_still_fits_the_pack() -> None:
    """Bundles of tiny files make a directory of more than 1 MiB."""
    domain, store = make_domain(), StoreSeam(MemoryStore())
    builder = PackBuilder(4 << 20, new_buffer(4 << 20))
    members = [(os.urandom(32), 1) for _ in range(1000)]
    count = 0
    while True:
        target = builder.reserve(
            domain, os.urandom(32), kind=1, codec=0, stored=1000, plain=1000, members=members
        )
        if target is None:
            break
        target[:] = os.urandom(len(target))
        count += 1

    pack = builder.seal(SECRET, VAULT, last=False)
    store.put(names.pack_name(pack.front.name[1:]), pack.data)
    reader = SegmentReader.load(store, SECRET, VAULT, pack.front.name, pack.front.hash)

    assert pack.front.length > FRONT_RESERVE
    assert len(pack.data) == 4 << 20
    assert sum(len(m) // 36 for _, m in reader.rows(domain)) == 1000 * count


def test_run_of_little_data_makes_a_small_pack() -> None:
    """The last pack is 64 KiB at least and as small as the ladder allows."""
    builder = PackBuilder(1 << 20, new_buffer(1 << 20))
    fill(builder, make_domain(), 100)

    pack = builder.seal(SECRET, VAULT, last=True)

    assert len(pack.data) == 65_536


def test_padding_looks_like_blobs() -> None:
    """What is left over is random, not zeros."""
    builder = PackBuilder(1 << 20, new_buffer(1 << 20))
    fill(builder, make_domain(), 100)

    pack = builder.seal(SECRET, VAULT, last=True)

    assert bytes(16) not in bytes(pack.data[-50_000:])
