"""An erasure is complete once nothing is left on any store; the ledger knows that of replicas."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from fnmatch import fnmatch
from typing import Literal

import pytest
from tests.e2e.support import Clock, create, dump, load, noise, reopen

import loopbackup as lb
from loopbackup.testing.faults import Call, Crash, Crashed, Delayed, FaultStore, Rule, script
from loopbackup.vault.format import names
from loopbackup.vault.format.replicafacts import MAX_NAMED
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.store.protocol import Remains, Store
from loopbackup.vault.store.wrappers import WrapperStore
from loopbackup.vault.verbs import replica_keys, replica_note
from loopbackup.vault.verbs.replica_content import SETTLED_S
from loopbackup.vault.verbs.replica_copy import Copied
from loopbackup.vault.verbs.replica_keys import BuriedKeys
from loopbackup.vault.verbs.replica_note import Progress, note
from loopbackup.vault.verbs.replica_sweep import MAX_KEPT
from loopbackup.vault.verbs.replicate import Replicated, run_replicate

URL = "memory://copy"
ACME, OTHER = ("acme", "user-42"), ("acme", "user-4")
GRACE_S = 7200


class World:
    """A vault of two people that has a replica, and the clock of both."""

    def __init__(self, *, grace_s: int = GRACE_S, is_replicated: bool = True) -> None:
        self.clock = Clock()
        self.store = MemoryStore(clock=self.clock)
        self.there = MemoryStore(clock=self.clock)
        create(self.store, grace_s=grace_s, clock=self.clock)
        self.vault = self.open()
        self.vault.backup(
            [
                lb.Item(f"{p[1]}/{n}", data=noise(80_000, f"{p}{n}"), subject=p)
                for p in (ACME, OTHER)
                for n in range(6)
            ],
            name="n",
        )
        if is_replicated:
            self.replicate()

    def open(self, store: Store | None = None) -> lb.Vault:
        """Open the vault as another process would."""
        return reopen(store or self.store, clock=self.clock)

    def replicate(
        self, store: Store | None = None, vault: lb.Vault | None = None, url: str = URL
    ) -> Replicated:
        """Replicate into the replica's store, or through another handle of it."""
        vault, target = vault or self.vault, store or self.there
        return run_replicate(vault._session, vault._actor, url, lambda: target, "europe-north1")

    def erase(self, store: Store | None = None) -> lb.Receipt:
        """Erase one of the two, with the replica at hand."""
        target = store or self.there
        self.vault._session.replicas = {URL: lambda: target}
        return self.vault.erase_subjects([ACME], reason="request 118")

    def night(self, store: Store | None = None) -> Replicated:
        """Prune and replicate, and let the grace pass."""
        self.vault.prune()
        done = self.replicate(store)
        self.clock.pass_by(seconds=GRACE_S + 60)
        return done

    def standing(self, first: lb.Receipt, store: MemoryStore | None = None) -> list[str]:
        """Say which objects of the replica know of the domains that a receipt names."""
        gone = {bytes.fromhex(domain) for domain in first.facts["domains"]}
        found = []
        here = load({**dump(self.store), **dump(store or self.there)})
        with reopen(load(dump(self.store))) as vault:
            vault._session.store.store = here
            for prefix, letter in (("packs/", b"p"), ("index/", b"i")):
                for entry in (store or self.there).list(prefix):
                    reader = vault._session.index.pack(letter + bytes.fromhex(entry.key[-64:]))
                    found += [entry.key] if gone & set(reader.domains()) else []
        return found


# ---- what completes it


