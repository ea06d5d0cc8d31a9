"""Reading chunks: verified to the last byte, bounded whatever a row claims, one more look."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest
from backports import zstd

import loopbackup as lb
from loopbackup.errors import DamagedData, StoreError
from loopbackup.testing.faults import BitFlip, FaultStore, Refused, Rule, damage, script
from loopbackup.vault.content import reader as module
from loopbackup.vault.content.compress import compress, decompress
from loopbackup.vault.content.reader import ChunkReader
from loopbackup.vault.content.segment import Blob, Place, places_of
from loopbackup.vault.content.upload import Upload
from loopbackup.vault.format import names
from loopbackup.vault.format import record as rec
from loopbackup.vault.format.pack import MAX_PLAIN_BYTES, MEMBER, STORED, ZSTD
from loopbackup.vault.ledger.log import Draft
from loopbackup.vault.ledger.state import join_fronts
from loopbackup.vault.store.protocol import Store
from loopbackup.vault.store.seam import StoreSeam
from loopbackup.vault.store.wrappers import CountingStore
from loopbackup.vault.verbs.session import Session


@pytest.fixture
def session() -> Iterator[Session]:
    """Open a vault in memory and give its parts."""
    with lb.testing.memory_vault() as vault:
        yield vault._session


def put(session: Session, *chunks: bytes) -> list[bytes]:
    """Store chunks of nobody's; the short ones in a bundle."""
    upload = Upload(
        session.store,
        session.log,
        session.keyring,
        session.index,
        executor=session.executor,
        pack_size=1 << 20,
        bundle_size=65_536,
    )
    domain = session.keyring.none
    for data in chunks:
        if len(data) < 1000:
            upload.put_small(domain, 0, domain.chunk_id(data), data)
        else:
            upload.put(domain, domain.chunk_id(data), data)
    uploaded = upload.finish()
    facts = rec.Pruned(
        new_segments=join_fronts(uploaded.segments), packs=join_fronts(uploaded.packs)
    )
    session.log.commit_draft(Draft("prune", facts))
    return [domain.chunk_id(data) for data in chunks]


def fresh(session: Session) -> ChunkReader:
    """Give a reader that has nothing in memory."""
    return ChunkReader(session.store, session.index, session.log)


def test_flipped_bit_anywhere_in_a_blob_is_damage(session: Session) -> None:
    """Salt, ciphertext or tag; the error names the pack."""
    domain = session.keyring.none
    (chunk_id,) = put(session, os.urandom(5000))
    place = session.index.find(domain, chunk_id, session.log.state)
    assert place is not None
    name = names.pack_name(place.blob.pack[1:])

    for at in (0, 23, 24, 2000, place.blob.length - 1):
        damage(session.store.store, name, bit=8 * (place.blob.offset + at))
        with pytest.raises(DamagedData) as caught:
            fresh(session).read(domain, chunk_id)
        assert caught.value.object == name
        damage(session.store.store, name, bit=8 * (place.blob.offset + at))

    assert len(fresh(session).read(domain, chunk_id)) == 5000


def test_pack_that_is_cut_or_gone_is_damage(session: Session) -> None:
    """Whether the blob is missing, half there, or the whole pack."""
    domain = session.keyring.none
    (chunk_id,) = put(session, os.urandom(5000))
    place = session.index.find(domain, chunk_id, session.log.state)
    assert place is not None
    name, store = names.pack_name(place.blob.pack[1:]), session.store.store
    data = store.get(name)

    for end in (place.blob.offset, place.blob.offset + 100):
        store.put(name, data[:end], if_absent=False)
        with pytest.raises(DamagedData):
            fresh(session).read(domain, chunk_id)
    store.delete(name)
    with pytest.raises(DamagedData) as caught:
        fresh(session).read(domain, chunk_id)

    assert (caught.value.kind, caught.value.object) == ("missing_chunk", name)


