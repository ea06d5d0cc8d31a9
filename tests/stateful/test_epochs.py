"""Changes of epoch, call by call: killed anywhere, and between any two calls of others."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from tests.stateful.processes import Process, Shared, still
from tests.stateful.world import Content, World, content

from loopbackup.errors import CredentialError, LoopbackupError, NotFoundError
from loopbackup.testing.faults import (
    Crash,
    Crashed,
    Fault,
    FaultStore,
    LostRequest,
    LostResponse,
    script,
)
from loopbackup.vault.format import codec, names
from loopbackup.vault.format import record as rec
from loopbackup.vault.keys.credentials import Seed
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.vault import Vault

SECOND = Seed(b"2" * 32)
ITEMS: Content = {
    "user-42/a": (content(0, 700), "user-42"),
    "acme/b": (content(1, 15_000), "Acme AB"),
    "house": (content(2, 40), None),
}
MORE: Content = {**ITEMS, "user-43/c": (content(3, 900), "user-43")}


@pytest.fixture
def world() -> Iterator[World]:
    """A vault with a snapshot, without chance and without a grace."""
    with still():
        world = World(Shared(grace_s=0))
        world.process().run(world.backup("mail", ITEMS))
        try:
            yield world
        finally:
            world.close()


def add(vault: Vault) -> None:
    """Add a slot."""
    vault.keys.add(SECOND)


def rotate(vault: Vault) -> None:
    """Change all keys."""
    vault.keys.rotate()


def add_and_remove(vault: Vault) -> None:
    """Remove a slot that was added."""
    vault.keys.remove(vault.keys.add(SECOND))


def erase(vault: Vault) -> None:
    """Erase somebody; here one of whom nothing is stored."""
    vault.erase_subjects(["user-44"], reason="request 118")
    assert vault._session.keyring.find(("user-44",)) is None


CHANGES = {"add": add, "rotate": rotate, "remove": add_and_remove, "erase": erase}
changes = pytest.mark.parametrize("change", sorted(CHANGES))


def key_objects(store: MemoryStore) -> set[str]:
    """List what lies below ``keys/``."""
    return {entry.key for entry in store.list("keys/")}


def assert_only_the_current_keys(world: World) -> None:
    """Hold the key objects in the store against those that the ledger names."""
    world.live()
    state = world.onlooker.log.state
    wanted = {names.root_name(state.epoch)}
    wanted |= {names.slot_name(state.epoch, slot) for slot, _, _ in state.slots}
    wanted |= {names.shard_name(digest) for digest in state.shards.values()}
    assert key_objects(world.shared.store) == wanted


def new_subject(vault: Vault) -> None:
    """Make a domain that a change may drop."""
    from loopbackup.vault.verbs.domains import ensure_domains

    session = vault._session
    ensure_domains(session.store, session.log, session.keyring, [("user-44",)])


def struck(world: World, change: Callable[[Vault], None], number: int, fault: Fault) -> bool:
    """Make a change whose call *number* is struck; False if it ended before."""
    world.process().run(new_subject)
    process = Process(world.shared)
    process.begin(change)
    for _ in range(number - 1):
        if process.pending is None:
            return False
        process.step()
    if process.pending is None:
        return False
    process.step(fault)
    with contextlib.suppress(Crashed, LoopbackupError):
        process.finish()
    return True


@changes
@pytest.mark.parametrize("when", ["before", "after"])
def test_crash_at_any_call_leaves_exactly_one_epoch_that_opens(change: str, when: Any) -> None:
    """The old one or the new one; a prune clears up, and the change can be made again."""
    number, ended = 1, False
    while not ended:
        with still():
            world = World(Shared(grace_s=0))
            try:
                world.process().run(world.backup("mail", ITEMS))
                ended = not struck(world, CHANGES[change], number, Crash(when))
                world.check_quiet()
                world.process().run(World.prune)
                assert_only_the_current_keys(world)
                world.process().run(new_subject)
                world.process().run(CHANGES[change])
                world.process().run(World.prune)
                world.check_quiet()
                assert_only_the_current_keys(world)
            finally:
                world.close()
        number += 1
    assert number > 10


@changes
@pytest.mark.parametrize("fault", [LostRequest(), LostResponse()], ids=["request", "response"])
def test_lost_call_harms_nobody(change: str, fault: Fault) -> None:
    """Whatever becomes of the change, one epoch opens, and what is reported is true."""
    number, ended = 1, False
    while not ended:
        with still():
            world = World(Shared(grace_s=0))
            try:
                world.process().run(world.backup("mail", ITEMS))
                ended = not struck(world, CHANGES[change], number, fault)
                world.check_quiet()
            finally:
                world.close()
        number += 1


def beside(
    slow: Callable[[World], Callable[[Vault], Any]],
    fast: Callable[[World], Callable[[Vault], Any]],
) -> int:
    """Run a verb, and another one in full before each of its calls in turn; give how many calls."""
    stop = 0
    while True:
        with still():
            world = World(Shared(grace_s=0))
            try:
                first, second = world.process(), world.process()
                first.run(world.backup("mail", ITEMS))
                first.run(new_subject)
                first.begin(slow(world))
                for _ in range(stop):
                    if first.pending is not None:
                        first.step()
                done = first.pending is None
                second.run(fast(world))
                first.finish()
                assert world.onlooker.log.state.alarms == ()
                world.check_quiet()
            finally:
                world.close()
        if done:
            return stop
        stop += 1


def backup(world: World) -> Callable[[Vault], Any]:
    """Back up with a subject that is new."""
    return world.backup("mail", MORE)


def read(world: World) -> Callable[[Vault], Any]:
    """Read the last snapshot in full."""
    return world.read(world.live()[-1])


def prune(_world: World) -> Callable[[Vault], Any]:
    """Prune; nothing is young enough to stay."""
    return World.prune


def rotating(_world: World) -> Callable[[Vault], Any]:
    """Rotate."""
    return rotate


def adding(_world: World) -> Callable[[Vault], Any]:
    """Add a slot."""
    return add


def erasing(_world: World) -> Callable[[Vault], Any]:
    """Erase somebody."""
    return erase


VERBS = {"backup": backup, "read": read, "prune": prune, "rotate": rotating, "add": adding}


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_verb_goes_on_over_a_rotation_before_any_of_its_calls(verb: str) -> None:
    """It follows to the new keys by itself, commits what it meant to, and nothing is void."""
    assert beside(VERBS[verb], rotating) > 2


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_rotation_goes_on_whatever_others_do_before_any_of_its_calls(verb: str) -> None:
    """What was built on what no longer holds is built again."""
    assert beside(rotating, VERBS[verb]) > 10


@pytest.mark.parametrize("verb", ["backup", "rotate", "prune", "add"])
def test_erasing_goes_on_whatever_others_do(verb: str) -> None:
    """The base of an erasure: the domain is in no shard of the epoch that counts."""
    assert beside(erasing, VERBS[verb]) > 10


def test_two_rotations_at_once_both_count(world: World) -> None:
    """The slower one is built anew on the faster one's keys."""
    first, second = world.process(), world.process()
    first.begin(rotate)
    first.until_record("epoch")

    second.run(rotate)
    first.finish()

    world.check_quiet()
    assert world.onlooker.keyring.root.generation == 3
    assert_only_the_current_keys(world)