def test_erasure_is_completed_by_the_replication_that_leaves_nothing() -> None:
    """The vault's own store was done before; the receipt names both, and when each was."""
    world = World()
    first = world.erase()
    assert world.standing(first)
    assert world.night().receipts == []
    pruned = world.vault.prune()
    (waiting,) = pruned.waiting
    assert (pruned.receipts, waiting.where, waiting.objects) == ([], URL, 0)
    assert "europe-north1" in str(waiting)
    assert "replicate to it" in str(waiting)

    done = world.replicate()

    (receipt,) = done.receipts
    assert "1 erasure completed" in str(done)
    assert (receipt.stage, receipt.level) == ("completed", "E1")
    assert receipt.facts["completes"] == hashlib.sha256(first.to_json()).hexdigest()
    receipt.verify(world.vault.public_key)
    here, there = receipt.facts["physical"]["destinations"]
    (known,) = world.vault.replicas
    assert (there["store"], there["location"]) == (known.id, "europe-north1")
    assert datetime.fromisoformat(here["removed_by"]) <= world.clock.now
    assert known.replicated_at is not None
    assert there["removed_by"] == known.replicated_at.isoformat(timespec="seconds")
    stages = {place["stage"] for place in receipt.facts["keys"]["destinations"]}
    assert stages == {"keys_destroyed"}
    method = receipt.facts["verification"]["method"]
    assert "listed by a replication" in method
    assert "reported no version" in method
    for each in (first, receipt):
        assert sum("keyring root is overwritten" in limit for limit in each.limits) == 1
    assert world.standing(first) == world.standing(first, world.store) == []
    assert world.vault.receipts() == [receipt]
    assert world.replicate().receipts == world.vault.prune().receipts == []
    with reopen(world.there, read_only=True, clock=world.clock) as copy:
        assert copy.receipts() == [receipt]
        assert copy.check(data=True).ok


def test_prune_completes_it_where_the_replica_was_done_first() -> None:
    """The store of the vault keeps an object a while; the replica is waited for no more."""
    world = World()
    first = world.erase()
    world.night()
    locked = world.standing(first, world.store)[0]

    class Locked(WrapperStore):
        def delete(self, key: str) -> Remains:
            if key == locked:
                raise PermissionError("locked")
            return super().delete(key)

    with world.open(Locked(world.store)) as other:
        assert {waiting.where for waiting in other.prune().waiting} == {"primary", URL}
    assert world.replicate().receipts == []
    assert world.standing(first) == []

    (receipt,) = world.vault.prune().receipts

    assert len(receipt.facts["physical"]["destinations"]) == 2


def test_replica_that_came_after_the_receipt_is_waited_for() -> None:
    """It was filled with what counted then, the bytes of the erased among it."""
    world = World(is_replicated=False)
    first = world.vault.erase_subjects([ACME], reason="request 118")
    world.replicate()
    assert world.standing(first)
    world.night()
    assert {waiting.where for waiting in world.vault.prune().waiting} == {URL}

    (receipt,) = world.replicate().receipts

    places = receipt.facts["physical"]["destinations"]
    assert [place["location"] for place in places] == [None, "europe-north1"]
    assert all(place["removed_by"] for place in places)
    assert world.standing(first) == []


def test_replica_that_came_after_the_clearing_holds_nothing_of_it() -> None:
    """Nobody copies what is condemned: the next prune completes the erasure."""
    world = World(is_replicated=False)
    first = world.vault.erase_subjects([ACME], reason="request 118")
    world.vault.prune()
    world.replicate()
    assert world.standing(first) == []
    world.clock.pass_by(seconds=GRACE_S + 60)

    (receipt,) = world.vault.prune().receipts

    assert len(receipt.facts["physical"]["destinations"]) == 2


def test_keys_that_a_replica_still_has_are_waited_for() -> None:
    """Out of reach at the erasure, and never since: with the keys nothing is complete."""
    world = World()
    with pytest.raises(lb.ErasureIncomplete):
        world.vault.erase_subjects([ACME], reason="request 118")
    world.vault.prune()
    world.clock.pass_by(seconds=GRACE_S + 60)

    (waiting,) = world.vault.prune().waiting

    assert (waiting.where, waiting.until) == (URL, None)
    assert "old keys" in waiting.reason
    world.replicate()
    (receipt,) = world.replicate().receipts
    assert (receipt.level, receipt.facts["keys"]["destinations"][1]["stage"]) == (
        "E1",
        "keys_destroyed",
    )
    assert not any("still has old keys" in limit for limit in receipt.limits)


@pytest.mark.parametrize("is_reached", [False, True])
def test_lost_replica_is_named_with_what_may_lie_there(is_reached: bool) -> None:
    """Nobody waits for it, and the receipt does not say that its bytes are gone."""
    world = World()
    if is_reached:
        world.erase()
        world.vault.declare_lost(URL, reason="region closed")
    else:
        world.vault.declare_lost(URL, reason="region closed")
        world.vault.erase_subjects([ACME], reason="request 118")
    world.vault.prune()
    world.clock.pass_by(seconds=GRACE_S + 60)

    (receipt,) = world.vault.prune().receipts

    physical = receipt.facts["physical"]
    here, there = physical["destinations"]
    assert (there["store"], there["removed_by"]) == (world.vault.replicas[0].id, None)
    assert here["removed_by"]
    assert "declared lost" in physical["note"]
    assert receipt.facts["keys"]["destinations"][1]["stage"] == "lost"
    assert not any("keyring root is overwritten" in limit for limit in receipt.limits)
    (limit,) = [text for text in receipt.limits if "declared lost" in text]
    assert ("old keys there were deleted" in limit) == is_reached


