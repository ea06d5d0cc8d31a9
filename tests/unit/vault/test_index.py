"""The index: every usable place of a chunk, none that is condemned, and damage kept small."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import loopbackup as lb
from loopbackup.errors import StoreError
from loopbackup.testing.faults import BitFlip, FaultStore, Refused, Rule, damage, script
from loopbackup.vault.content import index as module
from loopbackup.vault.content.index import Index
from loopbackup.vault.content.upload import Upload, Uploaded
from loopbackup.vault.format import names
from loopbackup.vault.format import record as rec
from loopbackup.vault.keys.domains import Domain
from loopbackup.vault.ledger.log import Draft
from loopbackup.vault.ledger.state import join_fronts
from loopbackup.vault.store.seam import StoreSeam
from loopbackup.vault.verbs.domains import ensure_domains
from loopbackup.vault.verbs.session import Session


@pytest.fixture
def session() -> Iterator[Session]:
    """Open a vault in memory and give its parts."""
    with lb.testing.memory_vault() as vault:
        yield vault._session


def put(session: Session, domain: Domain, *chunks: bytes) -> Uploaded:
    """Store chunks in packs of their own, whether known or not."""
    upload = Upload(
        session.store,
        session.log,
        session.keyring,
        session.index,
        executor=session.executor,
        pack_size=1 << 20,
        bundle_size=65_536,
    )
    for data in chunks:
        upload.put(domain, domain.chunk_id(data), data)
    uploaded = upload.finish()
    facts = rec.Pruned(
        new_segments=join_fronts(uploaded.segments), packs=join_fronts(uploaded.packs)
    )
    session.log.commit_draft(Draft("prune", facts))
    return uploaded


def prune(session: Session, **facts: bytes) -> None:
    """Commit a prune."""
    session.log.commit_draft(Draft("prune", rec.Pruned(**facts)))


def fresh(session: Session) -> Index:
    """Give an index that has nothing in memory."""
    return Index(
        session.store,
        session.keyring.index_secret,
        session.header.vault_id,
        session.log.packs_of,
    )


def pack_of(index: Index, session: Session, domain: Domain, data: bytes) -> bytes | None:
    """Give the pack that a chunk is read from."""
    place = index.find(domain, domain.chunk_id(data), session.log.state)
    return None if place is None else place.blob.pack


def test_condemned_places_are_passed_over(session: Session) -> None:
    """Another pack serves; with none left the chunk is unknown."""
    domain = session.keyring.none
    first, second = put(session, domain, b"x" * 2000), put(session, domain, b"x" * 2000)

    for index in (session.index, fresh(session)):
        assert pack_of(index, session, domain, b"x" * 2000) == first.packs[0].name
    prune(session, condemned=first.packs[0].name)
    for index in (session.index, fresh(session)):
        assert pack_of(index, session, domain, b"x" * 2000) == second.packs[0].name
    prune(session, condemned=second.packs[0].name)
    for index in (session.index, fresh(session)):
        assert pack_of(index, session, domain, b"x" * 2000) is None


def test_distrusted_packs_are_relied_on_by_nobody_and_read_last(session: Session) -> None:
    """Whether this process found out or a check recorded it; until it is found well."""
    domain = session.keyring.none
    first, second = put(session, domain, b"x" * 2000), put(session, domain, b"x" * 2000)
    chunk_id = domain.chunk_id(b"x" * 2000)

    def places() -> list[bytes]:
        found = session.index.places(domain, chunk_id, session.log.state)
        return [place.blob.pack for place in found]

    assert places() == [first.packs[0].name, second.packs[0].name]
    session.index.distrust(first.packs[0].name)
    assert places() == [second.packs[0].name, first.packs[0].name]
    assert pack_of(session.index, session, domain, b"x" * 2000) == second.packs[0].name
    session.log.commit_draft(Draft("check", rec.Checked(1, 0.0, distrusted=second.packs[0].name)))
    assert pack_of(session.index, session, domain, b"x" * 2000) is None
    session.index.trust(first.packs[0].name)

    assert pack_of(session.index, session, domain, b"x" * 2000) == first.packs[0].name
    prune(session, condemned=second.packs[0].name)
    assert places() == [first.packs[0].name]
    assert session.log.state.distrusted == frozenset()


def test_directory_that_reads_wrong_once_is_read_again(session: Session) -> None:
    """A bit that flips on the way costs no chunk."""
    domain = session.keyring.none
    uploaded = put(session, domain, b"x" * 2000)
    faults = FaultStore(session.store.store, script(Rule(BitFlip(9), key="packs/*")))

    index = Index(
        StoreSeam(faults), session.keyring.index_secret, session.header.vault_id, lambda _: []
    )

    assert pack_of(index, session, domain, b"x" * 2000) == uploaded.packs[0].name
    assert len(faults.calls) == 2


def test_replaced_segments_are_forgotten(session: Session) -> None:
    """What the ledger no longer names gives no places, though it was in memory."""
    domain = session.keyring.none
    first, second = put(session, domain, b"x" * 2000), put(session, domain, b"y" * 2000)
    assert pack_of(session.index, session, domain, b"x" * 2000) == first.packs[0].name

    prune(session, old_segments=first.segments[0].name)

    assert pack_of(session.index, session, domain, b"x" * 2000) is None
    assert pack_of(session.index, session, domain, b"y" * 2000) == second.packs[0].name
    assert set(session.index._segments) == {front.name for front in second.segments}


def test_domains_do_not_see_each_others_chunks(session: Session) -> None:
    """Not even with the same content and its id at hand."""
    made = ensure_domains(session.store, session.log, session.keyring, [("one",), ("two",)])
    one, two = made[("one",)], made[("two",)]
    put(session, one, b"x" * 2000)

    assert session.index.find(two, one.chunk_id(b"x" * 2000), session.log.state) is None
    assert set(session.index.domain_ids(session.log.state)) == {one.id}


@pytest.mark.parametrize("how", ["deleted", "damaged"])
def test_lost_pack_costs_its_own_chunks_only(session: Session, how: str) -> None:
    """The others are found, and why is at hand."""
    domain = session.keyring.none
    lost, kept = put(session, domain, b"x" * 2000), put(session, domain, b"y" * 2000)
    name = names.pack_name(lost.packs[0].name[1:])
    if how == "deleted":
        session.store.delete(name)
    else:
        damage(session.store.store, name, bit=1000)

    index = fresh(session)

    assert pack_of(index, session, domain, b"x" * 2000) is None
    assert pack_of(index, session, domain, b"y" * 2000) == kept.packs[0].name
    told = [error for reader in index.segments(session.log.state) for error in reader.lost]
    assert [error.object for error in told] == [name]


@pytest.mark.parametrize("how", ["deleted", "front damaged", "block damaged"])
def test_lost_index_object_is_made_again_from_its_packs(session: Session, how: str) -> None:
    """Every chunk is found again, in its place."""
    domain = session.keyring.none
    chunks = [os.urandom(60_000) for _ in range(40)]
    uploaded = put(session, domain, *chunks)
    assert uploaded.segments[0].name[:1] == b"i"
    before = [pack_of(session.index, session, domain, data) for data in chunks]
    name = names.index_name(uploaded.segments[0].name[1:])
    if how == "deleted":
        session.store.delete(name)
    else:
        damage(session.store.store, name, bit=1000 if how == "front damaged" else -9)

    index = fresh(session)

    assert [pack_of(index, session, domain, data) for data in chunks] == before
    assert [reader.rebuilt for reader in index.segments(session.log.state)] == [True]


def test_lost_index_object_and_a_lost_pack_cost_that_packs_chunks(session: Session) -> None:
    """What can be rebuilt is."""
    domain = session.keyring.none
    chunks = [os.urandom(60_000) for _ in range(40)]
    uploaded = put(session, domain, *chunks)
    places = {data: pack_of(session.index, session, domain, data) for data in chunks}
    session.store.delete(names.index_name(uploaded.segments[0].name[1:]))
    session.store.delete(names.pack_name(uploaded.packs[0].name[1:]))

    index = fresh(session)

    for data, pack in places.items():
        expected = None if pack == uploaded.packs[0].name else pack
        assert pack_of(index, session, domain, data) == expected


def test_memory_of_the_index_is_bounded(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Domains that were not asked for lately are dropped, and found again."""
    monkeypatch.setattr(module, "MAX_HELD_BYTES", 4096)
    subjects = [(f"user-{number}",) for number in range(12)]
    made = ensure_domains(session.store, session.log, session.keyring, subjects)
    for domain in made.values():
        put(session, domain, *(b"%d" % n * 100 for n in range(10)))

    for domain in [*made.values(), *made.values()]:
        assert pack_of(session.index, session, domain, b"3" * 100) is not None

    assert 1 < len(session.index._tables) < 6
    held = sum(table.places.memory_bytes for table in session.index._tables.values())
    assert session.index._held == held <= 4096


