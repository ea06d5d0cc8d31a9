"""What the fold holds: snapshots, segments, claims, alarms, and names of objects in short."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from attrs import frozen

from ...errors import DamagedData
from ..format.names import epoch_of, epoch_prefix, index_name, list_name, pack_name, shard_name
from ..format.record import BodyRef

__all__ = [
    "Alarm",
    "Claim",
    "Front",
    "Segment",
    "SnapshotRecord",
    "epoch_short",
    "join_fronts",
    "join_names",
    "key_short",
    "object_name",
    "split_fronts",
    "split_names",
]

NAME = 33
"""One letter of kind and 32 bytes of hash: the short form of an object name."""

FRONT = NAME + 32

EPOCH_PAD = bytes(16)
_LONG: dict[bytes, Callable[[bytes], str]] = {
    b"p": pack_name,
    b"i": index_name,
    b"l": list_name,
    b"s": shard_name,
    b"k": lambda epoch: epoch_prefix(epoch[:16]),
}


def epoch_short(epoch: bytes) -> bytes:
    """Give the short name of all key objects of an epoch but its shards."""
    return b"k" + epoch + EPOCH_PAD


def key_short(name: str) -> bytes | None:
    """Give the short name of a key object: its shard, or its epoch; None if it is no such name."""
    epoch = epoch_of(name)
    if epoch is not None:
        return epoch_short(epoch)
    try:
        digest = bytes.fromhex(name.rsplit("/", 1)[-1])
    except ValueError:
        return None
    return b"s" + digest if len(digest) == 32 else None


def object_name(short: bytes) -> str:
    """Give the name in the store of a short name; what an epoch's names begin with."""
    try:
        return _LONG[short[:1]](short[1:])
    except KeyError:
        raise DamagedData("a ledger record names an object of no known kind") from None


def split_names(names: bytes) -> list[bytes]:
    """Split concatenated short names."""
    if len(names) % NAME:
        raise DamagedData("a list of names is cut short")
    parts = [names[at : at + NAME] for at in range(0, len(names), NAME)]
    if any(part[:1] not in _LONG for part in parts):
        raise DamagedData("a ledger record names an object of no known kind")
    return parts


def join_names(names: Iterable[bytes]) -> bytes:
    """Concatenate short names."""
    return b"".join(names)


class Front(NamedTuple):
    """
    A pack or an index object, and the hash of its head and directory.

    The name is the hash of the whole; who reads the front alone holds it
    against this, so that no other front is believed in its place.
    """

    name: bytes
    hash: bytes


def split_fronts(fronts: bytes) -> list[Front]:
    """Split concatenated names of packs and index objects with the hashes of their fronts."""
    if len(fronts) % FRONT:
        raise DamagedData("a list of fronts is cut short")
    parts = [fronts[at : at + FRONT] for at in range(0, len(fronts), FRONT)]
    if any(part[:1] not in (b"p", b"i") for part in parts):
        raise DamagedData("a ledger record names a front of no known kind")
    return [Front(part[:NAME], part[NAME:]) for part in parts]


def join_fronts(fronts: Iterable[Front]) -> bytes:
    """Concatenate fronts."""
    return b"".join(part for front in fronts for part in front)


@frozen
class Segment:
    """A live piece of the index: an index object (i) or a pack's own directory (p)."""

    name: bytes
    front: bytes
    """Hash of its front."""
    added: int
    """Number of the record that added it."""
    leaf: bytes
    """Hash of that record's leaf: it is believed as it was folded, whoever may sign today."""


@frozen
class SnapshotRecord:
    """What the ledger says of a live snapshot; its name and tags are in the bodies."""

    id: bytes
    index: int
    at_us: int
    root: bytes
    domains: bytes
    domains_list: bytes
    bodies: tuple[tuple[BodyRef, bytes | None], ...]
    """None for one that is lost."""
    writer: bytes = b""
    """Who signed it; empty for a house key, of whatever epoch."""


@frozen
class Claim:
    """An unfinished run: the packs that it has put, and those that it relies on."""

    run: bytes
    series: bytes
    packs: tuple[Front, ...]
    relies: frozenset[bytes]
    at_us: int
    """When it last said that it lives."""

    @property
    def names(self) -> frozenset[bytes]:
        """Short names of all packs that it needs."""
        return self.relies.union(front.name for front in self.packs)


@frozen
class Alarm:
    """A void record: which, and why."""

    index: int
    reason: str
    leaf: bytes
    """Hash of its leaf: what is hashed of a void record depends on why it is void."""
