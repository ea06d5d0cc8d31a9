"""The keyring: domains found by subject and id, added in batches, spread when young is full."""

from collections.abc import Iterator

import pytest

import loopbackup as lb
from loopbackup.errors import CredentialError, DamagedData, NotFoundError
from loopbackup.terms import SubjectKey
from loopbackup.testing.faults import damage
from loopbackup.testing.memory import SIZES, open_memory_vault
from loopbackup.vault.format import names
from loopbackup.vault.keys import keyring
from loopbackup.vault.keys.credentials import Seed
from loopbackup.vault.keys.domains import Domain
from loopbackup.vault.keys.root import unlock
from loopbackup.vault.keys.shards import YOUNG
from loopbackup.vault.ledger.state import object_name
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.verbs.creation import create_vault
from loopbackup.vault.verbs.domains import ensure_domains
from loopbackup.vault.verbs.hosting import system_clock
from loopbackup.vault.verbs.session import Session


@pytest.fixture
def session() -> Iterator[Session]:
    """Open a vault in memory and give its parts."""
    with lb.testing.memory_vault() as vault:
        yield vault._session


def ensure(session: Session, *subjects: SubjectKey | None) -> dict[SubjectKey | None, Domain]:
    """Add domains for subjects."""
    return ensure_domains(session.store, session.log, session.keyring, subjects)


def fresh(session: Session) -> keyring.Keyring:
    """Give a keyring that has nothing in memory."""
    log = session.log
    return keyring.Keyring(
        session.store,
        session.keyring.root,
        current=lambda: log.state,
        refresh=log.refresh,
        keep_lease=log.lease.keep,
    )


def test_new_domains_are_found_by_subject_and_by_id(session: Session) -> None:
    """Also by a keyring that reads them from the store."""
    subjects: list[SubjectKey | None] = [("user-42",), ("acme", "user-42"), None]

    made = ensure_domains(session.store, session.log, session.keyring, subjects)

    for ring in (session.keyring, fresh(session)):
        for subject in subjects:
            found = ring.find(subject)
            assert found is not None
            assert (found.id, found.subject) == (made[subject].id, subject)
            assert ring.by_id(found.id).chunk_id(b"x") == made[subject].chunk_id(b"x")
    assert made[None].id == session.log.state.none_domain


def test_known_domains_cost_no_record(session: Session) -> None:
    """Only what is missing is made, in one record for all."""
    ensure(session, ("user-42",))
    before = session.log.state.size

    ensure(session, ("user-42",), None)
    ensure(session, *((f"user-{n}",) for n in range(100)))

    assert session.log.state.size == before + 1


def test_unknown_domains_are_not_found(session: Session) -> None:
    """None by subject, NotFoundError by id."""
    assert session.keyring.find(("user-42",)) is None
    with pytest.raises(NotFoundError):
        session.keyring.by_id(b"x" * 16)
    with pytest.raises(NotFoundError):
        session.keyring.body_key("domain", b"x" * 16)


