"""Who opens a vault: adding, removing and changing keys, and what others notice of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.support import SEED, create, dump, items, load, new_vault, read_all, reopen

import loopbackup as lb
from loopbackup.errors import CredentialError, DamagedData, InputError, NotFoundError, PolicyError
from loopbackup.terms import AllowAll, Decision, Facts
from loopbackup.testing.faults import FaultStore, script
from loopbackup.vault.format import names
from loopbackup.vault.keys.credentials import Seed
from loopbackup.vault.keys.epoch import next_epoch
from loopbackup.vault.keys.root import read_slot
from loopbackup.vault.keys.slots import SlotOwner
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.vault import Vault

SECOND = Seed(b"2" * 32)


def filled(**options: Any) -> Vault:
    """Make a vault with two snapshots of two people and of nobody."""
    vault = new_vault(**options)
    for night in range(2):
        told = [
            lb.Item("user-42/a", data=b"about user-42 " * 500 + bytes([night]), subject="user-42"),
            lb.Item("acme/b", data=b"about Acme AB " * 500, subject=("acme", "user-42")),
            lb.Item("house", data=b"about nobody " * 500),
        ]
        vault.backup(told, name="n")
    return vault


def store_of(vault: Vault) -> MemoryStore:
    """Give the store of a vault in memory."""
    store = vault._session.store.store
    assert isinstance(store, MemoryStore)
    return store


def key_objects(vault: Vault) -> set[str]:
    """List the key objects that stand in the store."""
    return {entry.key for entry in store_of(vault).list("keys/")}


def wanted_keys(vault: Vault) -> set[str]:
    """List the key objects of the current epoch, and the shards of before that wait for a sweep."""
    state = vault._session.log.state
    found = {names.root_name(state.epoch)}
    found |= {names.slot_name(state.epoch, slot) for slot, _, _ in state.slots}
    return found | {names.shard_name(digest) for digest in state.shards.values()}


def test_added_key_opens_the_vault_and_all_that_is_in_it() -> None:
    """Who is added reads what was stored before he came, and what comes."""
    vault = filled()
    before = read_all(vault)

    slot = vault.keys.add(SECOND)

    assert slot in {info.id for info in vault.keys.list()}
    assert vault.keys.current != slot
    with reopen(store_of(vault), credential=SECOND) as second:
        assert second.keys.current == slot
        assert read_all(second) == before
        second.backup(items({"new": b"from the second"}), name="n")
        assert second.check(data=True).ok
    assert len(vault.snapshots()) == 3
    vault.close()


def test_adding_writes_no_shard_anew() -> None:
    """A few small objects, however many subjects there are."""
    vault = filled()
    shards = dict(vault._session.log.state.shards)

    vault.keys.add(SECOND)

    assert vault._session.log.state.shards == shards
    assert {name for name in key_objects(vault) if "/shard/" not in name} == {
        name for name in wanted_keys(vault) if "/shard/" not in name
    }
    vault.close()


def test_removed_key_opens_nothing_any_more() -> None:
    """Its owner is told, and everything else goes on."""
    vault = filled()
    slot = vault.keys.add(SECOND)

    vault.keys.remove(slot)

    with pytest.raises(CredentialError) as caught:
        reopen(store_of(vault), credential=SECOND)
    assert caught.value.kind == "credential"
    assert [info.id for info in vault.keys.list()] == [vault.keys.current]
    vault.backup(items({"x": b"x"}), name="n")
    assert vault.check(data=True).ok
    vault.close()


@pytest.mark.parametrize("change", ["rotate", "remove"])
def test_what_is_written_after_a_change_is_under_keys_that_are_new(change: str) -> None:
    """Neither the old root nor the old shards hold any key of it; what was there stays readable."""
    vault = filled()
    slot = vault.keys.add(SECOND)
    session = vault._session
    old = session.keyring.root
    old_domain = session.keyring.find(("user-42",))
    assert old_domain is not None

    if change == "rotate":
        vault.keys.rotate()
    else:
        vault.keys.remove(slot)
    again = vault.backup(items({"new": b"n" * 5000}, subject="user-42"), name="new")

    root, domain = session.keyring.root, session.keyring.find(("user-42",))
    assert domain is not None
    assert (old_domain.generation, domain.generation) == (1, 2)
    assert {old.shard_key(n) for n in range(272)}.isdisjoint(
        root.shard_key(number) for number in session.log.state.shards
    )
    assert old.house_key != root.house_key
    used = {
        block.generation
        for reader in session.index.segments(session.log.state)[-1:]
        for owner in (domain.id, session.keyring.meta.id)
        for block in reader.blocks(owner)
    }
    assert used == {2}
    record = session.log.state.snapshots[bytes.fromhex(again.id)]
    assert all(ref.key == "domain" or ref.ref.endswith(b"\2\0\0\0") for ref, _ in record.bodies)
    assert vault.check(data=True).ok
    vault.close()


def test_adding_begins_no_generation() -> None:
    """Nobody lost access, so data go on under the keys that they have."""
    vault = filled()

    vault.keys.add(SECOND)

    assert vault._session.keyring.root.generation == 1
    vault.close()


@pytest.mark.parametrize("change", ["add", "remove", "rotate"])
def test_keys_that_were_replaced_are_deleted_at_once(change: str) -> None:
    """Root, slots and rewritten shards of the epoch before are gone without any grace."""
    vault = filled()
    slot = vault.keys.add(SECOND)
    before = key_objects(vault)

    {
        "add": lambda: vault.keys.add(Seed(b"3" * 32)),
        "remove": lambda: vault.keys.remove(slot),
        "rotate": vault.keys.rotate,
    }[change]()

    now, wanted = key_objects(vault), wanted_keys(vault)
    assert wanted <= now
    assert now & before <= {name for name in before if "/shard/" in name}
    if change != "add":
        assert before.isdisjoint(wanted)
    vault.close()


def test_last_slot_cannot_be_removed() -> None:
    """Nothing would open the vault any more."""
    vault = filled()
    size = len(vault.ledger)

    with pytest.raises(InputError, match="last slot"):
        vault.keys.remove(vault.keys.current)

    assert len(vault.ledger) == size
    assert vault.check().ok
    vault.close()


@pytest.mark.parametrize("wrong", ["", "zz", "00" * 9, 7, None])
def test_what_is_no_slot_id_is_refused(wrong: object) -> None:
    """Before anything is written."""
    with filled() as vault, pytest.raises(InputError, match="16 hex digits"):
        vault.keys.remove(wrong)  # type: ignore[arg-type]


def test_unknown_slot_is_not_found() -> None:
    """Also one that somebody else has removed a moment ago."""
    vault = filled()
    slot = vault.keys.add(SECOND)
    vault.keys.remove(slot)

    with pytest.raises(NotFoundError) as caught:
        vault.keys.remove(slot)

    assert caught.value.kind == "slot"
    vault.close()


def test_who_removes_his_own_key_has_to_open_with_another() -> None:
    """The handle says so at every verb, and closes in peace; nothing is lost."""
    vault = filled()
    expected = read_all(vault)
    vault.keys.add(SECOND)

    vault.keys.remove(vault.keys.current)

    for verb in (vault.snapshots, vault.keys.list, vault.prune, vault.check, vault.keys.rotate):
        with pytest.raises(CredentialError) as caught:
            verb()
        assert caught.value.kind == "slot_removed"
    vault.close()
    with reopen(store_of(vault), credential=SECOND) as second:
        assert read_all(second) == expected
        assert second.check(data=True).ok


def test_other_processes_follow_with_the_key_that_they_hold() -> None:
    """Each goes on reading and writing; none has to be opened again."""
    vault = filled()
    other, reader = reopen(store_of(vault)), reopen(store_of(vault), read_only=True)
    expected = read_all(vault)

    vault.keys.rotate()
    vault.keys.rotate()

    assert read_all(reader) == expected
    other.backup(items({"x": b"x"}, subject="user-43"), name="n")
    assert other.check(data=True).ok
    assert vault._session.log.state.alarms == ()
    for one in (vault, other, reader):
        one.close()


def test_other_processes_whose_key_is_gone_are_told_so() -> None:
    """Whatever they begin; what they committed before stands."""
    vault = filled()
    slot = vault.keys.add(SECOND)
    other = reopen(store_of(vault), credential=SECOND)
    other.backup(items({"x": b"x"}), name="theirs")

    vault.keys.remove(slot)

    for _ in range(2):
        with pytest.raises(CredentialError) as caught:
            other.backup(items({"y": b"y"}), name="theirs")
        assert caught.value.kind == "slot_removed"
    other.close()
    assert [s.name for s in vault.snapshots(name="theirs")] == ["theirs"]
    assert vault.check(data=True).ok
    vault.close()


def test_key_is_changed_by_adding_and_removing(tmp_path: Path) -> None:
    """A new passphrase in, the old one out: on disk, with the real key stretching."""
    old, new = lb.Passphrase("old words"), lb.Passphrase("new words")
    with lb.Vault.create(tmp_path / "v", old, state_dir=None) as vault:
        vault.backup(items({"a": b"a"}), name="n")
        first = vault.keys.current
        vault.keys.add(new)
        with lb.Vault.open(tmp_path / "v", new, state_dir=None) as again:
            again.keys.remove(first)

    with pytest.raises(CredentialError):
        lb.Vault.open(tmp_path / "v", old, state_dir=None)
    with lb.Vault.open(tmp_path / "v", new, state_dir=None) as vault:
        assert len(vault.snapshots()) == 1
        assert vault.check(data=True).ok


def test_old_keys_that_are_put_back_open_nothing() -> None:
    """Root, slots and shards of before, back in the store after a rotation, are never asked for."""
    vault = filled()
    slot = vault.keys.add(SECOND)
    old = {name: data for name, data in dump(store_of(vault)).items() if name.startswith("keys/")}
    vault.keys.remove(slot)
    expected = read_all(vault)
    vault.close()

    store = load({**old, **dump(store_of(vault))})

    with pytest.raises(CredentialError):
        reopen(store, credential=SECOND)
    with reopen(store) as again:
        assert read_all(again) == expected
        assert again.check(data=True).ok


@pytest.mark.parametrize("what", ["root", "slot", "shard"])
def test_keys_of_another_epoch_in_the_place_of_the_current_ones_are_damage(what: str) -> None:
    """The ledger names each by its hash; the bytes of before do not have it."""
    vault = filled()
    session = vault._session
    before, old = session.log.state, dump(store_of(vault))
    vault.keys.rotate()
    state, objects = session.log.state, dump(store_of(vault))
    vault.close()
    slot = state.slots[0][0]
    number = next(iter(state.shards))
    places = {
        "root": (names.root_name(before.epoch), names.root_name(state.epoch)),
        "slot": (names.slot_name(before.epoch, slot), names.slot_name(state.epoch, slot)),
        "shard": (
            names.shard_name(before.shards[number]),
            names.shard_name(state.shards[number]),
        ),
    }
    theirs, ours = places[what]
    objects[ours] = old[theirs]

    with pytest.raises(DamagedData):
        read_all(reopen(load(objects), read_only=True))


def test_keys_of_another_vault_are_damage() -> None:
    """A root and a slot of another vault for the same credential, under this one's names."""
    one, other = filled(), filled()
    objects, theirs = dump(store_of(one)), dump(store_of(other))
    mine, foreign = one._session.log.state, other._session.log.state
    objects[names.root_name(mine.epoch)] = theirs[names.root_name(foreign.epoch)]
    slot = names.slot_name(mine.epoch, mine.slots[0][0])
    objects[slot] = theirs[names.slot_name(foreign.epoch, foreign.slots[0][0])]

    with pytest.raises(DamagedData):
        reopen(load(objects))

    one.close()
    other.close()


