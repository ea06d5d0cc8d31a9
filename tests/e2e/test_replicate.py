"""Replicas: copies in other stores that open as the vault itself does, whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from tests.e2e.support import Clock, create, dump, items, load, noise, read_all, reopen

import loopbackup as lb
from loopbackup.terms import Action, AllowAll, Decision, Facts, Location
from loopbackup.testing.faults import (
    Call,
    Crash,
    Crashed,
    Fault,
    FaultStore,
    LostResponse,
    Refused,
    Rule,
    Torn,
    damage,
    script,
)
from loopbackup.vault.format import names
from loopbackup.vault.keys.credentials import Seed
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.store.protocol import Remains, Store
from loopbackup.vault.store.seam import StoreSeam
from loopbackup.vault.store.wrappers import CountingStore, WrapperStore
from loopbackup.vault.verbs.creation import create_vault
from loopbackup.vault.verbs.hosting import system_clock
from loopbackup.vault.verbs.replica_copy import MAX_IN_FLIGHT, Copied, Wanted, copy_all
from loopbackup.vault.verbs.replicate import Replicated, run_replicate

URL = "memory://copy"


def replicate(vault: lb.Vault, store: Store, location: Any = None) -> Replicated:
    """Replicate into a store that no URL leads to."""
    return run_replicate(vault._session, vault._actor, URL, lambda: store, location)


def copy_of(store: Store, **options: Any) -> lb.Vault:
    """Open a replica."""
    return reopen(store, read_only=True, **options)


def fill(vault: lb.Vault, number: int = 1, size: int = 100_000) -> lb.Snapshot:
    """Back up something new, and something that changes."""
    return vault.backup(
        items({"same": b"same" * 5000, f"new-{number}": noise(size, f"n{number}")}), name="n"
    )


def pair(**options: Any) -> tuple[lb.Vault, MemoryStore]:
    """Make a vault with one snapshot, and an empty store."""
    store = MemoryStore()
    create(store, **options)
    vault = reopen(store, clock=options.get("clock", system_clock))
    fill(vault)
    return vault, MemoryStore()


# ---- what it does


def test_replica_on_disk_opens_and_restores_all_that_the_vault_holds(tmp_path: Path) -> None:
    """From folder to folder, with the same key; files, links and times come back."""
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    (source / "notes.txt").write_bytes(b"hello vault\n")
    (source / "large.bin").write_bytes(noise(3 << 20, "large"))
    (source / "link").symlink_to("notes.txt")
    key = lb.KeyFile.generate(tmp_path / "key")
    with lb.Vault.create(tmp_path / "vault", key, state_dir=tmp_path / "state") as vault:
        snapshot = vault.backup(source, name="n")
        report = vault.replicate(str(tmp_path / "copy"), location="europe-north1")
        (replica,) = vault.replicas

        assert report.ok
        assert (report.size, report.behind) == (len(vault.ledger), 0)
        assert (replica.url, replica.location) == (str(tmp_path / "copy"), "europe-north1")
        assert replica.behind == 0
        assert "up to date" in str(report)
        assert "europe-north1" in str(replica)

    with lb.Vault.open(
        tmp_path / "copy", key, read_only=True, state_dir=tmp_path / "elsewhere"
    ) as copy:
        copy.restore(snapshot.id, out)
        assert copy.check(data=True).ok
        copy.ledger.verify()
    assert (out / "notes.txt").read_bytes() == b"hello vault\n"
    assert (out / "large.bin").read_bytes() == (source / "large.bin").read_bytes()
    assert (out / "link").readlink() == Path("notes.txt")


def test_only_what_is_new_is_copied() -> None:
    """The second time a snapshot's own packs, and its records."""
    vault, there = pair()
    first = replicate(vault, there)
    fill(vault, 2)

    second = replicate(vault, there)

    assert 0 < second.bytes < first.bytes
    assert second.records > 0
    with copy_of(there) as copy:
        assert read_all(copy) == read_all(vault)


def test_replica_holds_the_objects_of_the_vault_and_no_others() -> None:
    """Of the same names and bytes, but for its own mark, and without the vault's garbage."""
    vault, there = pair(grace_s=0)
    old = fill(vault, 2)
    vault.forget(old, reason="test")
    vault.prune()

    replicate(vault, there)
    replicate(vault, there)

    source, copy = dump(vault._session.store.store), dump(there)
    assert copy.keys() <= source.keys()
    assert {name for name in copy if copy[name] != source[name]} == {names.HEADER}