def test_slot_that_two_remove_at_once_is_removed_once(world: World) -> None:
    """The slower one is told that it is gone."""
    first, second = world.process(), world.process()
    slot = first.run(lambda vault: vault.keys.add(SECOND))
    first.begin(lambda vault: vault.keys.remove(slot))
    first.until_record("epoch")

    second.run(lambda vault: vault.keys.remove(slot))

    with pytest.raises(NotFoundError):
        first.finish()
    world.check_quiet()


def test_two_who_remove_each_other_leave_one(world: World) -> None:
    """The last slot stays: the slower one finds itself removed."""
    shared = world.shared
    first = Process(shared)
    theirs = first.run(lambda vault: vault.keys.add(SECOND))
    mine, own = first.vault.keys.current, shared.seed
    shared.seed = SECOND
    second = Process(shared)
    first.begin(lambda vault: vault.keys.remove(theirs))
    first.until_record("epoch")

    second.run(lambda vault: vault.keys.remove(mine))

    with pytest.raises(CredentialError) as caught:
        first.finish()
    assert caught.value.kind == "slot_removed"
    slots = [slot.hex() for slot, _, _ in second.session.log.state.slots]
    assert slots == [theirs]
    assert shared.open(shared.store).slot.hex() == theirs
    shared.seed = own
    with pytest.raises(CredentialError):
        shared.open(shared.store)