def test_changes_are_in_the_ledger_with_who_made_them() -> None:
    """One record each, of one kind, with the action and the actor."""
    vault = filled()
    anna = vault.acting_as(lb.Actor("user-42", roles={"admin"}))

    anna.keys.remove(anna.keys.add(SECOND))
    anna.keys.rotate()

    told = [entry for entry in vault.ledger.entries() if entry.kind == "epoch"]
    assert [(entry.actor, entry.action) for entry in told] == [("user-42", "keys")] * 3
    vault.ledger.verify()
    vault.close()


class NoKeys(AllowAll):
    """Refuses changes of keys."""

    def decide(self, action: str, facts: Facts, *, at: object) -> Decision:
        """Refuse one action."""
        return Decision(allowed=action != "keys", reasons=("not you",))


@pytest.mark.parametrize(
    ("options", "error"), [({"gate": NoKeys()}, PolicyError), ({"read_only": True}, InputError)]
)
def test_gate_decides_and_a_reader_changes_nothing(
    options: dict[str, Any], error: type[Exception]
) -> None:
    """Refused before anything is written; the slots can be seen all the same."""
    store = MemoryStore()
    create(store)
    before = dump(store)

    with reopen(store, **options) as vault:
        keys = vault.keys
        for verb in (partial(keys.add, SECOND), keys.rotate, partial(keys.remove, keys.current)):
            with pytest.raises(error):
                verb()
        assert [info.kind for info in keys.list()] == ["keyfile"]
        assert dump(store) == before