def test_replica_is_read_only_until_promote() -> None:
    """Nobody can write to it by mistake, and the error says what it is."""
    vault, there = pair()
    replicate(vault, there)

    with pytest.raises(lb.InputError, match="read-only until promote") as caught:
        reopen(there)

    assert caught.value.kind == "replica"
    with copy_of(there) as copy, pytest.raises(lb.InputError):
        fill(copy, 9)


def test_copy_of_all_files_of_a_vault_is_no_replica() -> None:
    """Whoever moves a vault goes on with it; it is not written over as a replica either."""
    vault, _ = pair()
    moved = load(dump(vault._session.store.store))

    with pytest.raises(lb.InputError, match="the vault itself"):
        replicate(vault, moved)
    with reopen(moved) as opened:
        fill(opened, 2)


def test_place_that_holds_something_else_is_left_alone() -> None:
    """Another vault, another vault's replica, or anybody's objects."""
    vault, _ = pair()
    other, theirs = pair()
    replicate(other, theirs)
    foreign = MemoryStore()
    foreign.put("packs/notes", b"mine", if_absent=True)

    for store in (theirs, foreign):
        before = dump(store)
        with pytest.raises(lb.AlreadyExistsError, match="nothing was changed"):
            replicate(vault, store)
        assert dump(store) == before
    assert vault.replicas == ()


def test_store_that_overwrites_taken_names_is_refused() -> None:
    """There a slow copy could bring back keys that were erased."""

    class Forgetful(WrapperStore):
        def put(self, key: str, data: Any, *, if_absent: bool) -> None:
            super().put(key, data, if_absent=False)

    store = MemoryStore()
    key = Seed(bytes(32))
    create_vault(
        "memory://x",
        key,
        storage_options=None,
        location=None,
        grace_s=0,
        single_writer=False,
        clock=Clock(),
        store=store,
    )
    with reopen(store, credential=key) as vault:
        with pytest.raises(lb.InputError, match="exclusive create"):
            replicate(vault, Forgetful(MemoryStore()))
        assert replicate(vault, MemoryStore()).ok


# ---- the gate, and where the bytes lie


@define
class Residency:
    """Allows replicas in Finland only, and remembers what it was asked."""

    asked: list[Facts] = field(factory=list)
    digest: str = "residency"

    def plan_retention(self, snapshots: Any, holds: Any, *, at: Any) -> Any:
        """Keep everything."""
        return AllowAll().plan_retention(snapshots, holds, at=at)

    def decide(self, action: str, facts: Facts, *, at: Any) -> Decision:
        """Refuse what lies elsewhere."""
        if action != Action.REPLICATE:
            return Decision(allowed=True)
        self.asked.append(facts)
        country = facts.location.country if facts.location else None
        return Decision(allowed=country == "FI", reasons=(f"it lies in {country}",))


def test_gate_is_asked_before_the_first_byte() -> None:
    """With the location as declared; refused, the store was asked where it lies, no more."""
    store, gate = MemoryStore(), Residency()
    create(store)
    there = CountingStore(MemoryStore())
    with reopen(store, gate=gate) as vault:
        with pytest.raises(lb.PolicyError, match="it lies in US"):
            replicate(vault, there, Location("US", region="us-east-1"))
        assert there.snapshot().requests == {"describe": 1}

        replicate(vault, there, Location("FI", region="europe-north1", provider="acme"))

        assert vault.replicas[0].location == "europe-north1"
        assert gate.asked[-1].more["replica"] == URL


def test_location_stays_as_declared_until_another_is() -> None:
    """A later run that says nothing changes nothing; one that says something is recorded."""
    vault, there = pair()
    replicate(vault, there, "europe-north1")
    replicate(vault, there)
    assert [one.location for one in vault.replicas] == ["europe-north1"]

    replicate(vault, there, "europe-west1")

    assert [one.location for one in vault.replicas] == ["europe-west1"]
    assert [entry.kind for entry in vault.ledger.entries()].count("replica") == 2


def test_credentials_of_a_replica_stand_nowhere(tmp_path: Path) -> None:
    """Not in the ledger, not in what is shown."""
    vault, there = pair()
    url = "acme://user:s3cret@host/bucket?token=s3cret"

    run_replicate(vault._session, vault._actor, url, lambda: there, None)

    assert vault.replicas[0].url == "acme://host/bucket"
    assert "s3cret" not in f"{vault.replicas} {list(vault.ledger.entries())}"
    bodies = [
        vault._session.open_body(ref, data)
        for known in vault._session.log.state.replicas.values()
        for ref, data in [known.body or (None, None)]
        if ref is not None and data is not None
    ]
    assert bodies
    assert not any(b"s3cret" in body for body in bodies)