def test_two_replicas_are_waited_for_by_name() -> None:
    """One entry a store, and one erasure that is not complete."""
    world = World()
    second = MemoryStore(clock=world.clock)
    world.replicate(second, url="memory://second")
    world.vault._session.replicas = {
        URL: lambda: world.there,
        "memory://second": lambda: second,
    }
    world.vault.erase_subjects([ACME], reason="request 118")
    world.night()
    world.replicate(second, url="memory://second")

    pruned = world.vault.prune()

    assert {waiting.where for waiting in pruned.waiting} == {URL, "memory://second"}
    assert "1 not complete yet" in str(pruned)
    assert world.replicate().receipts == []
    (receipt,) = world.replicate(second, url="memory://second").receipts
    assert len(receipt.facts["physical"]["destinations"]) == 3


# ---- what the ledger says of a replica is so


class Reading(WrapperStore):
    """Calls back once when a pack was read, before the reader has it."""

    def __init__(self, inner: Store, then: Callable[[], None]) -> None:
        super().__init__(inner)
        self._then: Callable[[], None] | None = then

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Read first."""
        data = super().get(key, start=start, length=length)
        if key.startswith(names.PACKS) and self._then is not None:
            then, self._then = self._then, None
            then()
        return data


def test_slow_copy_puts_nothing_that_was_condemned_meanwhile() -> None:
    """It read a pack, and slept while the replica was filled, swept, and said to be done."""
    world = World(is_replicated=False)
    first: list[lb.Receipt] = []

    def meanwhile() -> None:
        with world.open() as world.vault:
            world.replicate()
            first.append(world.erase())
            world.night()
            world.vault.prune()
            assert [receipt.stage for receipt in world.replicate().receipts] == ["completed"]
        assert world.standing(first[0]) == []

    slow = world.open(Reading(world.store, meanwhile))
    running = slow._session.log.lease.running
    slow._session.log.lease.running = lambda: running() + 2 * GRACE_S * len(first)
    with suppress(lb.LoopbackupError):
        world.replicate(vault=slow)

    assert first
    assert world.standing(first[0]) == []


def test_packet_that_was_under_way_for_hours_is_deleted_by_the_next_replication() -> None:
    """So is what no name in the ledger condemns any more: it does not count."""
    world = World()
    objects = dump(world.there)
    first = world.erase()
    late = world.standing(first)[0]
    world.night()
    world.vault.prune()
    world.replicate()
    world.vault.check()
    assert world.standing(first) == []
    world.there.put(late, objects[late], if_absent=True)
    world.there.put(names.pack_name(bytes(32)), b"of long ago", if_absent=True)

    assert world.replicate().swept == 2

    assert world.standing(first) == []
    with reopen(world.there, read_only=True, clock=world.clock) as copy:
        assert copy.check(data=True).ok


def test_old_copy_of_the_replica_put_back_is_swept_again() -> None:
    """By the replication that fills it again, whatever the ledger said of it."""
    world = World()
    old = dump(world.there)
    first = world.erase()
    world.night()
    world.vault.prune()
    world.replicate()
    world.there = load(old)
    world.vault.check()
    assert world.standing(first)

    world.replicate()

    assert world.standing(first) == []


def test_nothing_is_said_to_be_gone_for_good_before_a_slow_copy_must_have_seen_it() -> None:
    """Without a grace it is deleted at once, and the erasure is complete an hour later."""
    world = World(grace_s=0)
    first = world.erase()
    world.vault.prune()
    world.replicate()
    assert world.replicate().receipts == []
    assert world.standing(first) == []
    assert {waiting.where for waiting in world.vault.prune().waiting} == {URL}
    world.clock.pass_by(seconds=SETTLED_S + 60)

    assert [receipt.stage for receipt in world.replicate().receipts] == ["completed"]


class Versioned(WrapperStore):
    """Keeps a version of some of what is deleted for thirty days, and lists it no more."""

    def __init__(self, inner: MemoryStore, clock: Clock, prefix: str) -> None:
        super().__init__(inner)
        self.clock, self.prefix = clock, prefix
        self.ends: dict[str, datetime] = {}

    def delete(self, key: str) -> Remains:
        """Delete what is listed; say how long its bytes stay."""
        if key.startswith(self.prefix) and any(e.key == key for e in self.inner.list(key)):
            self.ends[key] = self.clock.now + timedelta(days=30)
        self.inner.delete(key)
        end = self.ends.get(key)
        return Remains() if end is None or end <= self.clock.now else Remains(1, end)


def test_versions_that_a_replica_keeps_are_waited_for() -> None:
    """Each replication tries again, though no listing shows them any more."""
    world = World()
    versioned = Versioned(world.there, world.clock, names.PACKS)
    first = world.erase(versioned)
    world.night(versioned)
    world.vault.prune()
    for _ in range(3):
        done = world.replicate(versioned)
        assert (done.ok, done.receipts) == (False, [])
        assert done.kept == len(versioned.ends)
        assert world.standing(first) == []
        (waiting,) = world.vault.prune().waiting
        assert (waiting.where, waiting.objects) == (URL, done.kept)
        world.clock.pass_by(days=2)
    world.clock.pass_by(days=30)

    done = world.replicate(versioned)

    assert done.ok
    assert [receipt.stage for receipt in done.receipts] == ["completed"]


def test_versions_are_remembered_by_whoever_comes_after_a_killed_sweep() -> None:
    """It had deleted, and not said what the store keeps; nothing of that is listed."""
    world = World()
    versioned = Versioned(world.there, world.clock, names.PACKS)
    world.erase(versioned)
    world.night(versioned)
    world.vault.prune()
    last = len(list(versioned.list(names.PACKS)))
    dying = FaultStore(versioned, script(Rule(Crash("after"), "delete", "packs/*")))
    with pytest.raises(Crashed):
        world.replicate(dying)
    assert len(list(versioned.list(names.PACKS))) < last

    assert world.replicate(versioned).kept == len(versioned.ends) == 1


def test_versions_in_the_vault_are_remembered_after_a_killed_sweep() -> None:
    """The same of the vault's own store: what was condemned is tried by name."""
    world = World(is_replicated=False)
    world.vault.erase_subjects([ACME], reason="request 118")
    world.vault.prune()
    world.clock.pass_by(seconds=GRACE_S + 60)
    versioned = Versioned(world.store, world.clock, names.PACKS)
    dying = FaultStore(versioned, script(Rule(Crash("after"), "delete", "packs/*")))
    with pytest.raises(Crashed), world.open(dying) as vault:
        vault.prune()

    with world.open(versioned) as vault:
        done = vault.prune()

    assert done.receipts == []
    assert done.waiting[0].objects == len(versioned.ends) == 1


