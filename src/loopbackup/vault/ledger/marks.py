"""
Marks in the fold: holds, restrictions and overlays that stand, and what they forbid.

Everything here is decided from the clear parts of records, so that all clients
agree: which domain a mark is about, and until when it binds by the clocks of
those who write records. What a sealed body says is for honest clients to obey.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal, TypeAlias

from attrs import frozen

from ..format.markfacts import Held, Lifted, Overlaid, Released, Restricted
from ..format.record import BodyRef, Record
from .values import SnapshotRecord

__all__ = [
    "MAX_MARKS",
    "Mark",
    "MarkKind",
    "Marks",
    "kept_domains",
    "mark_of",
    "needed",
    "objection",
    "without",
]

MAX_MARKS: Final = 1 << 20
MarkKind: TypeAlias = Literal["hold", "restriction", "overlay"]


@frozen
class Mark:
    """A mark that stands, as its record says it; why and what exactly is in the body."""

    id: bytes
    kind: MarkKind
    index: int
    """Number of its record."""
    at_us: int
    domain: bytes
    """Empty for a hold by patterns."""
    until_us: int | None
    """Of a restriction."""
    snapshots: tuple[bytes, ...]
    """Of an overlay: which it changes; none are named where it is all before it."""
    ref: BodyRef | None
    body: bytes | None
    """None for one that is lost."""

    def changes(self, snapshot: SnapshotRecord) -> bool:
        """Tell whether an overlay shows its bytes in a snapshot: never in a later one."""
        named = not self.snapshots or snapshot.id in self.snapshots
        return named and snapshot.index < self.index

    def binds(self, at_us: int) -> bool:
        """Tell whether it still binds at a time."""
        return self.until_us is None or at_us < self.until_us


Marks: TypeAlias = Mapping[bytes, Mark]


def mark_of(record: Record, facts: Held | Restricted | Overlaid) -> Mark:
    """Give the mark that a record sets; its first body is the mark's own."""
    frame = record.frame
    kind: MarkKind = "hold"
    until_us: int | None = None
    snapshots: tuple[bytes, ...] = ()
    if isinstance(facts, Restricted):
        kind, until_us = "restriction", facts.until_us
    elif isinstance(facts, Overlaid):
        kind, snapshots = "overlay", facts.snapshots
    ref, body = (frame.bodies[0], record.bodies[0]) if frame.bodies else (None, None)
    return Mark(
        facts.mark, kind, frame.index, frame.at_us, facts.domain, until_us, snapshots, ref, body
    )


def objection(marks: Marks, mark: Mark) -> str | None:
    """Say why a mark cannot be set, if it cannot."""
    if mark.id in marks:
        return "a mark of that id stands"
    if len(mark.domain) not in (0, 16):
        return "it is about no domain"
    if len(marks) >= MAX_MARKS:
        return "there are more marks than a vault can have"
    return None


def kept_domains(marks: Marks, at_us: int) -> frozenset[bytes]:
    """Give the domains of which nothing may go at a time: held, or restricted."""
    return frozenset(
        mark.domain
        for mark in marks.values()
        if mark.kind != "overlay" and mark.domain and mark.binds(at_us)
    )


def without(marks: Marks, facts: Released | Lifted) -> dict[bytes, Mark]:
    """Give the marks but for the hold that is released, or the restriction that is lifted."""
    kind = "hold" if isinstance(facts, Released) else "restriction"
    return {k: mark for k, mark in marks.items() if k != facts.mark or mark.kind != kind}


def needed(marks: Marks, snapshots: Iterable[SnapshotRecord]) -> dict[bytes, Mark]:
    """Give the marks without the overlays that change none of the live snapshots."""
    live = list(snapshots)
    return dict(_needed(marks, live))


def _needed(marks: Marks, live: list[SnapshotRecord]) -> Iterator[tuple[bytes, Mark]]:
    oldest = min((snapshot.index for snapshot in live), default=-1)
    by_id = {snapshot.id: snapshot for snapshot in live}
    for mark_id, mark in marks.items():
        if mark.kind != "overlay":
            yield mark_id, mark
        elif not mark.snapshots:
            if -1 < oldest < mark.index:
                yield mark_id, mark
        elif any(mark.changes(by_id[s]) for s in mark.snapshots if s in by_id):
            yield mark_id, mark