# ---- what it costs


def test_replication_with_nothing_new_costs_six_requests_on_each_side() -> None:
    """Also where another replica has been brought up to date meanwhile, and nothing is noted."""
    vault, _ = pair()
    one, other = CountingStore(MemoryStore()), MemoryStore()
    source = CountingStore(vault._session.store.store)
    vault._session.store.store = source
    replicate(vault, one)
    for _ in range(3):
        replicate(vault, other)
        size = len(vault.ledger)
        source.reset()
        one.reset()

        report = replicate(vault, one)

        assert (report.objects, report.behind) == (0, 0)
        assert len(vault.ledger) == size
    source.reset()
    one.reset()
    replicate(vault, one)
    assert source.snapshot().total <= 6
    assert one.snapshot().total <= 6


def counted_run(packs: int) -> tuple[lb.Vault, CountingStore, CountingStore]:
    """Fill a replica of a vault of so many packs; give the vault and both counted stores."""
    store = MemoryStore()
    create(store)
    vault = reopen(store)
    vault.backup([lb.Item(f"{n}", data=noise(1 << 20, f"{n}")) for n in range(packs)], name="n")
    there, source = CountingStore(MemoryStore()), CountingStore(store)
    vault._session.store.store = source
    replicate(vault, there)
    return vault, source, there


@pytest.mark.parametrize("packs", [1, 100])
def test_replication_costs_each_store_a_request_a_pack_and_a_record_and_twenty(packs: int) -> None:
    """No LIST for any of them; nor for a second one, which has but one pack to copy."""
    vault, source, there = counted_run(packs)

    def within_budget(size: int) -> None:
        held = sum(1 for _ in there.inner.list(names.PACKS)) if size == 0 else 1
        for counts in (source.reset(), there.reset()):
            assert counts.total <= 1.1 * held + len(vault.ledger) - size + 20
            assert counts.requests.get("list", 0) <= 7

    within_budget(0)
    assert sum(1 for _ in there.inner.list(names.PACKS)) >= packs
    there.reset()
    size = len(vault.ledger)
    fill(vault, 2)
    source.reset()
    replicate(vault, there)
    within_budget(size)


class Asked(Future[Any]):
    """Is worked for when its result is asked for."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__()
        self.work = work

    def result(self, timeout: float | None = None) -> Any:
        """Work now."""
        if not self.done():
            self.set_result(self.work())
        return super().result()


class Waiting(ThreadPoolExecutor):
    """Begins nothing before its result is asked for; counts what waits at most."""

    def __init__(self) -> None:
        super().__init__(1)
        self.given: list[Asked] = []
        self.most = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Take it on."""
        self.given.append(Asked(partial(fn, *args, **kwargs)))
        self.most = max(self.most, sum(not one.done() for one in self.given))
        return self.given[-1]


def test_no_more_packs_are_under_way_than_a_window_holds() -> None:
    """However many threads there are: their bytes are what a replication has in memory."""
    store, there = MemoryStore(), MemoryStore()
    create(store)
    vault = reopen(store)
    vault.backup([lb.Item(f"{n}", data=noise(1 << 20, f"{n}")) for n in range(60)], name="n")
    wanted = [
        Wanted(entry.key, bytes.fromhex(entry.key[-64:]), 1 << 26)
        for entry in store.list(names.PACKS)
    ]
    for largest, window in ((1 << 20, MAX_IN_FLIGHT), (32 << 20, 4), (1 << 30, 1)):
        vault._session._executor = waiting = Waiting()
        done = Copied()

        missing = copy_all(
            vault._session, iter(wanted), StoreSeam(there), largest=largest, done=done
        )

        assert (missing, done.objects, waiting.most) == ([], len(wanted), window)
        waiting.shutdown()
    vault._session._executor = None
    assert len(wanted) >= 60


# ---- whatever happens


def valid(there: Store, vaults: dict[int, Any]) -> None:
    """Hold a replica as it is now against what the vault held at the head that it shows."""
    objects = dump(there)
    if names.record_name(0) not in objects:
        with pytest.raises(lb.FormatError):
            copy_of(load(objects))
        return
    with copy_of(load(objects)) as copy:
        assert read_all(copy) == vaults[len(copy.ledger)]
        assert copy.check(data=True).ok