def test_record_of_a_writer_with_stale_keys_is_void(world: World) -> None:
    """Signed with the old house key, and put where the next record belongs."""
    process = world.process()
    session = process.session
    signer, epoch, root = session.log.signer, session.epoch, session.log.state.root
    assert signer is not None
    process.run(rotate)
    state = session.log.state
    for names_epoch, names_root in ((epoch, root), (state.epoch, state.root)):
        state = session.log.state
        frame = rec.Frame(
            rec.VERSION,
            state.size,
            bytes(16),
            state.tree.head(),
            names_epoch,
            names_root,
            signer.writer,
            0,
            "refused",
            [],
            msgspec.Raw(codec.encode(rec.Refused(1))),
        )
        data = rec.encode_record(frame, (), vault_id=session.header.vault_id, key=signer.key)
        session.store.put(names.record_name(state.size), data)
        session.log.refresh()

    process.run(world.backup("mail", MORE))

    reasons = [alarm.reason for alarm in session.log.state.alarms]
    assert reasons == ["signed by nobody who is enrolled"] * 2
    assert len(world.live()) == 2


def test_writer_who_comes_late_follows(world: World) -> None:
    """A commit that was about to be made on the old keys is made on the new ones instead."""
    late, other = world.process(), world.process()
    late.begin(world.backup("mail", MORE))
    late.until_record("snapshot")
    other.run(rotate)

    late.finish()

    world.check_quiet()
    assert len(world.live()) == 2
    assert world.onlooker.log.state.alarms == ()


def test_epoch_that_a_prune_condemned_while_it_was_built_is_built_again(world: World) -> None:
    """However long its builder slept: nobody commits keys that are about to be swept."""
    builder, pruner = world.process(), world.process()
    builder.begin(rotate)
    builder.until_record("epoch")
    before = key_objects(world.shared.store)

    world.shared.clock.pass_time(10)
    pruner.run(World.prune)
    assert key_objects(world.shared.store) < before
    builder.finish()

    world.check_quiet()
    pruner.run(World.prune)
    world.check_quiet()
    assert_only_the_current_keys(world)


def test_prune_that_planned_before_an_epoch_does_not_condemn_its_keys(world: World) -> None:
    """What was unknown when it looked is current when it commits."""
    pruner, builder = world.process(), world.process()
    builder.begin(rotate)
    builder.until_record("epoch")
    world.shared.clock.pass_time(10)
    pruner.begin(World.prune)
    pruner.until_record("prune")

    builder.finish()
    pruner.finish()

    world.check_quiet()
    assert world.onlooker.log.state.alarms == ()


def test_million_subjects_cost_an_erasure_less_than_a_megabyte(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the shard of the domain is written, and only it and the young ones are read."""
    from loopbackup.vault.keys import keyring
    from loopbackup.vault.verbs.domains import ensure_domains

    monkeypatch.setattr(keyring, "YOUNG_LIMIT_BYTES", 400)
    session = world.process().session
    for at in range(0, 240, 8):
        batch = [("acme", f"user-{number}") for number in range(100 + at, 108 + at)]
        ensure_domains(session.store, session.log, session.keyring, batch)
    watched = FaultStore(world.shared.store, script())
    session = world.shared.open(watched)
    domain = session.keyring.find(("acme", "user-104"))
    assert domain is not None
    shards = len(session.log.state.shards)
    watched.calls.clear()

    receipt = Vault(session, None).erase_subjects([("acme", "user-104")], reason="request 118")

    touched = [c for c in watched.calls if c.key.startswith("keys/shard/") and c.method != "delete"]
    assert receipt.facts["domains"] == [domain.id.hex()]
    assert shards > 60
    assert len([call for call in touched if call.method == "put"]) == 1
    assert len({call.key for call in touched}) < 20
    assert session.keyring.find(("acme", "user-104")) is None
    assert session.keyring.find(("acme", "user-105")) is not None
