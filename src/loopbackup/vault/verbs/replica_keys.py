"""
The keys of a replica: those that count are put there first, then the old ones buried.

The name of an old root is overwritten by a tombstone and never deleted: a slow copy
then cannot create it again, and whoever opens the replica at an old head is led
on to the keys that count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from typing import Final

from attrs import define, evolve, field
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ...errors import AlreadyExistsError, ConflictError, DamagedData, StoreError
from ...logs import get_logger
from ..format import names
from ..format.bounds import MAX_ROOT_BYTES, MAX_SHARD_BYTES
from ..format.replicafacts import MAX_LEFT
from ..format.tombstone import MAGIC, Tombstone, encode_tombstone, is_tombstone
from ..keys.slots import MAX_SLOT_BYTES
from ..ledger.replicas import Replica
from ..ledger.state import State, epoch_short
from ..ledger.values import key_short
from ..store.seam import StoreSeam
from .old_keys import named_by_condemned
from .replica_copy import Copied, Wanted, copy_all
from .session import Session

__all__ = ["BuriedKeys", "delete_keys", "renew_keys"]

MAX_TRIES: Final = 16
HEAD_BYTES: Final = len(MAGIC)
ROOT_PAD: Final = 4096
SEALED: Final = 112
"""A root has this length over a multiple of that, and hardly any tombstone has."""


@define
class BuriedKeys:
    """What became of a replica's keys."""

    state: State
    """The keys of this one are there."""
    copied: Copied
    kept: set[str]
    """
    Names that the ledger has to remember, for no listing may show them: those that it names
    already, and what was tried and stayed.
    """
    left: list[tuple[str, datetime | None]] = field(factory=list)
    """Old key objects that are left, and until when the store keeps them if it says so."""
    gone: set[str] = field(factory=set)
    """Old key objects of which nothing is there any more."""
    needed: dict[str, int] = field(factory=dict)
    """
    Shards that were replaced, and by which record: whoever opens the replica needs them until
    it has that record, for nothing leads him on to others.
    """
    untouched: dict[str, int] = field(factory=dict)
    """Old key objects for which there was no room, and which record condemned them."""

    @property
    def upto(self) -> int:
        """No key object is there that a record below condemned, but for those kept."""
        waiting = [*self.needed.values(), *self.untouched.values()]
        return min(waiting, default=self.state.size)

    def leave(self, name: str, until: datetime | None) -> None:
        """Say that something of it stays, or may."""
        self.left.append((name, until))
        self.kept.add(name)

    def is_gone(self, name: str) -> None:
        """Say that nothing of it is left."""
        self.gone.add(name)
        self.kept.discard(name)

    def has_room_for(self, name: str) -> bool:
        """Tell whether it may be tried; if not, remember that, and that it is left."""
        if name in self.kept or len(self.kept) < MAX_LEFT:
            return True
        index, _ = self.state.condemned.get(key_short(name) or b"", (self.state.size, 0))
        self.untouched[name] = index
        self.left.append((name, None))
        return False


def renew_keys(session: Session, replica: Replica, target: StoreSeam) -> BuriedKeys:
    """
    Put the keys that count on a replica, then bury those that do not.

    Raises:
        ConflictError: The keys were changed again and again meanwhile.
        StoreError: The replica cannot be written to.

    Cost: one LIST; a GET and a PUT for each new key object; a PUT for each epoch
    that ended since the last time, and a delete for each slot and shard that was replaced
    since then, whether it is listed or not.
    """
    copied = Copied()
    for _ in range(MAX_TRIES):
        present = {entry.key: entry.size_bytes for entry in target.list(names.KEYS)}
        # Whoever puts keys there has folded the record that makes them count. So after
        # this fold, all that was listed and does not count is old.
        session.log.refresh()
        state = session.log.state
        wanted, taken = _wanted(session, state, target, present), None
        try:
            missing = _put(session, wanted, target, copied)
            if not missing:
                # Of what is not listed there may be versions: it was left the last time, or
                # whoever deleted it was killed before he could say so.
                named = named_by_condemned(state, lambda _, index: index >= replica.keys)
                needed = _still_needed(state, replica, present.keys() | named)
                buried = BuriedKeys(state, copied, set(replica.left), needed=needed)
                _bury(session, replica, target, present, named | replica.left, buried)
                return buried
        except AlreadyExistsError as exc:
            # A tombstone: an erasure was faster, and its record is in the ledger.
            missing, taken = [], exc
        session.log.refresh()
        now = session.log.state
        if (now.epoch, now.shards) == (state.epoch, state.shards):
            name = missing[0].name if missing else taken and taken.context.get("object")
            raise DamagedData(f"{name} is missing, or another than the ledger names", object=name)
    raise ConflictError("the vault's keys were changed again and again; replicate later")


