"""Pruning beside others and beside wrong clocks: bounded, out of everybody's way, and complete."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve
from tests.e2e.support import Clock, create, items, noise, read_snapshot, reopen

import loopbackup as lb
from loopbackup.errors import DamagedData
from loopbackup.testing.faults import FaultStore
from loopbackup.vault.content.upload import Upload
from loopbackup.vault.format import names
from loopbackup.vault.format import record as rec
from loopbackup.vault.ledger.core import state_digest
from loopbackup.vault.ledger.log import Draft
from loopbackup.vault.ledger.state import join_names, object_name
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.store.protocol import Data, Store, StoredObject
from loopbackup.vault.store.wrappers import WrapperStore
from loopbackup.vault.vault import Vault
from loopbackup.vault.verbs import check_packs, prune
from loopbackup.vault.verbs.refold import fold_again
from loopbackup.vault.verbs.rescue import rescue

BIG = {f"big/{number}": noise(400_000, str(number)) for number in range(6)}
PEOPLE = [f"user-{number}" for number in range(42, 54)]


@pytest.fixture
def clock() -> Clock:
    """Give a clock that the test moves."""
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    """Make a vault with small packs."""
    store = MemoryStore(clock=clock)
    create(store, clock=clock)
    return store


class Hooked(WrapperStore):
    """Calls a function before each put, get and list."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.hook: Callable[[str, str], None] = lambda _method, _key: None

    def put(self, key: str, data: Data, *, if_absent: bool) -> None:
        """Call, then put."""
        self.hook("put", key)
        super().put(key, data, if_absent=if_absent)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Call, then get."""
        self.hook("get", key)
        return super().get(key, start=start, length=length)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Call, then list."""
        self.hook("list", prefix)
        return super().list(prefix)


class Undated(WrapperStore):
    """Keeps no times."""

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """List without times."""
        return (evolve(entry, modified_at=None) for entry in super().list(prefix))


def forget_one(vault: Vault, name: str) -> None:
    """Leave something that a prune can condemn."""
    vault.forget(vault.backup(items({name: noise(50_000, name)}), name=name), reason="test")


# ---- clocks


def test_record_of_a_clock_ahead_does_not_stop_sweeping(store: MemoryStore, clock: Clock) -> None:
    """It counts as old as the next record that condemned anything, and is reported until then."""
    with reopen(store, clock=lambda: clock() + timedelta(days=4000)) as ahead:
        forget_one(ahead, "one")
        ahead.prune()
    with reopen(store, clock=clock) as vault:
        forget_one(vault, "two")
        told = vault.prune()
        condemned = {object_name(short) for short in vault._session.log.state.condemned}
        clock.pass_by(hours=23)
        early = vault.prune()
        clock.pass_by(hours=2)
        vault.prune()
        left = {entry.key for entry in store.list("")}
        after = vault.prune()

    assert [problem.kind for problem in told.problems] == ["clock"]
    assert early.swept == 0
    assert len(condemned) >= 2
    assert not condemned & left
    assert after.problems == []


def test_record_of_a_clock_ahead_keeps_its_grace_while_none_follows(
    store: MemoryStore, clock: Clock
) -> None:
    """Nothing tells its age then."""
    with reopen(store, clock=lambda: clock() + timedelta(days=4000)) as ahead:
        forget_one(ahead, "one")
        ahead.prune()
    with reopen(store, clock=clock) as vault:
        clock.pass_by(days=2)

        assert vault.prune().swept == 0


def test_claim_of_a_clock_ahead_lapses(store: MemoryStore, clock: Clock) -> None:
    """Further ahead than the grace it has no age, and is no reason to keep packs for ever."""
    facts = rec.Claimed(bytes(16), bytes(16), b"", b"p" + bytes(32))
    with reopen(store, clock=lambda: clock() + timedelta(days=4000)) as ahead:
        ahead._session.log.commit_draft(Draft("claim", facts))
    with reopen(store, clock=clock) as vault:
        told = vault.prune()

        assert [problem.kind for problem in told.problems] == ["clock"]
        assert vault._session.log.state.claims == {}
        assert vault.prune().problems == []


@pytest.mark.parametrize(("grace_s", "stays"), [(86_400, True), (0, False)])
def test_unknown_object_stays_where_the_store_keeps_no_times(
    clock: Clock, grace_s: int, *, stays: bool
) -> None:
    """It may belong to a run that has claimed nothing yet; without a grace that is no reason."""
    store = MemoryStore(clock=clock)
    create(store, grace_s=grace_s, clock=clock)
    orphan = names.pack_name(bytes(32))
    store.put(orphan, b"orphan", if_absent=True)
    with reopen(Undated(store), clock=clock) as vault:
        for _ in range(3):
            clock.pass_by(days=30)
            vault.prune()

    assert (orphan in {entry.key for entry in store.list("packs/")}) is stays


# ---- beside others


@pytest.mark.parametrize(("what", "looks"), [("claim", 1), ("snapshot", prune.MAX_REPLANS + 1)])
def test_damage_is_told_though_the_ledger_moves_on(
    store: MemoryStore, clock: Clock, what: str, looks: int
) -> None:
    """Claims excuse nothing; what may have moved the chunks does, for so many times."""
    with reopen(store, clock=clock) as other, reopen(Hooked(store), clock=clock) as vault:
        other.backup(items({"a": b"a"}), name="a")
        for entry in list(store.list("packs/")):
            store.delete(entry.key)
        looked = 0

        def move_on(method: str, key: str) -> None:
            nonlocal looked
            if (method, key) != ("list", names.PACKS):
                return
            looked += 1
            if looked > 3 * prune.MAX_REPLANS:
                return
            if what == "snapshot":
                other.backup(items({"b": b"%d" % looked}), name=f"b{looked}")
            else:
                facts = rec.Claimed(bytes(16), bytes(16), b"", b"")
                other._session.log.commit_draft(Draft("claim", facts))

        hooked: Any = vault._session.store.store
        hooked.hook = move_on
        with pytest.raises(DamagedData):
            vault.prune()

    assert looked == looks