def test_damaged_slot_can_be_removed_and_hinders_nothing_else() -> None:
    """It need not be read to go; what has to move on is read, and says what is wrong."""
    vault = filled()
    slot = vault.keys.add(SECOND)
    state = vault._session.log.state
    name = names.slot_name(state.epoch, bytes.fromhex(slot))
    store_of(vault).delete(name)

    with pytest.raises(DamagedData) as caught:
        vault.keys.rotate()
    assert caught.value.object == name
    assert [problem.object for problem in vault.check().problems] == [name]
    vault.keys.remove(slot)

    assert vault.check().ok
    vault.close()


def test_at_most_64_slots() -> None:
    """One more is refused before anything is written."""
    vault = new_vault()
    for number in range(63):
        vault.keys.add(Seed(number.to_bytes(32, "big")))
    size = len(vault.ledger)

    with pytest.raises(InputError, match="64 slots"):
        vault.keys.add(SECOND)

    assert (len(vault.ledger), len(vault.keys.list())) == (size, 64)
    assert key_objects(vault) == wanted_keys(vault)
    with reopen(store_of(vault), credential=SEED) as again:
        assert again.check().ok
    vault.close()


def test_young_vault_with_a_known_head_is_folded_from_its_first_record() -> None:
    """Nobody has written a summary by then: one that is there was forged, and is not looked at."""
    vault = filled()
    head = vault.head
    vault.close()
    for known in (head, None):
        store = FaultStore(store_of(vault), script())
        reopen(store, head=known, read_only=True).close()

        listed = [call for call in store.calls if call.method == "list"]
        assert [call.key for call in listed] == ([] if known else ["summary/"])


def test_nothing_that_is_printed_shows_a_key() -> None:
    """Domains, roots and epochs stand in no log by accident."""
    vault = filled()
    session = vault._session
    domain, root = session.keyring.find(("user-42",)), session.keyring.root
    assert domain is not None

    shown = repr(domain) + repr(next_epoch(root, [slot_owner(vault)], [], renew=True))

    for secret in (domain._record.secret, root.house_key, root.shard_keys[:32]):
        assert repr(secret)[2:-1] not in shown
    vault.close()


def slot_owner(vault: Vault) -> SlotOwner:
    """Read the only slot of a vault."""
    session = vault._session
    state = session.log.state
    slot_id, _, digest = state.slots[0]
    return read_slot(session.store, state.epoch, slot_id, digest).owner