@pytest.mark.parametrize("memory_bytes", [0, 1 << 20], ids=["disk", "memory"])
def test_many_chunks_are_looked_up_at_once(
    session: Session, monkeypatch: pytest.MonkeyPatch, memory_bytes: int
) -> None:
    """As one by one: of several segments, condemned and distrusted packs, and unknown ones."""
    monkeypatch.setattr(module, "MEMORY_BYTES", memory_bytes)
    domain, index = session.keyring.none, fresh(session)
    data = [b"%d" % number * 1000 for number in range(60)]
    ids = [domain.chunk_id(one) for one in data] + [os.urandom(32) for _ in range(20)]
    for first in range(0, 60, 15):
        put(session, domain, *data[first : first + 15])
        index.find_packs(domain, ids, session.log.state)
    again, lost = put(session, domain, *data[:5]), put(session, domain, *data[50:])
    gone = index.find_packs(domain, ids[:1], session.log.state)[0]
    assert gone is not None
    assert gone != again.packs[0].name
    prune(session, condemned=gone)
    index.distrust(lost.packs[0].name)

    found = index.find_packs(domain, ids, session.log.state)

    assert found == [index.find_pack(domain, i, session.log.state) for i in ids]
    assert found[:5] == [again.packs[0].name] * 5
    assert [n for n, pack in enumerate(found) if pack is None] == [*range(5, 15), *range(60, 80)]
    assert (index._tables[domain.id].places.file_bytes > 0) == (memory_bytes == 0)
    index.close()
    assert index._tables == {}


