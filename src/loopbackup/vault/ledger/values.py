"""What the fold holds: snapshots, segments, claims, alarms, and names of objects in short."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from ...errors import DamagedData
from ..format.names import index_name, list_name, pack_name, shard_name
from ..format.record import BodyRef

__all__ = [
    "Alarm",
    "Claim",
    "Segment",
    "SnapshotRecord",
    "join_names",
    "object_name",
    "split_names",
]

NAME = 33
"""One letter of kind and 32 bytes of hash: the short form of an object name."""

_LONG = {b"p": pack_name, b"i": index_name, b"l": list_name, b"s": shard_name}


def object_name(short: bytes) -> str:
    """Give the name in the store of a short name."""
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


@frozen
class Segment:
    """A live piece of the index: an index object (i) or a pack's own directory (p)."""

    name: bytes
    added: int
    """Number of the record that added it."""


@frozen
class SnapshotRecord:
    """What the ledger says of a live snapshot; its name and tags are in the bodies."""

    id: bytes
    index: int
    at_us: int
    root: bytes
    domains: bytes
    domains_list: bytes
    bodies: tuple[tuple[BodyRef, bytes], ...]


@frozen
class Claim:
    """An unfinished run and the packs that it has put."""

    run: bytes
    packs: tuple[bytes, ...]
    at_us: int
    final: bool = False


@frozen
class Alarm:
    """A void record: which, and why."""

    index: int
    reason: str