def history(vault: lb.Vault, seen: dict[int, Any], step: Callable[[], object]) -> None:
    """Do something to the vault, and remember what it holds afterwards."""
    before = len(vault.ledger)
    try:
        step()
    finally:
        vault._session.log.refresh()
        held = read_all(vault)
        seen.update(dict.fromkeys(range(before + 1, len(vault.ledger) + 1), held))


def _at(number: int, fault: Fault) -> Callable[[Call], Fault | None]:
    return lambda call: fault if call.number == number else None


def killed_at(number: int, when: Any) -> bool:
    """Fill a replica and let it catch up beside a prune; die at a call. False if it was over."""
    vault, there = pair(grace_s=0)
    seen: dict[int, Any] = dict.fromkeys(range(len(vault.ledger) + 1), read_all(vault))
    dying = FaultStore(there, _at(number, Crash(when)))
    steps: list[list[Callable[[], object]]] = [
        [],
        [lambda: fill(vault, 2), lambda: fill(vault, 3)],
        [lambda: vault.forget(vault.snapshots()[1], reason="test"), vault.prune],
        [],
    ]
    for before in steps:
        for step in before:
            history(vault, seen, step)
        try:
            history(vault, seen, lambda: replicate(vault, dying))
        except Crashed:
            break
    seen |= {len(vault.ledger): read_all(vault)}
    valid(there, seen)

    history(vault, seen, lambda: replicate(vault, there))
    assert replicate(vault, there).ok
    with copy_of(there) as copy:
        assert read_all(copy) == read_all(vault)
        assert len(copy.ledger) == len(vault.ledger)
    return len(dying.calls) >= number


@pytest.mark.parametrize("when", ["before", "after"])
def test_replication_killed_at_any_call_leaves_a_valid_replica_and_goes_on(when: Any) -> None:
    """The replica shows an old head or the new one, each with all its snapshots."""
    number = 1
    while killed_at(number, when):
        number += 1

    assert number > 50


@pytest.mark.parametrize("fault", [LostResponse(), Refused(lambda: ConnectionError("reset"))])
def test_single_failures_of_the_replica_do_not_matter(fault: Any) -> None:
    """A lost reply, a refused connection: tried again, and the replica is right."""
    for number in range(1, 60):
        vault, there = pair()
        flaky = FaultStore(there, _at(number, fault))
        replicate(vault, flaky)
        with copy_of(there) as copy:
            assert read_all(copy) == read_all(vault)
        if len(flaky.calls) < number:
            return
    raise AssertionError("the replication has no end")


def test_torn_objects_of_a_killed_run_are_put_again() -> None:
    """On a store that breaks its promise that an object is whole or not there."""
    for key in ("packs/*", "keys/*/root", "keys/*/slot-*", "keys/shard/*"):
        vault, there = pair()
        torn = FaultStore(there, script(Rule(Torn(keep_bytes=9), "put", key)))
        with pytest.raises(Crashed):
            replicate(vault, torn)

        assert replicate(vault, there).ok

        with copy_of(there) as copy:
            assert read_all(copy) == read_all(vault)


def test_damage_on_the_way_is_not_copied() -> None:
    """What is damaged in the vault is reported and left out; everything else is replicated."""
    vault, there = pair()
    fill(vault, 2)
    first, *_ = sorted(entry.key for entry in vault._session.store.list(names.PACKS))
    damage(vault._session.store.store, first, bit=4_000)

    with pytest.raises(lb.DamagedData, match="all else is") as caught:
        replicate(vault, there)

    assert [problem.object for problem in caught.value.problems] == [first]
    stored = {entry.key for entry in there.list(names.PACKS)}
    assert stored == {entry.key for entry in vault._session.store.list(names.PACKS)} - {first}
    damage(vault._session.store.store, first, bit=4_000)
    assert replicate(vault, there).ok
    with copy_of(there) as copy:
        assert copy.check(data=True).ok


@pytest.mark.parametrize("name", ["keys/*/root", "keys/*/slot-*", "keys/shard/*", "ledger/*0"])
def test_damage_of_what_opens_the_vault_stops_the_replication(name: str) -> None:
    """Nothing is installed on top of a key object or a record that is not the one folded."""
    vault, there = pair()
    store = vault._session.store.store
    from fnmatch import fnmatchcase

    hit = next(entry.key for entry in store.list("") if fnmatchcase(entry.key, name))
    damage(store, hit, bit=900)

    with pytest.raises((lb.DamagedData, lb.AlreadyExistsError)):
        replicate(vault, there)

    assert not list(there.list(names.LEDGER))