def test_closed_vault_leaves_no_scratch_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whoever closes a vault has the room back at once."""
    monkeypatch.setattr(module, "MEMORY_BYTES", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    vault = lb.testing.memory_vault()
    session = vault._session
    put(session, session.keyring.none, *(b"%d" % number * 1000 for number in range(30)))
    assert pack_of(session.index, session, session.keyring.none, b"7" * 1000) is not None
    (table,) = session.index._tables.values()
    assert table.places.file_bytes > 0

    vault.close()

    assert table.places.file_bytes == 0


def test_scratch_file_that_cannot_be_written_fails_the_look_up_alone(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clear error; with room, the next one finds everything."""
    monkeypatch.setattr(module, "MEMORY_BYTES", 0)
    domain = session.keyring.none
    put(session, domain, b"x" * 2000)
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")

    with pytest.raises(StoreError, match="temporary folder"):
        pack_of(session.index, session, domain, b"x" * 2000)
    monkeypatch.undo()

    assert pack_of(session.index, session, domain, b"x" * 2000) is not None


def test_a_reading_that_fails_half_way_adds_nothing_twice(session: Session) -> None:
    """What was read before the store failed is there once when it answers again."""
    domain = session.keyring.none
    chunks = [os.urandom(60_000) for _ in range(40)]
    # The directory of an index object comes first, its rows with the second request.
    refused = Rule(Refused(lambda: PermissionError("no")), method="get", key="index/*", nth=2)
    faults = FaultStore(session.store.store, script(refused))
    index = Index(
        StoreSeam(faults), session.keyring.index_secret, session.header.vault_id, lambda _: []
    )
    put(session, domain, b"x" * 2000)
    assert pack_of(index, session, domain, b"x" * 2000) is not None
    put(session, domain, b"y" * 2000)
    put(session, domain, *chunks)

    with pytest.raises(StoreError):
        pack_of(index, session, domain, b"y" * 2000)
    for data in (b"x" * 2000, b"y" * 2000, *chunks):
        assert len(index.places(domain, domain.chunk_id(data), session.log.state)) == 1