def test_what_two_replications_leave_behind_is_joined() -> None:
    """The slower one knows nothing of what the other could not delete, and finds it nowhere."""
    world = World()
    versioned = Versioned(world.there, world.clock, names.PACKS)
    world.erase(versioned)
    other = world.open()
    ran: list[Replicated] = []

    def overtake(call: Call) -> None:
        if call.method == "list" and call.key == names.PACKS and not ran:
            ran.append(world.night(versioned))
            world.vault.prune()
            ran.append(world.replicate(versioned))

    world.replicate(FaultStore(versioned, overtake), other)

    assert ran[1].kept
    (known,) = world.open()._session.log.state.replicas.values()
    assert len(known.kept) == len(versioned.ends)


def test_keys_that_are_buried_twice_in_one_replication_are_remembered_from_both() -> None:
    """The keys are changed again while it copies."""
    world = World()
    versioned = Versioned(world.there, world.clock, names.KEYS)
    world.vault.keys.rotate()
    world.vault.backup([lb.Item("new", data=noise(90_000, "new"))], name="n")
    changed: list[int] = []

    def rotate(call: Call) -> None:
        if call.method == "put" and call.key.startswith(names.PACKS) and not changed:
            changed.append(len(versioned.ends))
            with world.open() as other:
                other.keys.rotate()

    world.replicate(FaultStore(versioned, rotate))

    assert 0 < changed[0] < len(versioned.ends)
    with world.open() as vault:
        (known,) = vault._session.log.state.replicas.values()
    assert known.left == versioned.ends.keys()


