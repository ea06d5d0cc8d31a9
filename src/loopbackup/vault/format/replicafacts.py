"""
Replicas on disk: the clear facts of their records, and what is sealed beside them.

A frame names a store by a random id; where it lies stands in the sealed body.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct, field

from .facts import Facts, Names
from .header import Bytes16, Bytes32, Count

__all__ = [
    "MAX_LEFT",
    "MAX_NAMED",
    "MAX_PLACE_CHARS",
    "ReplicaAdded",
    "ReplicaBody",
    "ReplicaLost",
    "Replicated",
]

MAX_PLACE_CHARS: Final = 4096
MAX_LEFT: Final = 100
"""So many old key objects a replication leaves behind at most: the rest it does not touch."""
MAX_NAMED: Final = 320
"""So many a record can name, 64 KiB long: what three replications at once have left is joined."""
MAX_KEY_CHARS: Final = 128
Place = Annotated[str, Meta(max_length=MAX_PLACE_CHARS)]
KeyName = Annotated[str, Meta(max_length=MAX_KEY_CHARS)]


class ReplicaAdded(Facts):
    """A store is, or is about to be, a replica; or its place is another now."""

    store: Bytes16
    """Random id, as its object ``vault`` has it."""


class Replicated(Facts):
    """
    How far a replica has come. All numbers only grow; lower ones have no effect.

    Records are counted from 0: "below *n*" are the first *n*.
    """

    store: Bytes16
    size: Count
    """All records below are there, and all that is live at that head."""
    peaks: Annotated[list[Bytes32], Meta(max_length=63)]
    """Of the Merkle tree over them: whoever copies on verifies from there."""
    keys: Count
    """No key object is there that a record below condemned, but for ``left``."""
    swept: Count
    """
    Nor anything at all that one condemned, but for ``kept`` and ``left``, an hour later:
    nobody puts it any more.
    """
    kept: Names = b""
    """What the store refused to delete, or keeps versions of."""
    left: Annotated[list[KeyName], Meta(max_length=MAX_NAMED)] = field(default_factory=list)
    """Names of key objects of which the same is true, whatever ``keys`` says."""


class ReplicaLost(Facts):
    """A replica is given up: no erasure waits for it any more."""

    store: Bytes16


class ReplicaBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """Where a replica lies; sealed under ``meta``."""

    url: Place
    """Without credentials."""
    location: Place | None
    """As declared."""
