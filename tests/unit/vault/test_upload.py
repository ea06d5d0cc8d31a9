"""Uploads: each chunk once, nobody's with another's, packs of one size, memory bounded."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import loopbackup as lb
from loopbackup.errors import IntegrityError, StoreError
from loopbackup.testing.faults import FaultStore, LostRequest, Rule, script
from loopbackup.vault.content import upload as module
from loopbackup.vault.content.segment import SegmentReader, read_front
from loopbackup.vault.content.upload import Upload, Uploaded
from loopbackup.vault.format import names
from loopbackup.vault.format import record as rec
from loopbackup.vault.format.pack import CONTENT_KINDS, STORED, ZSTD, PackDirectory
from loopbackup.vault.keys.domains import Domain
from loopbackup.vault.ledger.log import Draft
from loopbackup.vault.ledger.state import Front, join_fronts, join_names
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.store.seam import StoreSeam
from loopbackup.vault.verbs.domains import ensure_domains
from loopbackup.vault.verbs.session import Session

PACK = 1 << 20


@pytest.fixture
def session() -> Iterator[Session]:
    """Open a vault in memory and give its parts."""
    with lb.testing.memory_vault() as vault:
        yield vault._session


def new_upload(session: Session, **changed: Any) -> Upload:
    """Begin a run."""
    parts: dict[str, Any] = {
        "executor": session.executor,
        "pack_size": PACK,
        "bundle_size": 65_536,
        **changed,
    }
    store = parts.pop("store", session.store)
    return Upload(store, session.log, session.keyring, session.index, **parts)


def domains(session: Session, *subjects: str) -> list[Domain]:
    """Make domains for subjects."""
    found = ensure_domains(session.store, session.log, session.keyring, [(s,) for s in subjects])
    return [found[(s,)] for s in subjects]


def commit(session: Session, uploaded: Uploaded) -> None:
    """Make what was put part of the index."""
    facts = rec.Pruned(
        new_segments=join_fronts(uploaded.segments), packs=join_fronts(uploaded.packs)
    )
    session.log.commit_draft(Draft("prune", facts))


def condemn(session: Session, *packs: Front) -> None:
    """Condemn packs by name."""
    session.log.commit_draft(
        Draft("prune", rec.Pruned(condemned=join_names(front.name for front in packs)))
    )


def put(upload: Upload, domain: Domain, data: bytes) -> bytes:
    """Put a chunk unless it is known, as a backup does."""
    chunk_id = domain.chunk_id(data)
    if not upload.has(domain, chunk_id):
        upload.put(domain, chunk_id, data)
    return chunk_id


def sizes(session: Session) -> list[int]:
    """Give the sizes of all packs."""
    return sorted(entry.size_bytes for entry in session.store.list(names.PACKS))


def test_what_is_put_is_read_after_the_commit(session: Session) -> None:
    """Large and small chunks, compressible and not, of two domains."""
    one, two = domains(session, "user-42", "acme")
    upload = new_upload(session)
    data = [os.urandom(90_000), b"text " * 30_000, b"x"]
    large = [(d, put(upload, d, part), part) for d in (one, two) for part in data]
    small = []
    for domain in (one, two):
        for number in range(50):
            part = b"%d small" % number
            upload.put_small(domain, 0, domain.chunk_id(part), part)
            small.append((domain, domain.chunk_id(part), part))

    commit(session, upload.finish())

    for domain, chunk_id, part in large + small:
        assert bytes(session.reader.read(domain, chunk_id)) == part


def test_known_chunks_are_not_put_again(session: Session) -> None:
    """Neither twice in one run nor in the next; the next one relies on the pack."""
    (domain,) = domains(session, "user-42")
    first = new_upload(session)
    data = os.urandom(50_000)
    put(first, domain, data)
    put(first, domain, data)
    uploaded = first.finish()
    commit(session, uploaded)

    second = new_upload(session)
    put(second, domain, data)

    assert second.finish() == Uploaded([], [])
    assert second.relied == {front.name for front in uploaded.packs}
    assert (len(sizes(session)), second.added_bytes) == (1, 0)


def test_one_content_of_two_subjects_is_stored_twice(session: Session) -> None:
    """Deduplication stops at a domain, or one person's erasure would hurt another."""
    one, two = domains(session, "user-42", "acme")
    upload = new_upload(session)
    data = os.urandom(50_000)

    put(upload, one, data)
    put(upload, two, data)
    commit(session, upload.finish())

    first, second = (session.index.find(d, d.chunk_id(data), session.log.state) for d in (one, two))
    assert first is not None
    assert second is not None
    assert first.blob.offset != second.blob.offset


