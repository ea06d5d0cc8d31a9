"""
Opening a replica: its head below a gap, how far it may be behind, keys ahead of its records.

An erasure reaches the keys of a replica before the records that tell of it. Whoever
opens it at its old head finds a tombstone in the place of the keyring root, and
goes on with the keys that it names.
"""

from __future__ import annotations

from array import array

from attrs import evolve
from msgspec import structs

from ...errors import DamagedData, NotFoundError, RollbackDetected
from ...logs import get_logger
from ..format import names
from ..format.bounds import MAX_TOMBSTONE_BYTES
from ..format.header import Header
from ..format.tombstone import MAGIC, Tombstone, decode_tombstone, is_tombstone
from ..store.seam import StoreSeam
from .fences import of_others
from .memory import Head, rolled_back
from .state import State, epoch_short

__all__ = ["buried_by", "followed", "gapless", "is_past", "keys_over", "lag"]


def gapless(store: StoreSeam) -> int:
    """
    Say up to which number a replica has all records; those above a gap are being put.

    Cost: one LIST of the ledger.
    """
    numbers = array("Q")
    for entry in store.list(names.LEDGER):
        index = names.record_index(entry.key)
        if index is not None:
            numbers.append(index)
    for expected, index in enumerate(sorted(numbers)):
        if index != expected:
            return expected
    return len(numbers)


def lag(
    size: int, epoch: bytes, head: Head | None, seen: Head | None, known_epoch: bytes | None
) -> int:
    """
    Say how many records a replica of *size* lacks of those that this host has *seen*.

    Args:
        epoch: Whose keys it is read with.
        head: What the caller demands.
        known_epoch: The epoch at *seen*.

    Raises:
        RollbackDetected: It ends before *head*, or before keys were changed of
            which this host knows: it may show what was erased since, or what
            somebody who was removed has made up.
    """
    if head is not None and size < head.size:
        raise rolled_back(size, head.size)
    if seen is None or size >= seen.size:
        return 0
    if epoch != known_epoch:
        raise RollbackDetected(
            f"this replica ends at ledger record {size - 1}, before the vault's keys were last "
            "changed, by an erasure or to lock somebody out. Nothing was read. Replicate to "
            "it first, or open another store of the vault",
            kind="behind_keys",
            seen=seen.size,
            found=size,
        )
    get_logger().warning("this replica is behind", records=seen.size - size)
    return seen.size - size


def buried_by(store: StoreSeam, header: Header, epoch: bytes, before: int) -> Tombstone | None:
    """
    Read the tombstone over the root of *epoch*; None if there is none.

    Args:
        before: How many records are folded: it was made after them.

    Raises:
        DamagedData: It is no good one.

    Cost: one request, of a few bytes; where there is one, another.
    """
    name = names.root_name(epoch)
    try:
        if not is_tombstone(store.get_upto(name, len(MAGIC))):
            return None
        data = store.get_whole(name, MAX_TOMBSTONE_BYTES)
    except NotFoundError:
        return None
    found = decode_tombstone(
        data, vault_id=header.vault_id, authority=header.authority, buried=epoch
    )
    if found.size <= before:
        raise DamagedData("a tombstone is older than the records before it", object=name)
    return found


def followed(first: Tombstone, then: Tombstone) -> Tombstone:
    """Give the tombstone that *first* has led to, with the fences of both."""
    return structs.replace(then, fenced=[*first.fenced, *then.fenced])


def is_past(state: State, ahead: Tombstone) -> bool:
    """Tell whether the records themselves have come to the keys of *ahead*, or beyond."""
    return state.epoch == ahead.epoch or epoch_short(ahead.epoch) in state.condemned


def keys_over(state: State, ahead: Tombstone) -> State:
    """Give *state* as whoever holds the keys of *ahead* has to see it; nothing is folded on it."""
    fenced = {**state.fenced, **dict(ahead.fenced)}
    return evolve(
        state,
        epoch=ahead.epoch,
        root=ahead.root,
        salt=ahead.salt,
        slots=tuple(ahead.slots),
        shards=dict(ahead.shards),
        fenced=fenced,
        snapshots=of_others(state.snapshots, fenced),
        marks={k: mark for k, mark in state.marks.items() if mark.domain not in fenced},
    )