class Refusing(Versioned):
    """Keeps versions of keys, and may refuse to delete any for a while."""

    refuses = False

    def delete(self, key: str) -> Remains:
        """Refuse, or keep a version."""
        if self.refuses and key.startswith(self.prefix):
            raise PermissionError("locked")
        return super().delete(key)


def left_there(world: World) -> frozenset[str]:
    """Give the old key objects that the ledger names."""
    with world.open() as vault:
        (known,) = vault._session.log.state.replicas.values()
    return known.left


def test_no_version_falls_out_of_what_the_ledger_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """With more old keys than there is room for: what has no room is not touched, and listed."""
    room = 4
    for module in (replica_keys, replica_note):
        monkeypatch.setattr(module, "MAX_LEFT", room, raising=False)
    monkeypatch.setattr("loopbackup.vault.ledger.summary.SUMMARY_EVERY", 4)
    world = World()
    there = Refusing(world.there, world.clock, names.KEYS)
    for night in range(8):
        there.refuses = night % 2 == 0
        world.vault.keys.rotate()
        done = world.replicate(there)
        standing = {entry.key for entry in there.list(names.KEYS)}
        assert there.ends.keys() - standing <= left_there(world)
        assert len(left_there(world)) <= room
        assert not done.ok
    assert len(there.ends) == room
    there.refuses = False

    for _ in range(12):
        world.clock.pass_by(days=31)
        with world.open() as world.vault:
            done = world.replicate(there)

    assert done.ok
    assert left_there(world) == frozenset()
    state = world.vault._session.log.state
    current = {names.shard_name(digest) for digest in state.shards.values()}
    shards = {entry.key for entry in there.list(names.SHARDS)}
    assert shards == current