def test_full_young_shards_are_spread_to_their_homes(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody is still found, the young shards are empty, and replaced objects are gone."""
    monkeypatch.setattr(keyring, "YOUNG_LIMIT_BYTES", 400)
    subjects = [(f"user-{number}",) for number in range(120)]
    made: dict[SubjectKey | None, Domain] = {}

    for at in range(0, 120, 4):
        made |= ensure_domains(session.store, session.log, session.keyring, subjects[at : at + 4])

    state, ring = session.log.state, fresh(session)
    homes = [number for number in state.shards if number not in YOUNG]
    assert len(homes) > 20
    for subject in subjects:
        found = ring.find(subject)
        assert found is not None
        assert found.id == made[subject].id
        assert ring.by_id(found.id).subject == subject
    stored = {entry.key for entry in session.store.list(names.SHARDS)}
    live = {names.shard_name(digest) for digest in state.shards.values()}
    replaced = {object_name(name) for name in state.condemned}
    assert stored == live | replaced
    assert not live & replaced


def test_two_writers_who_add_one_subject_agree_on_its_domain() -> None:
    """The slower one takes what the faster one has committed."""
    seed, store = Seed(b"s" * 32), MemoryStore()
    create_vault(
        "memory://x",
        seed,
        storage_options=None,
        location=None,
        grace_s=0,
        single_writer=True,
        clock=system_clock,
        store=store,
        sizes=SIZES,
    )
    with open_memory_vault(store, seed) as one, open_memory_vault(store, seed) as two:
        first = ensure(one._session, ("user-42",), ("acme",))
        second = ensure(two._session, ("user-42",), ("user-43",))

        assert first[("user-42",)].id == second[("user-42",)].id
        one._session.log.refresh()
        assert fresh(one._session).find(("user-43",)) is not None


def test_damaged_shard_is_named(session: Session) -> None:
    """A shard is held against the hash in the ledger before it is opened."""
    ensure(session, ("user-42",))
    name = names.shard_name(session.log.state.shards[YOUNG[0]])
    damage(session.store.store, name, bit=4000)

    with pytest.raises(DamagedData) as caught:
        fresh(session).find(("user-42",))

    assert caught.value.object == name


def test_missing_shard_is_damage_and_not_a_missing_subject(session: Session) -> None:
    """A lost shard must never make people look unknown."""
    ensure(session, ("user-42",))
    name = names.shard_name(session.log.state.shards[YOUNG[0]])
    session.store.delete(name)

    with pytest.raises(DamagedData) as caught:
        fresh(session).find(("user-42",))

    assert caught.value.object == name


def test_shard_of_another_number_does_not_open(session: Session) -> None:
    """Each shard has a key of its own."""
    ensure(session, ("user-42",))
    state, ring = session.log.state, fresh(session)
    number = next(n for n in state.shards if n not in YOUNG)
    state.shards = {**state.shards, YOUNG[0]: state.shards[number]}

    with pytest.raises(DamagedData):
        ring.find(("user-42",))


def test_dry_run_imagines_domains_that_are_never_stored(session: Session) -> None:
    """Known subjects keep theirs; new ones get one that nobody finds."""
    ensure(session, ("user-42",))
    before = session.log.state.size

    imagined = session.keyring.imagine([("user-42",), ("user-43",)])

    known = session.keyring.find(("user-42",))
    assert known is not None
    assert imagined[("user-42",)].id == known.id
    assert imagined[("user-43",)].chunk_id(b"x")
    assert session.keyring.find(("user-43",)) is None
    assert session.log.state.size == before


def test_memory_for_domains_is_bounded(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards and handles beyond the bound are dropped and read again."""
    monkeypatch.setattr(keyring, "MAX_DOMAINS_HELD", 10)
    monkeypatch.setattr(keyring, "CACHE_BYTES", 1000)
    subjects = [(f"user-{number}",) for number in range(50)]

    made = ensure_domains(session.store, session.log, session.keyring, subjects)

    assert len(session.keyring._domains) <= 10
    assert len(session.keyring._shards) <= 1
    for subject in subjects:
        found = session.keyring.find(subject)
        assert found is not None
        assert found.id == made[subject].id


# ---- unlocking


def test_wrong_seed_opens_nothing_and_says_what_there_is(session: Session) -> None:
    """The error counts slots by kind and names the vault by its first digits."""
    header = session.keyring.root.header_hash

    with pytest.raises(CredentialError) as caught:
        unlock(session.store, session.log.state, header, Seed(b"x" * 32), trusted=False)

    text = str(caught.value)
    assert session.header.vault_id.hex()[:8] in text
    assert "1 keyfile slot" in text


def test_damaged_slot_is_told_apart_from_a_wrong_credential(session: Session) -> None:
    """A flipped bit in a slot is damage, named by its object."""
    state = session.log.state
    name = names.slot_name(state.epoch, state.slots[0][0])
    damage(session.store.store, name, bit=9000)

    with pytest.raises(DamagedData) as caught:
        unlock(
            session.store,
            state,
            session.keyring.root.header_hash,
            Seed(b"x" * 32),
            trusted=False,
        )

    assert caught.value.object == name