def test_bit_that_flips_on_the_way_is_read_again(session: Session) -> None:
    """It does not stick in the cache, and the pack stays trusted."""
    domain = session.keyring.none
    (chunk_id,) = put(session, b"x" * 5000)
    place = session.index.find(domain, chunk_id, session.log.state)
    assert place is not None
    bit = 8 * (place.blob.offset % module.ALIGN + 3)
    faults = FaultStore(session.store.store, script(Rule(BitFlip(bit), method="get")))
    reader = ChunkReader(StoreSeam(faults), session.index, session.log)

    assert reader.read(domain, chunk_id) == b"x" * 5000
    assert reader.read(domain, chunk_id) == b"x" * 5000

    assert len(faults.calls) == 2
    assert session.index.find(domain, chunk_id, session.log.state) == place


@pytest.mark.parametrize("how", ["deleted", "cut", "flipped"])
def test_another_copy_serves_where_one_is_damaged(
    session: Session, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The alarm is raised once, and no backup relies on the damaged pack."""
    domain = session.keyring.none
    (chunk_id,) = put(session, b"x" * 5000)
    first = session.index.find(domain, chunk_id, session.log.state)
    put(session, b"x" * 5000)
    assert first is not None
    name, store = names.pack_name(first.blob.pack[1:]), session.store.store
    spoil(store, name, first, how)

    with caplog.at_level("ERROR", "loopbackup"):
        assert fresh(session).read(domain, chunk_id) == b"x" * 5000
        assert fresh(session).read(domain, chunk_id) == b"x" * 5000

    second = session.index.find(domain, chunk_id, session.log.state)
    (told,) = caplog.records
    assert (told.levelname, vars(told)["object"]) == ("ERROR", name)
    assert second is not None
    assert second.blob.pack != first.blob.pack


@pytest.mark.parametrize("how", ["deleted", "cut", "flipped"])
def test_damaged_copy_that_is_the_only_one_counts_as_not_stored(session: Session, how: str) -> None:
    """So that whoever still has the content stores it again; put right, it is read again."""
    domain = session.keyring.none
    (chunk_id,) = put(session, b"x" * 5000)
    place = session.index.find(domain, chunk_id, session.log.state)
    assert place is not None
    name, store = names.pack_name(place.blob.pack[1:]), session.store.store
    whole = store.get(name)
    spoil(store, name, place, how)

    with pytest.raises(DamagedData) as caught:
        fresh(session).read(domain, chunk_id)

    assert caught.value.object == name
    assert session.index.find(domain, chunk_id, session.log.state) is None
    store.put(name, whole, if_absent=False)
    assert fresh(session).read(domain, chunk_id) == b"x" * 5000


def test_store_that_fails_says_nothing_about_a_pack(session: Session) -> None:
    """A refused or timed-out read is no proof that anything is lost."""
    domain = session.keyring.none
    (chunk_id,) = put(session, b"x" * 5000)
    for error in (PermissionError, TimeoutError):
        always = Rule(Refused(error), method="get", key="packs/*", times=99)
        store = StoreSeam(FaultStore(session.store.store, script(always)), attempts=1)

        with pytest.raises(StoreError):
            ChunkReader(store, session.index, session.log).read(domain, chunk_id)

    assert session.index.find(domain, chunk_id, session.log.state) is not None


def spoil(store: Store, name: str, place: Place, how: str) -> None:
    """Delete a pack, cut it inside of a blob, or flip a bit of the blob."""
    if how == "deleted":
        store.delete(name)
    elif how == "cut":
        store.put(name, store.get(name)[: place.blob.offset + 30], if_absent=False)
    else:
        damage(store, name, bit=8 * (place.blob.offset + 30))


def test_chunk_that_nobody_has_is_damage(session: Session) -> None:
    """Its id is in the error's attributes."""
    with pytest.raises(DamagedData) as caught:
        session.reader.read(session.keyring.none, b"x" * 32)

    assert caught.value.chunk == (b"x" * 32).hex()


def test_content_must_fit_the_id_that_was_asked_for(session: Session) -> None:
    """A place that says another chunk's bytes, or another kind, is refused."""
    domain = session.keyring.none
    first, second = put(session, b"one", b"two")
    place = session.index.find(domain, first, session.log.state)
    assert place is not None

    for chunk_id, wrong, kind in (
        (second, place, "data"),
        (first, Place(place.blob, place.start, 2), "data"),
        (first, Place(place.blob, 10_000, 3), "data"),
        (first, place, "stream"),
    ):
        with pytest.raises(DamagedData):
            session.reader.read_place(domain, chunk_id, wrong, kind)


def test_near_chunks_are_read_with_few_requests(session: Session) -> None:
    """Reads are widened, and what was read stays for a while."""
    domain = session.keyring.none
    ids = put(session, *(os.urandom(2000) for _ in range(100)))
    counting = CountingStore(session.store.store)
    reader = ChunkReader(StoreSeam(counting), session.index, session.log)

    for chunk_id in ids:
        reader.read(domain, chunk_id)

    assert counting.snapshot().requests == {"get": 1}


def test_memory_of_the_caches_is_bounded(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is read."""
    monkeypatch.setattr(module, "RANGE_CACHE_BYTES", 1_200_000)
    monkeypatch.setattr(module, "PLAIN_CACHE_BYTES", 100_000)
    domain = session.keyring.none
    ids = put(
        session, *(os.urandom(60_000) for _ in range(50)), *(os.urandom(900) for _ in range(300))
    )
    reader = fresh(session)

    for chunk_id in ids:
        reader.read(domain, chunk_id)

    assert sum(map(len, reader._ranges.values())) == reader._range_bytes <= 1_200_000
    assert sum(map(len, reader._plains.values())) == reader._plain_bytes <= 100_000


def test_threads_read_at_once(session: Session) -> None:
    """Many threads, one reader, right bytes."""
    domain = session.keyring.none
    chunks = [os.urandom(3000) for _ in range(60)] + [b"%d" % n for n in range(60)]
    ids = put(session, *chunks)
    reader = fresh(session)
    wrong: list[bytes] = []

    def work() -> None:
        wrong.extend(
            chunk_id
            for chunk_id, data in zip(ids, chunks, strict=True)
            if bytes(reader.read(domain, chunk_id)) != data
        )

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


# ---- bombs


def test_blob_that_claims_to_be_huge_is_refused() -> None:
    """No row makes us allocate 4 GiB."""
    for plain in (MAX_PLAIN_BYTES + 1, 2**32 - 1):
        for codec in (STORED, ZSTD):
            with pytest.raises(DamagedData):
                decompress(codec, b"x" * 100, plain)


def test_frame_that_inflates_is_stopped_at_its_claimed_length() -> None:
    """A gigabyte of zeros in a few kilobytes, and frames that lie about their size."""
    bomb = zstd.compress(bytes(200 << 20))
    assert len(bomb) < 100_000

    for plain in (0, 1, 5000, MAX_PLAIN_BYTES):
        with pytest.raises(DamagedData):
            decompress(ZSTD, bomb, plain)


@pytest.mark.parametrize(
    ("codec", "payload", "plain"),
    [
        (STORED, b"abc", 2),
        (STORED, b"abc", 4),
        (ZSTD, b"no frame", 8),
        (ZSTD, b"", 0),
        (ZSTD, zstd.compress(b"abc")[:-1], 3),
        (ZSTD, zstd.compress(b"abc"), 2),
        (ZSTD, zstd.compress(b"abc"), 4),
    ],
    ids=["stored short", "stored long", "garbage", "empty", "cut", "too long", "too short"],
)
def test_payload_of_another_length_is_damage(codec: int, payload: bytes, plain: int) -> None:
    """Exactly as many bytes as the index says."""
    with pytest.raises(DamagedData):
        decompress(codec, payload, plain)


@pytest.mark.parametrize("data", [b"", b"x", b"text " * 1000, os.urandom(1000)], ids=len)
def test_compression_is_undone(data: bytes) -> None:
    """And never makes anything longer."""
    codec, payload = compress(data)

    assert decompress(codec, bytes(payload), len(data)) == data
    assert len(payload) <= len(data)


def test_members_must_fill_their_bundle() -> None:
    """A bundle whose parts are longer or shorter than itself is damage."""
    blob = Blob(b"p" + b"x" * 32, 0, 10, 10, 0, 1, 1, b"i" * 32)

    for lengths in ((4, 5), (6, 5), (2**32 - 1, 11)):
        members = b"".join(MEMBER.pack(b"m" * 32, length) for length in lengths)
        with pytest.raises(DamagedData):
            list(places_of(blob, members))