def test_old_keys_for_which_there_is_no_room_are_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An erasure is not said to hold at a replica while one of them stands."""
    monkeypatch.setattr(replica_keys, "MAX_LEFT", 1)
    monkeypatch.setattr("loopbackup.vault.ledger.summary.SUMMARY_EVERY", 4)
    world = World()
    there = Refusing(world.there, world.clock, names.KEYS)
    with pytest.raises(lb.ErasureIncomplete) as caught:
        world.erase(there)
    assert len(there.ends) == 1
    assert len(caught.value.remaining) > 1
    for _ in range(2):
        world.night(there)
        assert world.vault.prune().receipts == []
    (known,) = world.vault._session.log.state.replicas.values()
    (erasure,) = world.vault._session.log.state.erasures.values()
    assert max(known.keys, known.swept) <= erasure.record
    receipts: list[lb.Receipt] = []

    for _ in range(20):
        world.clock.pass_by(days=31)
        receipts += world.night(there).receipts

    assert [receipt.stage for receipt in receipts] == ["completed"]


def test_more_than_a_record_can_name_is_refused_and_nothing_falls_out() -> None:
    """As much as it can name, with all else that it may hold, is recorded."""
    world = World()
    (replica,) = world.vault._session.log.state.replicas.values()
    state = world.vault._session.log.state
    shards = [names.shard_name(names.content_hash(b"%d" % n)) for n in range(MAX_NAMED + 1)]
    content = frozenset(b"p" + names.content_hash(b"%d" % n) for n in range(2 * MAX_KEPT))
    done = Progress(replica.size, replica.peaks, 0, content)

    def say(left: list[str]) -> None:
        keys = BuriedKeys(state, Copied(), set(left))
        note(world.vault._session, world.vault._actor, replica.store, keys, done)

    say(shards[1:])
    with pytest.raises(lb.ConflictError):
        say(shards[:1])

    assert left_there(world) == set(shards[1:])


@pytest.mark.parametrize("what", ["keys/shard/*", "keys/*/slot-*"])
def test_old_keys_are_remembered_by_whoever_comes_after_a_killed_replication(what: str) -> None:
    """It had deleted one, of which the store keeps a version, and died before it could say so."""
    world = World()
    versioned = Versioned(world.there, world.clock, names.KEYS)
    world.vault.keys.rotate()
    dying = FaultStore(versioned, script(Rule(Crash("after"), "delete", what)))
    with pytest.raises(Crashed):
        world.replicate(dying)
    assert any(fnmatch(key, what) for key in versioned.ends)

    done = world.replicate(versioned)

    assert {name for name, _ in done.keys_left} == versioned.ends.keys() == left_there(world)


@pytest.mark.parametrize("what", ["keys/shard/*", "keys/*/slot-*", "keys/*/root"])
@pytest.mark.parametrize("is_swept", [False, True])
def test_old_keys_in_the_vault_are_remembered_after_a_killed_erasure(
    what: str, is_swept: bool
) -> None:
    """Also by the sweep: as long as it does not say that all is gone, they are tried by name."""
    world = World(is_replicated=False)
    versioned = Versioned(world.store, world.clock, names.KEYS)
    dying = FaultStore(versioned, script(Rule(Crash("after"), "delete", what)))
    with world.open(dying) as world.vault, pytest.raises(Crashed):
        world.erase()
    assert any(fnmatch(key, what) for key in versioned.ends)
    if is_swept:
        with world.open(versioned) as vault:
            vault.prune()
            world.clock.pass_by(seconds=GRACE_S + 60)
            assert vault.prune().kept > 0

    with world.open(versioned) as world.vault, pytest.raises(lb.ErasureIncomplete) as caught:
        world.erase()

    assert {one.what for one in caught.value.remaining} == versioned.ends.keys()
    world.clock.pass_by(days=31)
    with world.open(versioned) as world.vault:
        assert world.erase().level == "E1"


def test_old_keys_that_are_gone_are_deleted_once_by_a_process() -> None:
    """A second change of keys asks nothing about what the first one has deleted."""
    world = World(is_replicated=False)
    watched = FaultStore(world.store)
    with world.open(watched) as vault:
        for _ in range(3):
            vault.keys.rotate()
    deleted = [call.key for call in watched.calls if call.method == "delete"]
    assert len(deleted) == len(set(deleted)) > 3


@pytest.mark.parametrize("is_replica", [True, False])
def test_old_keys_that_a_store_keeps_are_remembered(is_replica: bool) -> None:
    """Erasing again finds nothing of them in a listing, and is told so until they are gone."""
    world = World(is_replicated=is_replica)
    inner = world.there if is_replica else world.store
    versioned = Versioned(inner, world.clock, names.KEYS)
    if not is_replica:
        world.vault = world.open(versioned)
    for _ in range(3):
        with pytest.raises(lb.ErasureIncomplete) as caught:
            world.erase(versioned)
        assert {one.what for one in caught.value.remaining} == versioned.ends.keys()
        assert {one.until for one in caught.value.remaining} == set(versioned.ends.values())
        assert caught.value.receipt.level == "E0"
        if is_replica:
            assert len(world.replicate(versioned).keys_left) == len(versioned.ends)
    world.clock.pass_by(days=31)

    receipt = world.erase(versioned)

    assert receipt.level == "E1"
    if is_replica:
        assert world.replicate(versioned).ok


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_call_it_never_says_that_bytes_are_gone_that_stand(
    when: Literal["before", "after"],
) -> None:
    """Replications of two nights, cut off at each call to the replica; later ones complete it."""
    for number in range(1, 1000):
        world = World()
        first = world.erase()
        dying = FaultStore(world.there, script(Rule(Crash(when), nth=number)))
        with suppress(Crashed):
            world.night(dying)
            world.night(dying)
        if len(dying.calls) < number:
            break
        is_complete = world.vault.receipts()[0].stage == "completed"
        assert not is_complete or world.standing(first) == []
        world.clock.pass_by(seconds=GRACE_S + 60)
        for _ in range(2):
            world.night()
        assert world.vault.receipts()[0].stage == "completed"
        assert world.standing(first) == []
    assert number > 20


def test_delayed_put_of_a_replication_that_died_comes_to_nothing() -> None:
    """Its packet lands after the erasure was completed; the next replication takes it away."""
    world = World(is_replicated=False)
    slow = FaultStore(
        world.there,
        script(Rule(Delayed(), "put", "packs/*"), Rule(Crash("before"), "put", "packs/*", nth=2)),
    )
    with pytest.raises(Crashed):
        world.replicate(slow)
    world.replicate()
    first = world.erase()
    world.night()
    world.night()
    assert world.vault.receipts()[0].stage == "completed"
    assert slow.release() == 1
    world.vault.check()

    world.replicate()

    assert world.standing(first) == []
