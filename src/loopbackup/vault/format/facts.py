"""What the clear facts of records are made of: their base, and bounded fields."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

__all__ = ["MAX_FRAME_BYTES", "Domains", "Facts", "Fronts", "ListHash", "Names", "ShardNumber"]

MAX_FRAME_BYTES: Final = 65_536

ListHash = Annotated[bytes, Meta(max_length=32)]
"""Hash of a list object, or nothing."""
ShardNumber = Annotated[int, Meta(ge=0, le=65_535)]
Names = Annotated[bytes, Meta(max_length=MAX_FRAME_BYTES)]
"""Concatenated names: one letter of kind (p, i, l, s) and 32 bytes of hash each."""
Fronts = Annotated[bytes, Meta(max_length=MAX_FRAME_BYTES)]
"""Concatenated names of packs and index objects, each followed by the hash of its front."""
Domains = Annotated[bytes, Meta(max_length=MAX_FRAME_BYTES)]
"""Concatenated 16-byte domain ids."""


class Facts(Struct, array_like=True, forbid_unknown_fields=True):
    """Base of the clear facts of a record."""