def test_somebody_who_writes_to_the_replica_is_found_out() -> None:
    """A record that the vault does not have: another history, and nothing is put over it."""
    vault, there = pair()
    replicate(vault, there)
    fork = load({**dump(there), names.HEADER: vault._session.store.get(names.HEADER)})
    with reopen(fork) as other:
        fill(other, 7)
    fill(vault, 2)
    before = dump(fork)
    fork.put(names.HEADER, there.get(names.HEADER), if_absent=False)
    before = dump(fork)

    with pytest.raises(lb.RollbackDetected, match="somebody has written to the replica") as caught:
        replicate(vault, fork)

    assert caught.value.kind == "fork"
    after = dump(fork)
    assert {n: after[n] for n in before if n.startswith("ledger")} == {
        n: before[n] for n in before if n.startswith("ledger")
    }


def test_replica_that_was_rolled_back_is_filled_again() -> None:
    """Its provider has put an old copy back: what is missing is put again."""
    vault, there = pair()
    replicate(vault, there)
    old = dump(there)
    fill(vault, 2)
    replicate(vault, there)
    rolled = load(old)
    fill(vault, 3)

    assert replicate(vault, rolled).ok

    with copy_of(rolled) as copy:
        assert read_all(copy) == read_all(vault)


def test_void_records_are_copied_as_they_are() -> None:
    """Garbage, and what was signed beyond a right: readers of the replica fold the same."""
    vault, there = pair()
    garbage = names.record_name(len(vault.ledger))
    vault._session.store.store.put(garbage, b"garbage", if_absent=True)
    vault._session.log.refresh()
    fill(vault, 2)

    replicate(vault, there)

    with copy_of(there) as copy:
        assert read_all(copy) == read_all(vault)
        assert [alarm.index for alarm in copy._session.log.state.alarms] == [int(garbage[-20:])]


def test_long_ledgers_come_with_their_summary() -> None:
    """A replica opens as quickly as the vault: from the summary, and a record or two."""
    vault, there = pair()
    for _ in range(70):
        vault.check()
    replicate(vault, there)
    counted = CountingStore(there)

    with copy_of(counted) as copy:
        assert read_all(copy) == read_all(vault)

    assert vault._session.log.state.last_summary > 0
    assert len(list(there.list(names.SUMMARY))) == 1
    assert counted.snapshot().requests["get"] < 60


# ---- readers


def test_opener_passes_over_records_above_a_gap(tmp_path: Path) -> None:
    """While records are being put, downwards, the old head counts; also for who knows more."""
    vault, there = pair()
    for _ in range(70):
        vault.check()
    replicate(vault, there)
    before, held = len(vault.ledger), read_all(vault)
    for number in range(2, 40):
        fill(vault, number, 10)
    stopped = FaultStore(there, script(Rule(Crash("before"), "put", names.record_name(before + 1))))
    with pytest.raises(Crashed):
        replicate(vault, stopped)
    with reopen(vault._session.store.store, state_dir=tmp_path, read_only=True):
        pass

    for state_dir in (None, tmp_path):
        with copy_of(there, state_dir=state_dir) as copy:
            assert len(copy.ledger) == before
            assert read_all(copy) == held
            assert copy.freshness == ("behind" if state_dir else "unknown")
            if state_dir is None:
                assert copy.check(data=True).ok
    replicate(vault, there)
    with copy_of(there, state_dir=tmp_path) as copy:
        assert read_all(copy) == read_all(vault)


def test_old_head_keeps_its_keys_until_newcomers_have_their_record() -> None:
    """A shard with newcomers takes the place of another; readers of the old head need that one."""
    vault, there = pair()
    vault.backup([lb.Item("a", data=b"a", subject="user-42")], name="n")
    replicate(vault, there)
    held = read_all(vault)
    vault.backup([lb.Item("a", data=b"a", subject="user-43")], name="n")
    stopped = FaultStore(there, script(Rule(Crash("before"), "put", "ledger/*")))
    with pytest.raises(Crashed):
        replicate(vault, stopped)

    with copy_of(there) as copy:
        assert read_all(copy) == held

    replicate(vault, there)
    shards = {entry.key for entry in there.list(names.SHARDS)}
    current = vault._session.log.state.shards.values()
    assert shards == {names.shard_name(digest) for digest in current}
    assert replicate(vault, there).objects == 0


