"""Committing: one record whatever the store says, one winner whatever the others do."""

from __future__ import annotations

import os
import threading

import pytest
from attrs import define, field

from loopbackup.errors import ConflictError, DamagedData, InputError, StoreError
from loopbackup.testing.faults import (
    Delayed,
    FaultStore,
    LostRequest,
    LostResponse,
    Refused,
    Rule,
    Truncated,
    script,
)
from loopbackup.testing.memory import SIZES, open_memory_vault
from loopbackup.vault.format import names
from loopbackup.vault.format import record as rec
from loopbackup.vault.keys.credentials import Seed
from loopbackup.vault.ledger.log import Draft, Fresh, Rebuild, put_list
from loopbackup.vault.ledger.state import State
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.store.protocol import Store
from loopbackup.vault.vault import Vault
from loopbackup.vault.verbs.creation import create_vault
from loopbackup.vault.verbs.hosting import system_clock

SEED = Seed(b"s" * 32)
CHECKED = Draft("check", rec.Checked(0, 0.0))


@pytest.fixture
def store() -> MemoryStore:
    """Give a store with a vault in it."""
    made = MemoryStore()
    create_vault(
        "memory://x",
        SEED,
        storage_options=None,
        location=None,
        grace_s=0,
        single_writer=True,
        clock=system_clock,
        store=made,
        sizes=SIZES,
    )
    return made


def opened(store: Store) -> Vault:
    """Open as another process would."""
    return open_memory_vault(store, SEED)


def kinds(store: Store) -> list[str]:
    """Give the kinds of all records, by a client that sees them for the first time."""
    with opened(store) as vault:
        return [entry.kind for entry in vault.ledger.entries()]


@define
class Counted:
    """An intent that counts how often it was asked."""

    verdicts: list[Draft | Rebuild | None]
    asked: int = 0
    commit_id: bytes = field(factory=lambda: os.urandom(16))

    def validate(self, state: State) -> Draft | Rebuild | None:
        """Give the next verdict, the last one for ever."""
        self.asked += 1
        return self.verdicts[min(self.asked, len(self.verdicts)) - 1]


def test_intent_is_committed_once(store: MemoryStore) -> None:
    """The same intent a second time finds its record."""
    with opened(store) as vault:
        intent = Counted([CHECKED])

        first, second = vault._session.log.commit(intent), vault._session.log.commit(intent)

        assert first == second == 1
        assert intent.asked == 1
    assert kinds(store) == ["created", "check"]


def test_nothing_left_to_do_commits_nothing(store: MemoryStore) -> None:
    """None is an answer."""
    with opened(store) as vault:
        assert vault._session.log.commit(Counted([None])) is None
    assert kinds(store) == ["created"]


def test_rebuild_runs_and_all_is_validated_again(store: MemoryStore) -> None:
    """Outside the lock, with the state that asked for it."""
    seen: list[int] = []
    with opened(store) as vault:
        work = Rebuild(lambda state: seen.append(state.size))

        index = vault._session.log.commit(Counted([work, work, CHECKED]))

        assert (index, seen) == (1, [1, 1])


def test_record_of_a_list_that_a_prune_took_is_made_with_another(store: MemoryStore) -> None:
    """The slower one puts its list anew, so that everybody can fold what it commits."""
    made: list[bytes] = []
    with opened(store) as one, opened(store) as two:
        seam = one._session.store

        def make(state: State) -> Draft:
            made.append(put_list(seam, b"p" + bytes(32)))
            if len(made) == 1:
                taken = rec.Pruned(condemned=b"l" + made[0])
                two._session.log.commit_draft(Draft("prune", taken))
                store.delete(names.list_name(made[0]))
            return Draft("prune", rec.Pruned(packs_list=made[-1]))

        assert one._session.log.commit(Fresh(make)) == 2

    with opened(store) as vault:
        assert len(made) == 2
        assert vault._session.log.state.lists == {made[1]}
        assert len(vault._session.log.state.alarms) == 0


def test_two_clients_commit_one_after_the_other(store: MemoryStore) -> None:
    """The slower one folds, validates again, and takes the next number."""
    with opened(store) as one, opened(store) as two:
        assert one._session.log.commit(Counted([CHECKED])) == 1
        assert two._session.log.commit(Counted([CHECKED])) == 2
        assert one._session.log.commit(Counted([CHECKED])) == 3
        one._session.log.refresh()
        two._session.log.refresh()
        assert one.head == two.head
    assert kinds(store) == ["created", "check", "check", "check"]