def test_prune_reads_new_snapshots_outside_the_lock_of_the_ledger(
    store: MemoryStore, clock: Clock
) -> None:
    """Other threads commit meanwhile, and what the new snapshot needs is kept."""
    hooked = Hooked(store)
    held: list[str] = []
    with (
        ThreadPoolExecutor(1) as pool,
        reopen(store, clock=clock) as other,
        reopen(hooked, clock=clock) as vault,
    ):
        vault.forget(vault.backup(items(BIG), name="old"), reason="test")
        lock = vault._session.log._lock
        made: list[lb.Snapshot] = []

        def is_free() -> bool:
            free = lock.acquire(blocking=False)
            if free:
                lock.release()
            return free

        def race(method: str, key: str) -> None:
            if method == "put" and key.startswith("ledger/") and not made:
                made.append(other.backup(items(BIG), name="new"))
            elif method == "get" and made and not key.startswith("ledger/"):
                held.extend([] if pool.submit(is_free).result() else [key])

        hooked.hook = race
        vault.prune()
        hooked.hook = lambda _method, _key: None
        clock.pass_by(hours=30)
        vault.prune()

        assert held == []
        assert read_snapshot(made[0]) == BIG
        assert vault.check(data=True).ok


def test_check_holds_the_ledger_against_the_state_that_it_checks(
    store: MemoryStore, clock: Clock
) -> None:
    """A commit of another thread in between is no other history."""
    with reopen(store, clock=clock) as vault:
        state = vault._session.log.state
        vault.backup(items({"a": b"a"}), name="a")

        again = fold_again(vault._session, state)

        assert state_digest(again) == state_digest(state)


# ---- bounds


class Counted(ThreadPoolExecutor):
    """Counts what was handed in and is not done."""

    most = 0

    def __init__(self) -> None:
        super().__init__(8)
        self.waiting: list[Any] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Hand in, and count."""
        self.waiting = [future for future in self.waiting if not future.done()]
        future = super().submit(fn, *args, **kwargs)
        if getattr(fn, "__name__", "") == "_read_pack":
            self.waiting.append(future)
            self.most = max(self.most, len(self.waiting))
        return future


def test_check_holds_few_packs_however_many_threads_there_are(
    store: MemoryStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory does not grow with the cores."""
    with reopen(store, clock=clock) as vault, Counted() as executor:
        vault.backup(items({f"n{n}": noise(900_000, str(n)) for n in range(24)}), name="n")
        session = vault._session
        session.executor  # noqa: B018 - the vault's own threads are there, and are ended below
        own, session._executor = session._executor, executor
        monkeypatch.setattr(check_packs, "MAX_HELD_BYTES", 2 * session.header.pack_size)
        passed = vault.check(data=True)
        session._executor = own

    assert passed.ok
    assert passed.packs > 8
    assert 1 <= executor.most <= 2


def people(vault: Vault, name: str) -> lb.Snapshot:
    """Back up something of each of many people."""
    mine = [
        lb.Item(f"{who}/mail", data=noise(3_000, who), subject=who, version="1") for who in PEOPLE
    ]
    return vault.backup(mine, name=name)


def test_rescue_reads_the_directory_of_a_pack_once_for_all_subjects(
    store: MemoryStore, clock: Clock
) -> None:
    """The chunks of all of them take one more request."""
    with reopen(store, clock=clock) as vault:
        people(vault, "mail")
        (segment,) = vault._session.log.state.segments
    watched = FaultStore(store)
    with reopen(watched, clock=clock) as vault:
        session = vault._session
        domains = [session.keyring.find((who,)) for who in PEOPLE]
        chunks = [
            (domain, domain.chunk_id(noise(3_000, who)))
            for domain, who in zip(domains, PEOPLE, strict=True)
            if domain is not None
        ]
        upload = Upload(
            session.store,
            session.log,
            session.keyring,
            session.index,
            executor=session.executor,
            pack_size=session.header.pack_size,
            bundle_size=session.header.bundle_size,
        )
        watched.calls.clear()

        left, problems = rescue(session, upload, chunks, {segment.name})

        gets = [call for call in watched.calls if call.key == object_name(segment.name)]
        assert (left, len(problems), len(chunks)) == ({}, 1, len(PEOPLE))
        assert len(gets) == 2


def test_backup_that_lost_a_race_reads_the_directory_of_a_pack_once_for_all_subjects(
    store: MemoryStore, clock: Clock
) -> None:
    """What a prune condemned is put again; its chunks take one more request."""
    hooked = Hooked(store)
    with reopen(store, clock=clock) as other, reopen(hooked, clock=clock) as vault:
        people(other, "mail")
        (segment,) = other._session.log.state.segments
        pack, gets = object_name(segment.name), [0]
        done: list[bool] = []

        def race(method: str, key: str) -> None:
            if method == "put" and key.startswith("ledger/") and not done:
                done.append(True)
                facts = rec.Pruned(condemned=join_names([segment.name]))
                other._session.log.commit_draft(Draft("prune", facts))
            elif method == "get" and done and key == pack:
                gets[0] += 1

        hooked.hook = race
        snapshot = people(vault, "again")
        hooked.hook = lambda _method, _key: None

        assert len(read_snapshot(snapshot)) == len(PEOPLE)
        assert gets[0] == 2