def _wanted(
    session: Session, state: State, target: StoreSeam, present: dict[str, int]
) -> list[Wanted]:
    """Give what is to be copied: what is not there, and what is there cut short."""
    current = list(_current(state))
    sizes: dict[str, int] = {}
    if any(one.name in present for one in current):
        sizes = {entry.key: entry.size_bytes for entry in session.store.list(names.KEYS)}
    found = []
    for one in current:
        there, size = present.get(one.name), sizes.get(one.name)
        if there is None:
            found.append(one)
        elif there != size and not is_tombstone(target.get_upto(one.name, HEAD_BYTES)):
            found.append(evolve(one, replace=True))
        elif there != size:
            # To be refused: its name is taken.
            found.append(one)
    return found


def _current(state: State) -> Iterator[Wanted]:
    """Give the key objects that count, the root first: where it may not stand, nothing may."""
    epoch = state.epoch
    yield _wanted_key(names.root_name(epoch), state.root, MAX_ROOT_BYTES)
    for slot, _, digest in state.slots:
        yield _wanted_key(names.slot_name(epoch, slot), digest, MAX_SLOT_BYTES)
    for digest in state.shards.values():
        yield _wanted_key(names.shard_name(digest), digest, MAX_SHARD_BYTES)


def _wanted_key(name: str, digest: bytes, max_bytes: int) -> Wanted:
    return Wanted(name, digest, max_bytes, needed=True, short=key_short(name) or b"")


def _put(session: Session, wanted: list[Wanted], target: StoreSeam, copied: Copied) -> list[Wanted]:
    """Copy key objects; give those that are not in the source any more, or were condemned."""
    if wanted and wanted[0].name.endswith("/root"):
        first, *wanted = wanted
        missing = copy_all(session, [first], target, largest=1, done=copied)
        if missing:
            return missing
    # Shards of many subjects are large: a few at a time.
    return copy_all(session, wanted, target, largest=16 << 20, done=copied)


def _bury(
    session: Session,
    replica: Replica,
    target: StoreSeam,
    present: dict[str, int],
    named: Collection[str],
    done: BuriedKeys,
) -> None:
    """Put tombstones, then delete everything else that does not count; say what stays."""
    state = done.state
    current = {one.name for one in _current(state)}
    everything = present.keys() | named
    old = sorted(
        everything - current - done.needed.keys(), key=lambda name: (name not in replica.left, name)
    )
    roots = {name: epoch for name in old if (epoch := _epoch_of_root(name))}
    buried = {
        short[1:17]
        for short, (index, _) in state.condemned.items()
        # Nobody can have copied to it what ended before the ledger knew of it.
        if short[:1] == b"k" and index >= replica.keys
    }
    buried |= {
        epoch
        for name, epoch in roots.items()
        if name in named or present[name] % ROOT_PAD == SEALED
    }
    buried |= {epoch for name in old if name not in roots and (epoch := names.epoch_of(name))}
    for epoch in sorted(buried):
        name = names.root_name(epoch)
        try:
            target.overwrite(name, _tombstone(session, state, epoch))
        except StoreError as exc:
            get_logger().warning("a root cannot be overwritten yet", object=name, kind=exc.kind)
            if done.has_room_for(name):
                done.leave(name, None)
        else:
            done.is_gone(name)
    # An opener that found no tombstone yet may be reading them: those come last.
    delete_keys(target, [name for name in old if name not in roots], done)


def _still_needed(state: State, replica: Replica, present: Iterable[str]) -> dict[str, int]:
    """
    Give the old shards that a reader of the replica as it is may need, and what replaced them.

    A change of keys leads readers on to the shards of then; what replaced one since, as
    new domains do, they learn from its record alone.
    """
    seen = max(replica.size, state.epoch_index + 1)
    needed = {}
    for name in present:
        index, _ = state.condemned.get(key_short(name) or b"", (-1, 0))
        if names.epoch_of(name) is None and index >= seen:
            needed[name] = index
    return needed


def delete_keys(target: StoreSeam, old: Iterable[str], done: BuriedKeys) -> None:
    """
    Delete key objects of a replica; say what its store keeps.

    Versions are in no listing, so no more of them are made than a record can name. What the
    ledger names already takes no room: it comes first.
    """
    for name in old:
        if not done.has_room_for(name):
            continue
        try:
            remains = target.delete(name)
        except StoreError as exc:
            get_logger().warning("a key object cannot be deleted yet", object=name, kind=exc.kind)
            done.leave(name, None)
        else:
            if remains.versions:
                done.leave(name, remains.until)
            else:
                done.is_gone(name)


def _epoch_of_root(name: str) -> bytes | None:
    epoch = names.epoch_of(name)
    return epoch if epoch is not None and name == names.root_name(epoch) else None


def _tombstone(session: Session, state: State, epoch: bytes) -> bytes:
    # A summary forgets what was swept from everywhere: all fences then.
    ended, _ = state.condemned.get(epoch_short(epoch), (0, 0))
    root = session.keyring.root
    stone = Tombstone(
        session.header.vault_id,
        epoch,
        state.size,
        state.epoch,
        state.root,
        state.salt,
        list(state.slots),
        sorted(state.shards.items()),
        sorted((domain, index) for domain, index in state.fenced.items() if index >= ended),
        state.writers[state.house],
    )
    return encode_tombstone(stone, Ed25519PrivateKey.from_private_bytes(root.house_key))