def test_many_clients_at_once_lose_nothing(store: MemoryStore) -> None:
    """Eight threads with a handle each, five commits each."""
    vaults = [opened(store) for _ in range(8)]
    found: list[int | None] = []

    def work(vault: Vault) -> None:
        found.extend(vault._session.log.commit(Counted([CHECKED])) for _ in range(5))

    threads = [threading.Thread(target=work, args=(vault,)) for vault in vaults]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for vault in vaults:
        vault.close()

    assert sorted(index for index in found if index is not None) == list(range(1, 41))
    assert kinds(store) == ["created"] + ["check"] * 40


@pytest.mark.parametrize("fault", [LostRequest(), LostResponse()], ids=["request", "response"])
@pytest.mark.parametrize("times", [1, 3])
def test_lost_packets_make_no_second_record(
    store: MemoryStore, fault: LostRequest | LostResponse, times: int
) -> None:
    """Whether the request or only its reply was lost, the store decides."""
    faulty = FaultStore(store, script(Rule(fault, method="put", key="ledger/*", times=times)))

    with opened(faulty) as vault:
        assert vault._session.log.commit(Counted([CHECKED])) == 1

    assert kinds(store) == ["created", "check"]


def test_late_put_of_a_lost_request_makes_no_second_record(store: MemoryStore) -> None:
    """The packet arrives after its sender has tried again."""
    faulty = FaultStore(store, script(Rule(Delayed(), method="put", key="ledger/*")))

    with opened(faulty) as vault:
        assert vault._session.log.commit(Counted([CHECKED])) == 1
        assert faulty.release() == 0

    assert kinds(store) == ["created", "check"]


def test_outcome_is_unknown_and_never_called_failed(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that does not answer may have taken the record."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    dark = script(
        Rule(LostResponse(), method="put", key="ledger/*", times=99),
        Rule(LostRequest(), method="get", key="ledger/*1", nth=3, times=99),
    )
    vault = opened(FaultStore(store, dark))

    with pytest.raises(StoreError) as caught:
        vault._session.log.commit(Counted([CHECKED]))

    assert caught.value.kind == "outcome_unknown"
    assert caught.value.transient
    assert caught.value.ambiguous
    assert kinds(store)[:2] == ["created", "check"]
    vault._session.read_only = True
    vault._session.close()


def test_refused_put_is_an_error_and_no_record(store: MemoryStore) -> None:
    """No retry is right where the store says no."""
    denied = Refused(lambda: PermissionError("no"))
    faulty = FaultStore(store, script(Rule(denied, method="put", key="ledger/*")))

    with opened(faulty) as vault:
        with pytest.raises(StoreError) as caught:
            vault._session.log.commit(Counted([CHECKED]))
        assert caught.value.kind == "denied"
        assert vault._session.log.commit(Counted([CHECKED])) == 1

    assert kinds(store) == ["created", "check"]


def test_record_that_was_read_short_is_read_again(store: MemoryStore) -> None:
    """A reply that was cut on the way is no void record."""
    with opened(store) as vault:
        vault._session.log.commit(Counted([CHECKED]))
    cut = script(Rule(Truncated(50), method="get", key="ledger/*1"))

    with opened(FaultStore(store, cut)) as vault:
        assert vault._session.log.state.alarms == ()
        assert len(vault.ledger) == 2


def test_intent_that_is_void_at_its_number_is_a_conflict(store: MemoryStore) -> None:
    """Its own validation should have seen it; it is told, not tried for ever."""
    void = Draft("forget", rec.Looked())

    with opened(store) as vault, pytest.raises(ConflictError, match="void"):
        vault._session.log.commit(Counted([void]))


def test_reader_commits_nothing(store: MemoryStore) -> None:
    """Without a signer there is nothing to sign with."""
    with opened(store) as vault:
        vault._session.log.signer = None
        with pytest.raises(InputError, match="reading only"):
            vault._session.log.commit(Counted([CHECKED]))


def test_creation_that_was_cut_off_is_completed_by_the_next_opening(store: MemoryStore) -> None:
    """Record 0 stands in the header too."""
    first = store.get(names.record_name(0))
    store.delete(names.record_name(0))

    with opened(store) as vault:
        vault.ledger.verify()

    assert store.get(names.record_name(0)) == first


def test_list_is_held_against_its_hash(store: MemoryStore) -> None:
    """Missing or altered is damage, named."""
    with opened(store) as vault:
        seam, log = vault._session.store, vault._session.log
        first, second = put_list(seam, b"payload"), put_list(seam, b"payload")

        assert first != second
        assert log.fetch_list(first) == b"payload"
        store.put(names.list_name(first), b"LBKLST1" + bytes(16) + b"other", if_absent=False)
        store.delete(names.list_name(second))
        for digest in (first, second):
            with pytest.raises(DamagedData) as caught:
                log.fetch_list(digest)
            assert caught.value.object == names.list_name(digest)
