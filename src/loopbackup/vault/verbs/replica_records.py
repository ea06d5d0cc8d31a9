"""
The records of a replica: verified on the way, and put from the last one down.

Everything that is live at the head is there before. So the lowest record that was
missing makes all of them count at once, and whatever happens on the way, whoever
opens the replica finds the old head or the new one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from attrs import define, field

from ...errors import AlreadyExistsError, DamagedData, NotFoundError, RollbackDetected
from ..format import names
from ..format import record as rec
from ..format.bounds import MAX_RECORD_BYTES
from ..ledger.replicas import Replica
from ..ledger.state import State
from ..ledger.tree import Tree, leaf_hash
from ..store.seam import StoreSeam
from .session import Session

__all__ = ["NewRecords", "fork_at", "install", "read_records"]

MAX_HELD_BYTES: Final = 8 << 20
_NOTES: Final = ("replica", "replicated")


@define
class NewRecords:
    """Records that a replica may lack, verified: from *first* up to the head."""

    first: int
    hashes: list[bytes] = field(factory=list)
    """Of the bytes of each."""
    held: dict[int, bytes] = field(factory=dict)
    """The bytes of some, so that they need not be read again."""
    noteworthy: bool = False
    """There are others than those about replicas."""


def read_records(session: Session, state: State, replica: Replica) -> NewRecords:
    """
    Read the records from where the replica was whole, and verify that they are those of *state*.

    Raises:
        DamagedData: A record is missing, or other than it was folded.

    Cost: one GET a record. Memory: 32 bytes a record, and 8 MiB of them.
    """
    tree = Tree(replica.size, replica.peaks)
    void = {alarm.index: alarm.leaf for alarm in state.alarms}
    found = NewRecords(replica.size)
    held = 0
    for index, data in _read(session, replica.size, state.size):
        tree.append_hash(_leaf(index, data, void.get(index)))
        found.hashes.append(names.content_hash(data))
        found.noteworthy |= index in void or rec.parse_record(data, index).frame.kind not in _NOTES
        if held + len(data) <= MAX_HELD_BYTES:
            held += len(data)
            found.held[index] = data
    if tree.head() != state.tree.head():
        raise DamagedData("the ledger was altered since it was folded", kind="altered_ledger")
    return found


def _read(session: Session, first: int, end: int) -> Iterator[tuple[int, bytes]]:
    keys = (names.record_name(index) for index in range(first, end))
    fetched = session.store.get_each(keys, session.executor, max_bytes=MAX_RECORD_BYTES)
    try:
        yield from enumerate(fetched, first)
    except NotFoundError as exc:
        raise DamagedData(
            f"{exc.object} is missing", kind="missing_record", object=exc.object
        ) from exc


def _leaf(index: int, data: bytes, void: bytes | None) -> bytes:
    """Give the hash of a record's leaf, which the fold knows for a void one."""
    if void is None:
        return leaf_hash(rec.parse_record(data, index).leaf)
    leaves = {leaf_hash(data)}
    with contextlib.suppress(DamagedData):
        leaves.add(leaf_hash(rec.take_apart(data).leaf))
    if void not in leaves:
        raise DamagedData(
            "the ledger was altered since it was folded",
            kind="altered_ledger",
            object=names.record_name(index),
        )
    return void


def install(session: Session, new: NewRecords, target: StoreSeam, present: set[int]) -> int:
    """
    Put the records on the replica, the last one first; give how many were not there.

    Raises:
        RollbackDetected: Kind "fork": another record stands there.
        DamagedData: A record reads otherwise than before.

    Cost: a PUT a record, and a GET where it is not held; a GET for each that is there.
    """
    put = 0
    for index in reversed(range(new.first, new.first + len(new.hashes))):
        name, expected = names.record_name(index), new.hashes[index - new.first]
        if index in present:
            if names.content_hash(target.get_whole(name, MAX_RECORD_BYTES)) != expected:
                raise fork_at(index)
            continue
        data = new.held.pop(index, None) or session.log.record(index)
        if names.content_hash(data) != expected:
            raise DamagedData("a ledger record reads differently each time", object=name)
        try:
            target.put(name, data)
        except AlreadyExistsError as exc:
            raise fork_at(index) from exc
        put += 1
    return put


def fork_at(index: int) -> RollbackDetected:
    """Give the error of a replica that holds another record than the vault."""
    return RollbackDetected(
        f"the replica's ledger record {index} is not the vault's: it was altered, or somebody has "
        "written to the replica. Nothing was changed. Check it with a read-only opening; then "
        "empty its place and replicate anew",
        kind="fork",
        seen=index + 1,
        found=index,
    )
