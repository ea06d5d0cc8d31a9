"""
Changing the epoch: all that opens the vault is made anew, proved, and committed at once.

Until the record nothing names the new keys; with it they count for everybody,
and what they replace is deleted. Killed anywhere, exactly one epoch opens.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

from attrs import define, field, frozen
from msgspec import structs

from ...errors import DamagedData, NotFoundError, StoreError
from ...logs import get_logger
from ...terms import Action, Actor
from ..format import names, seal
from ..format.bounds import MAX_ROOT_BYTES, MAX_SHARD_BYTES
from ..keys.epoch import NextEpoch, next_epoch, renew_shard
from ..keys.keyring import seal_shard
from ..keys.root import Unlocked, read_slot
from ..keys.shards import Shard
from ..keys.slots import MAX_SLOT_BYTES, SlotContext, SlotOwner, decode_slot, may_open, open_slot
from ..keys.suppress import Owned, Suppression
from ..ledger.epoch import why_void
from ..ledger.log import Draft, Rebuild, inline_or_list
from ..ledger.state import State
from ..ledger.values import key_short
from .old_keys import named_by_condemned
from .session import Session

__all__ = ["EpochChanged", "change_epoch", "delete_old_keys", "keep_slots"]

INLINE_BYTES: Final = 16 << 10
PlanSlots: TypeAlias = Callable[[Sequence[bytes], Callable[[bytes], SlotOwner]], list[SlotOwner]]
"""Gives the slots of the next epoch from the ids of the current ones, and what reads one."""


@frozen
class EpochChanged:
    """An epoch that counts now, and the number of the record that says so."""

    base: bytes
    """The epoch that it replaced."""
    epoch: bytes
    index: int
    slots: tuple[bytes, ...]
    dropped: Mapping[bytes, Owned]
    """The domains that were left out of the shards, and whose they were."""
    peaks: tuple[bytes, ...]
    """Of the tree of all records before this one: its proof of inclusion."""
    left: tuple[tuple[str, datetime | None], ...]
    """Old key objects that the store keeps, and until when if it says so."""


def keep_slots(ids: Sequence[bytes], owner: Callable[[bytes], SlotOwner]) -> list[SlotOwner]:
    """Leave the slots as they are."""
    return [owner(slot_id) for slot_id in ids]


def change_epoch(
    session: Session,
    actor: Actor,
    *,
    slots: PlanSlots = keep_slots,
    rekey: bool,
    erase: Suppression | None = None,
    judge: Callable[[], None] | None = None,
    action: str = Action.KEYS,
    reason: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> EpochChanged | None:
    """
    Begin an epoch, and delete the key objects of the one before.

    The gate is asked by whoever calls. Other processes follow with the
    credentials that they hold when they next fold.

    Args:
        slots: Which slots there are from then on; asked again after a lost race.
        rekey: Give all shards other keys and all domains a new generation, so
            that whoever knows the keys of today reads nothing that is written later.
        judge: Raises if the marks that stand forbid it; asked again when they have changed.
        erase: Subjects whose keys are left out of the shards; their domains are fenced.
        action, reason, details: For the audit trail.

    Returns:
        None where there is nobody left to erase: another erasure was faster.

    Raises:
        InputError: No slot would be left, or too many.
        DamagedData: A key object that is still needed is missing or altered,
            or what was written does not open; nothing was changed.
        StoreError: As for any commit; what was written opens nothing.

    Cost: with *rekey* all shards are read, written and read back, one after the
    other (150 MB and 3 s for a million subjects). Else the home shards of those to
    erase and the young ones are read, for a tenant all, and those that hold any of
    them written.
    """
    job = _Change(session, actor, slots, rekey, erase, judge, str(action), reason, details or {})
    index = session.log.commit(job)
    built = job.built
    assert built is not None
    if index is None:
        job.discard()
        return None
    session.log.refresh()
    left = delete_old_keys(session)
    ids = tuple(slot.id for slot in built.keys.slots)
    return EpochChanged(
        built.base.epoch,
        built.keys.root.epoch,
        index,
        ids,
        built.dropped,
        job.peaks,
        tuple(left),
    )


@frozen
class _Built:
    """An epoch in the store that is not committed yet, and what it was built from."""

    base: State
    keys: NextEpoch
    changes: tuple[tuple[int, bytes, bytes], ...]
    dropped: Mapping[bytes, Owned]

    def fits(self, state: State) -> bool:
        """Tell whether it can be committed on *state*; a new shard would be left unreadable."""
        return (state.epoch, state.shards) == (self.base.epoch, self.base.shards) and (
            why_void(state, self.keys.facts(self.changes)) is None
        )


@define(eq=False)
class _Change:
    """One change of epoch, over as many attempts as it takes."""

    session: Session
    actor: Actor
    slots: PlanSlots
    rekey: bool
    erase: Suppression | None
    judge: Callable[[], None] | None
    action: str
    reason: str | None
    details: Mapping[str, Any]
    commit_id: bytes = field(factory=lambda: os.urandom(16))
    built: _Built | None = None
    peaks: tuple[bytes, ...] = ()
    judged: object = None
    """What was looked at when nothing was found to stand against it."""

    def validate(self, state: State) -> Draft | Rebuild | None:
        """Commit what was built if nothing that it was built from has moved."""
        is_judged = self.judge is None or _evidence(state) == self.judged
        if self.built is None or not is_judged or not self.built.fits(state):
            return Rebuild(self._build)
        if self.erase is not None and not self.built.dropped:
            return None
        facts = self.built.keys.facts(self.built.changes)
        if self.erase is not None:
            joined = b"".join(sorted(self.built.dropped))
            inline, listed = inline_or_list(self.session.store, joined, INLINE_BYTES)
            facts = structs.replace(
                facts, erasure=self.erase.erasure, erased=inline, erased_list=listed
            )
        self.peaks = tuple(state.tree.peaks)
        audit = self.session.audit(self.actor, self.action, reason=self.reason, **self.details)
        return Draft("epoch", facts, [audit])

    def _build(self, state: State) -> None:
        """Write the next epoch's objects, and open them; leave it where the state moves on."""
        self.discard()
        if self.judge is not None:
            # It reads the newest state, which may be newer than this one; never older.
            self.judged = _evidence(self.session.log.state)
            self.judge()
        try:
            self._write(state)
        except (DamagedData, NotFoundError):
            # Another change of epoch deletes what this one reads, a prune what it has written.
            self.session.log.refresh()
            now = self.session.log.state
            seen = (state.epoch, state.shards, len(state.condemned))
            if (now.epoch, now.shards, len(now.condemned)) == seen:
                raise

    def _write(self, state: State) -> None:
        session, keyring = self.session, self.session.keyring
        root = keyring.root
        if root.epoch != state.epoch:
            return
        kept = {slot_id: digest for slot_id, _, digest in state.slots}
        public = {slot_id: key for slot_id, _, key in root.slots}

        def owner(slot_id: bytes) -> SlotOwner:
            slot = read_slot(session.store, state.epoch, slot_id, kept[slot_id])
            if slot.public_key != public.get(slot_id):
                raise DamagedData("a key slot is not the one that the keyring root names")
            return slot.owner

        owners = self.slots(list(kept), owner)
        numbers, dropped = self._to_rewrite(state)
        taken = frozenset(dropped.values())
        keys = next_epoch(root, owners, numbers, renew=self.rekey)
        changes = []
        for number in numbers:
            shard = self._shard(state, number)
            if self.erase is not None:
                carried = self.erase.carried(number, state.shards)
                shard = Shard.build(self.erase.apply(number, shard, taken, carried))
            if self.rekey:
                shard = renew_shard(shard, keys.root.generation)
            data = seal_shard(keys.root, number, shard)
            digest = names.content_hash(data)
            session.store.put(names.shard_name(digest), data)
            changes.append((number, state.shards[number], digest))
        for name, data in keys.objects.items():
            session.store.put(name, data)
        self.built = _Built(state, keys, tuple(changes), dropped)
        self._prove()
        session.expect(Unlocked(keys.root, session.slot))

    def _to_rewrite(self, state: State) -> tuple[list[int], dict[bytes, Owned]]:
        """Give the shards that get other keys, and the domains that they lose."""
        dropped: dict[bytes, Owned] = {}
        numbers: list[int] = []
        if self.erase is not None:
            numbers = self.erase.numbers(state.shards)
            for number in numbers:
                dropped |= self.erase.find(number, self._shard(state, number))
        if self.rekey:
            return sorted(state.shards), dropped
        taken = frozenset(dropped.values())
        changed = [n for n in numbers if self._changes(state, n, taken)]
        return changed, dropped

    def _changes(self, state: State, number: int, taken: frozenset[Owned]) -> bool:
        assert self.erase is not None
        shard = self._shard(state, number)
        rows = self.erase.apply(number, shard, taken, self.erase.carried(number, state.shards))
        return [row[1] for row in rows] != [row[1] for row in shard.rows()]

    def _shard(self, state: State, number: int) -> Shard:
        shard = self.session.keyring.shard(state, number)
        assert shard is not None
        return shard

    def _prove(self) -> None:
        """Open what was written from the store alone, before anything can name it."""
        assert self.built is not None
        keys, store = self.built.keys, self.session.store
        vault_id = keys.root.vault_id
        context = SlotContext(vault_id, self.session.header.authority, keys.root.epoch, keys.salt)
        credential, opened = self.session.credential, None
        for slot, data in zip(keys.slots, keys.sealed_slots, strict=True):
            back = store.get_whole(names.slot_name(keys.root.epoch, slot.id), MAX_SLOT_BYTES)
            if back != data:
                raise DamagedData("a key slot reads other than it was written")
            mine = slot.id == self.session.slot and credential is not None
            if mine and credential is not None and may_open(credential.kind, slot.kind):
                opened = open_slot(decode_slot(back), credential, context, trusted=True)
                if opened is None:
                    raise DamagedData("a new key slot does not open with its credential")
        root_data = store.get_whole(names.root_name(keys.root.epoch), MAX_ROOT_BYTES)
        root = keys.prove(root_data, opened)
        for number, _, digest in self.built.changes:
            data = store.get_whole(names.shard_name(digest), MAX_SHARD_BYTES)
            key = root.shard_key(number)
            Shard(seal.open_sealed(key, seal.Kind.SHARD, vault_id, data, generation=number))

    def discard(self) -> None:
        """Delete what was built in vain: it is not committed, and cannot be any more."""
        if self.built is not None:
            built, self.built = self.built, None
            shards = [names.shard_name(digest) for _, _, digest in built.changes]
            _delete(self.session, [*built.keys.objects, *shards])


