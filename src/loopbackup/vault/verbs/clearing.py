"""Which erasures nothing that counts has bytes of any more, as a prune leaves the vault."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from ...errors import DamagedData, NewerFormat, NotFoundError
from ..content.segment import SegmentReader
from ..ledger.state import State
from .session import Session

__all__ = ["cleared_by", "holders", "is_waiting", "named_by"]

MAX_CLEARED: Final = 512
"""So many erasures a record calls clear; the rest wait for the next prune."""


def named_by(readers: Iterable[SegmentReader], state: State) -> set[int]:
    """Give the records of the erasures that took a domain of which directories know."""
    fenced = state.fenced
    return {fenced[found] for reader in readers for found in reader.domains() if found in fenced}


def holders(session: Session, shorts: Iterable[bytes], state: State) -> dict[bytes, set[int]]:
    """
    Give, by object, the erasures whose bytes it has; of one that cannot be read, all.

    Only those that have any. Cost: one small read an object.
    """
    found: dict[bytes, set[int]] = {}
    for short in shorts:
        try:
            named = named_by([session.index.pack(short)], state)
        except NotFoundError:
            continue
        except (DamagedData, NewerFormat):
            named = {erasure.record for erasure in state.erasures.values()}
        if named:
            found[short] = named
    return found


def is_waiting(state: State) -> bool:
    """Tell whether there are erasures of which no prune has said that they are clear."""
    return any(erasure.cleared < 0 for erasure in state.erasures.values())


def cleared_by(
    session: Session, state: State, gone: Collection[bytes], touched: Collection[int]
) -> list[bytes]:
    """
    Give the names of erasures that are clear once *gone* does not count any more.

    Each once, and again when something of theirs goes after all: *touched* are the
    records of those. None while a directory is lost, for it may name anybody.
    """
    if not state.erasures:
        return []
    live = [reader for reader in session.index.segments(state) if reader.short not in gone]
    if any(reader.lost for reader in live):
        return []
    named = named_by(live, state)
    clear = [
        name
        for name, erasure in state.erasures.items()
        if erasure.record not in named and (erasure.cleared < 0 or erasure.record in touched)
    ]
    return clear[:MAX_CLEARED]
