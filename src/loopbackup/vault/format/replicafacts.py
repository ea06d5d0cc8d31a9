"""
Replicas on disk: the clear facts of their records, and what is sealed beside them.

A frame names a store by a random id; where it lies stands in the sealed body.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from .facts import Facts, Names
from .header import Bytes16, Bytes32, Count

__all__ = ["MAX_PLACE_CHARS", "ReplicaAdded", "ReplicaBody", "ReplicaLost", "Replicated"]

MAX_PLACE_CHARS: Final = 4096
Place = Annotated[str, Meta(max_length=MAX_PLACE_CHARS)]


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
    """No key object is there that a record below condemned."""
    swept: Count
    """Nor anything else that one condemned, but for ``kept``."""
    kept: Names = b""


class ReplicaLost(Facts):
    """A replica is given up: no erasure waits for it any more."""

    store: Bytes16


class ReplicaBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """Where a replica lies; sealed under ``meta``."""

    url: Place
    """Without credentials."""
    location: Place | None
    """As declared."""