def _evidence(state: State) -> tuple[object, ...]:
    """Give what a hold or a restriction can stand on."""
    return id(state.marks), id(state.snapshots), state.marks, state.snapshots


def delete_old_keys(session: Session) -> list[tuple[str, datetime | None]]:
    """
    Delete the key objects that were ever condemned and still stand.

    An epoch record condemns them at once, and condemned is final: nobody who
    folds the ledger reads them again. What no sweep has said to be gone is tried by its
    name, listed or not: whoever was killed while he deleted it, or an earlier change of
    keys, may have left versions of it.

    Returns:
        What stays, each with the time until which the store keeps it, if known.

    Cost: one LIST, and a delete for each key object that is listed, or that was condemned
    since the last sweep; one that this process has seen gone is not asked for again.
    """
    state = session.log.state
    condemned = state.condemned
    upto, kept = state.swept.get(session.header.vault_id, (-1, frozenset()))
    unsaid = named_by_condemned(state, lambda short, index: index > upto or short in kept)
    try:
        listed = [entry.key for entry in session.store.list(names.KEYS)]
    except StoreError as exc:
        get_logger().warning("old key objects cannot be listed", kind=exc.kind)
        return [(names.KEYS, None)]
    old = [key for key in listed if key_short(key) in condemned]
    old += sorted(unsaid - set(old) - session.gone_keys)
    left = _delete(session, old)
    session.gone_keys |= set(old) - {name for name, _ in left}
    if names.root_name(state.epoch) not in listed:
        session.log.fold_further()
        # Else somebody has changed the keys in the meantime, and deletes those of before.
        if session.log.state.epoch == state.epoch:
            # It stands, for the vault was opened with it: such a listing shows nothing.
            get_logger().warning("the store does not list the keys that count")
            left.append((names.KEYS, None))
    return left


def _delete(session: Session, gone: Iterable[str]) -> list[tuple[str, datetime | None]]:
    left: list[tuple[str, datetime | None]] = []
    for name in gone:
        try:
            remains = session.store.delete(name)
        except StoreError as exc:
            get_logger().warning("a key object cannot be deleted yet", object=name, kind=exc.kind)
            left.append((name, None))
        else:
            if remains.versions:
                left.append((name, remains.until))
    return left