def test_replica_that_was_never_filled_says_so() -> None:
    """Its first record comes last, so there is all of it or nothing."""
    vault, there = pair()
    stopped = FaultStore(there, script(Rule(Crash("before"), "put", names.record_name(0))))
    with pytest.raises(Crashed):
        replicate(vault, stopped)

    with pytest.raises(lb.FormatError, match="not filled yet"):
        copy_of(there)


def test_open_replica_goes_on_when_it_is_brought_up_to_date() -> None:
    """Each verb folds what has come since, as on the vault."""
    vault, there = pair(grace_s=0)
    replicate(vault, there)
    with copy_of(there) as copy:
        old = read_all(copy)
        vault.forget(vault.snapshot("latest"), reason="test")
        fill(vault, 2)
        vault.prune()
        replicate(vault, there)
        replicate(vault, there)

        assert read_all(copy) == read_all(vault) != old


def test_replica_behind_a_change_of_keys_is_refused_by_who_knows_of_it(tmp_path: Path) -> None:
    """Behind by backups is no matter; behind an erasure or a removed credential is."""
    vault, there = pair()
    replicate(vault, there)
    fill(vault, 2)
    with reopen(vault._session.store.store, state_dir=tmp_path, read_only=True):
        pass
    with copy_of(there, state_dir=tmp_path) as copy:
        assert copy.freshness == "behind"
    with pytest.raises(lb.RollbackDetected):
        copy_of(there, head=vault.head)
    vault.keys.rotate()
    with reopen(vault._session.store.store, state_dir=tmp_path, read_only=True):
        pass

    with pytest.raises(lb.RollbackDetected, match="before the vault's keys were last") as caught:
        copy_of(there, state_dir=tmp_path)

    assert caught.value.kind == "behind_keys"
    replicate(vault, there)
    with copy_of(there, state_dir=tmp_path) as copy:
        assert read_all(copy) == read_all(vault)


# ---- what goes


class Locked(WrapperStore):
    """Keeps a version of every pack that is deleted."""

    def delete(self, key: str) -> Remains:
        """Say that something is left."""
        if key.startswith(names.PACKS):
            raise PermissionError("locked")
        return super().delete(key)


def test_replica_is_swept_a_run_after_it_has_the_records(tmp_path: Path) -> None:
    """Readers have until then to fold; what the store refuses is reported and tried again."""
    clock = Clock()
    vault, there = pair(grace_s=3600, clock=clock)
    replicate(vault, there)
    vault.forget(vault.snapshot("latest"), reason="test")
    vault.prune()
    replicate(vault, there)
    clock.pass_by(hours=2)
    vault.prune()
    condemned = {entry.key for entry in there.list(names.PACKS)}
    assert condemned

    locked = replicate(vault, Locked(there))
    assert (locked.ok, locked.kept) == (False, 1)
    assert {entry.key for entry in there.list(names.PACKS)} == condemned
    free = replicate(vault, there)

    assert (free.ok, free.swept) == (True, 1)
    assert not list(there.list(names.PACKS))
    assert replicate(vault, there).swept == 0


def test_info_shows_replicas_with_their_lag() -> None:
    """What the ledger knows: where, how far behind, and since when; the replica says what it is."""
    vault, there = pair()
    assert "replica" not in str(vault.info())
    replicate(vault, there, "europe-north1")
    assert "memory://copy (europe-north1): up to date" in str(vault.info())
    fill(vault, 2)
    fill(vault, 3)

    assert vault.info().replicas[0].behind == 2
    assert "2 records behind" in str(vault.info())
    with copy_of(there) as copy:
        assert copy.info().is_replica
        assert "read-only until promote" in str(copy.info())


def test_lost_replica_may_not_come_back() -> None:
    """Erasures went on without it; the ledger says who gave it up, and why."""
    vault, there = pair()
    replicate(vault, there)
    with pytest.raises(lb.NotFoundError):
        vault.declare_lost("memory://other", reason="gone")

    vault.declare_lost(URL, reason="region closed")

    assert [one.is_lost for one in vault.replicas] == [True]
    assert "declared lost" in str(vault.replicas[0])
    with pytest.raises(lb.InputError, match="declared lost"):
        replicate(vault, there)
    reasons = [e.reason for e in vault.ledger.entries() if e.kind == "replica-lost"]
    assert reasons == ["region closed"]