def test_bundles_never_mix_domains_or_owners(session: Session) -> None:
    """Compressing two parties' data together leaks."""
    one, two = domains(session, "user-42", "acme")
    upload = new_upload(session)
    put_as: dict[bytes, tuple[bytes, int]] = {}
    for number in range(400):
        domain, owner = (one, two)[number % 2], number // 2 % 3
        data = b"%d" % number
        chunk_id = domain.chunk_id(data)
        upload.put_small(domain, owner, chunk_id, data)
        put_as[chunk_id] = (domain.id, owner)

    commit(session, upload.finish())

    bundles: dict[tuple[bytes, int], set[tuple[bytes, int]]] = {}
    for chunk_id, (domain_id, owner) in put_as.items():
        domain = session.keyring.by_id(domain_id)
        place = session.index.find(domain, chunk_id, session.log.state)
        assert place is not None
        assert CONTENT_KINDS[place.blob.kind] == "bundle"
        key = (place.blob.pack, place.blob.offset)
        bundles.setdefault(key, set()).add((domain_id, owner))
    assert len(bundles) == 6
    assert all(len(parties) == 1 for parties in bundles.values())


def test_memory_of_open_bundles_is_bounded(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many subjects at once: the longest untouched bundles are flushed first."""
    monkeypatch.setattr(module, "MAX_BUNDLES_BYTES", 10_000)
    many = domains(session, *(f"user-{number}" for number in range(60)))
    upload = new_upload(session)
    peak = 0

    for domain in many * 2:
        data = os.urandom(500)
        upload.put_small(domain, 0, domain.chunk_id(data), data)
        peak = max(peak, sum(bundle.size for bundle in upload._bundles.values()))

    assert peak <= 10_000
    commit(session, upload.finish())
    assert set(session.index.domain_ids(session.log.state)) >= {domain.id for domain in many}


def test_incompressible_chunks_are_stored_as_they_are(session: Session) -> None:
    """And compressible ones are compressed."""
    (domain,) = domains(session, "user-42")
    upload = new_upload(session)
    noise, text = put(upload, domain, os.urandom(50_000)), put(upload, domain, b"text " * 10_000)

    commit(session, upload.finish())

    places = [session.index.find(domain, c, session.log.state) for c in (noise, text)]
    assert [p.blob.codec for p in places if p] == [STORED, ZSTD]
    assert next(p.blob.stored for p in places if p) == 50_000


def test_full_packs_have_one_size_and_the_last_one_a_step_of_the_ladder(session: Session) -> None:
    """A run of several packs has an index object; its sizes say little."""
    (domain,) = domains(session, "user-42")
    upload = new_upload(session)

    for _ in range(40):
        put(upload, domain, os.urandom(60_000))
    uploaded = upload.finish()

    stored = sizes(session)
    assert stored.count(PACK) >= 2
    assert all(size & (size - 1) == 0 and size >= 65_536 for size in stored)
    assert len(stored) - stored.count(PACK) <= 1
    assert [front.name[:1] for front in uploaded.segments] == [b"i"]
    assert len(uploaded.packs) == len(stored)
    assert upload.added_bytes == sum(stored) + sum(
        entry.size_bytes for entry in session.store.list(names.INDEX)
    )


def test_run_that_fits_one_pack_needs_no_index_object(session: Session) -> None:
    """The pack's own directory is its segment."""
    (domain,) = domains(session, "user-42")
    upload = new_upload(session)
    put(upload, domain, b"x" * 100)

    uploaded = upload.finish()

    assert uploaded.segments == uploaded.packs
    assert uploaded.packs[0].name[:1] == b"p"
    assert list(session.store.list(names.INDEX)) == []


def test_chunk_that_fits_no_pack_is_an_error(session: Session) -> None:
    """It never loops for ever over empty packs."""
    (domain,) = domains(session, "user-42")
    upload = new_upload(session)

    upload.put(domain, b"x" * 32, os.urandom(PACK))
    with pytest.raises(IntegrityError):
        upload.flush()


def test_dry_run_stores_nothing(session: Session) -> None:
    """It counts what is known and what is new."""
    (domain,) = domains(session, "user-42")
    before = {entry.key for entry in session.store.list("")}
    upload = new_upload(session, dry=True)
    data = os.urandom(1000)

    upload.put(domain, domain.chunk_id(data), data)
    upload.put_small(domain, 0, domain.chunk_id(b"small"), b"small")

    assert upload.has(domain, domain.chunk_id(data))
    assert upload.finish() == Uploaded([], [])
    assert {entry.key for entry in session.store.list("")} == before


def test_executor_may_run_things_at_once(session: Session) -> None:
    """An executor of the host's, with one thread or many, gives the same chunks."""
    (domain,) = domains(session, "user-42")
    names_of_threads: set[str] = set()
    with ThreadPoolExecutor(1, thread_name_prefix="acme") as executor:
        upload = new_upload(session, executor=executor)
        upload.on_pack = lambda: names_of_threads.add(threading.current_thread().name.split("_")[0])
        ids = [put(upload, domain, os.urandom(60_000)) for _ in range(40)]
        commit(session, upload.finish())

    assert "acme" in names_of_threads
    assert all(session.index.find(domain, c, session.log.state) for c in ids)


def test_failing_store_ends_the_run(session: Session) -> None:
    """An error in a worker comes out of the run, not out of nowhere."""
    (domain,) = domains(session, "user-42")
    faulty = FaultStore(
        session.store.store, script(Rule(LostRequest(), method="put", key="packs/*", times=99))
    )
    upload = new_upload(session, store=StoreSeam(faulty, attempts=2, wait_s=0))

    def run() -> None:
        for _ in range(40):
            put(upload, domain, os.urandom(60_000))
        upload.finish()

    with pytest.raises(StoreError):
        run()
    upload.abandon()


# ---- races and resumption


def test_condemned_packs_are_noticed(session: Session) -> None:
    """Packs relied on and packs put are held against what is condemned."""
    (domain,) = domains(session, "user-42")
    first = new_upload(session)
    data = os.urandom(50_000)
    put(first, domain, data)
    uploaded = first.finish()
    commit(session, uploaded)
    relying, own = new_upload(session), new_upload(session)
    put(relying, domain, data)
    put(own, domain, os.urandom(1000))
    mine = own.finish()

    assert not relying.lost(session.log.state)
    assert not own.lost(session.log.state)
    condemn(session, *uploaded.packs, *mine.packs)

    assert relying.lost(session.log.state)
    assert own.lost(session.log.state)
    assert not relying.has(domain, domain.chunk_id(data))


def test_after_a_lost_race_condemned_chunks_are_put_again(session: Session) -> None:
    """What the run forgets it does not know any more, so it uploads it anew."""
    (domain,) = domains(session, "user-42")
    upload = new_upload(session)
    data = os.urandom(50_000)
    put(upload, domain, data)
    condemn(session, *upload.finish().packs)

    upload.drop_condemned(session.log.state)
    put(upload, domain, data)
    uploaded = upload.finish(session.log.state.condemned)
    commit(session, uploaded)

    assert not upload.lost(session.log.state)
    assert bytes(session.reader.read(domain, domain.chunk_id(data))) == data


def test_packs_of_an_interrupted_run_are_taken_over(session: Session) -> None:
    """The next run knows their chunks, indexes them, and uploads nothing again."""
    (domain,) = domains(session, "user-42")
    interrupted = new_upload(session)
    parts = [os.urandom(60_000) for _ in range(40)]
    for part in parts:
        put(interrupted, domain, part)
    packs = interrupted.finish().packs

    upload = new_upload(session)
    for pack in packs:
        directory, front = read_front(
            session.store, session.keyring.index_secret, session.header.vault_id, *pack
        )
        assert isinstance(directory, PackDirectory)
        upload.adopt(front, directory)
    for part in parts:
        put(upload, domain, part)
    uploaded = upload.finish()
    added = upload.added_bytes
    commit(session, uploaded)

    assert set(uploaded.packs) == set(packs)
    assert added < PACK
    for part in parts:
        assert bytes(session.reader.read(domain, domain.chunk_id(part))) == part


def test_own_places_are_where_the_chunks_are(session: Session) -> None:
    """A run can read what it has put before the ledger knows it."""
    (domain,) = domains(session, "user-42")
    upload = new_upload(session)
    data = os.urandom(1000)
    put(upload, domain, data)
    upload.put_small(domain, 0, domain.chunk_id(b"one"), b"one")
    upload.put_small(domain, 0, domain.chunk_id(b"two"), b"two")
    upload.finish()

    places = upload.own_places()[domain.id]

    for part in (data, b"one", b"two"):
        chunk_id = domain.chunk_id(part)
        assert bytes(session.reader.read_place(domain, chunk_id, places[chunk_id])) == part


def test_store_keeps_no_plaintext() -> None:
    """Nothing of content, names or subjects is in any object."""
    store = MemoryStore()
    with lb.testing.memory_vault(store=store) as vault:
        items = [
            lb.Item(f"canary-name/{n}", data=b"canary-data" * 9, subject="canary-subject")
            for n in range(9)
        ]
        vault.backup(items, name="canary-series", tags={"canary-tag": "canary-value"})

    stored = b"".join(store.get(entry.key) + entry.key.encode() for entry in store.list(""))
    assert b"canary" not in stored


def test_segment_of_a_single_pack_lists_its_domains(session: Session) -> None:
    """The directory names domains by random ids only."""
    one, two = domains(session, "user-42", "acme")
    upload = new_upload(session)
    put(upload, one, b"x")
    put(upload, two, b"y")
    (segment,) = upload.finish().segments

    reader = SegmentReader.load(
        session.store, session.keyring.index_secret, session.header.vault_id, *segment
    )

    assert set(reader.domains()) == {one.id, two.id}
