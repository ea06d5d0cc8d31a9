"""
Marks on disk: the clear facts of their records, and what is sealed beside them.

A frame says which opaque domain a mark is about and nothing more of anybody;
names, reasons, paths and patterns stand in the sealed body.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from .entries import MAX_PATH_BYTES
from .facts import Facts, Fronts, ListHash
from .header import Bytes16, Count

__all__ = [
    "MAX_PATTERNS",
    "MAX_PATTERN_CHARS",
    "MAX_SNAPSHOTS_NAMED",
    "Held",
    "HoldBody",
    "Lifted",
    "NoteBody",
    "Overlaid",
    "OverlayBody",
    "Registered",
    "Released",
    "Restricted",
]

MAX_PATTERNS: Final = 256
MAX_PATTERN_CHARS: Final = 4096
MAX_SNAPSHOTS_NAMED: Final = 2048
MAX_NOTE_CHARS: Final = 16_384
MAX_NAMED_IDS_BYTES: Final = 8 << 20
"""Of the chunk ids of one overlay: the body that holds them has 16 MiB at most."""

Instant = Annotated[int, Meta(ge=-(1 << 62), le=1 << 62)]
"""Microseconds since 1970-01-01 UTC."""
Pattern = Annotated[str, Meta(max_length=MAX_PATTERN_CHARS)]
Note = Annotated[str, Meta(max_length=MAX_NOTE_CHARS)]


# ---- facts


class Held(Facts):
    """What a hold covers must stay until it is released."""

    mark: Bytes16
    """Random id, by which a release names it."""
    domain: Annotated[bytes, Meta(max_length=16)] = b""
    """Empty: a hold by patterns, which stand in the body."""


class Released(Facts):
    """A hold ends."""

    mark: Bytes16


class Restricted(Facts):
    """Data of a domain may only be stored."""

    mark: Bytes16
    domain: Bytes16
    until_us: Instant | None = None
    """It binds no more from then on; nil: until it is lifted."""


class Lifted(Facts):
    """A restriction ends."""

    mark: Bytes16


class Overlaid(Facts):
    """Other bytes are shown in the place of an entry's; which entry stands in the body."""

    mark: Bytes16
    domain: Bytes16
    segments: Fronts
    packs: Fronts = b""
    packs_list: ListHash = b""
    snapshots: Annotated[tuple[Bytes16, ...], Meta(max_length=MAX_SNAPSHOTS_NAMED)] = ()
    """Empty: all that were committed before this record."""


class Registered(Facts):
    """An event of a register of a higher layer, sealed as a whole."""

    name: Annotated[str, Meta(pattern=r"\A[a-z0-9][a-z0-9_.-]{0,63}\Z")]
    event: Bytes16
    """Random id, by which later events may name it."""


# ---- bodies


class HoldBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """Why, until when at least, and for a hold by patterns which."""

    reason: Note
    review_us: Instant
    paths: Annotated[tuple[Pattern, ...], Meta(max_length=MAX_PATTERNS)] = ()


class NoteBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """Why a mark was set or ended."""

    reason: Note


class OverlayBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """Which entry is shown with which content, and why."""

    path: Annotated[bytes, Meta(min_length=1, max_length=MAX_PATH_BYTES)]
    size: Count
    chunks: Annotated[bytes, Meta(max_length=MAX_NAMED_IDS_BYTES)]
    """Ids of chunks of kind ``data``, 32 bytes each, in order."""
    reason: Note | None
