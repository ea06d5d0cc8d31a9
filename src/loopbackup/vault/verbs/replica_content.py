"""What of a vault's content a replica has to hold, what it may hold, and what it does hold."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from ...errors import DamagedData
from ..format import names
from ..format import record as rec
from ..ledger.replicas import Replica
from ..ledger.state import State, split_fronts
from ..store.seam import StoreSeam
from .session import Session
from .sweep import older_than

__all__ = [
    "SETTLED_S",
    "content_in",
    "keys_due",
    "live_content",
    "settled",
    "sweep_due",
    "sweepable",
]

SETTLED_S: Final = 3600
"""
So long after an object was condemned nobody puts it on a replica any more.

A copy asks the ledger, by a look of at most 15 minutes ago, right before it puts an object;
the rest is for the request itself with all its retries, and for clocks that differ.
"""
_LETTERS: Final = (b"p", b"i", b"l")
_FOLDERS: Final = ((b"p", names.PACKS), (b"i", names.INDEX), (b"l", names.LISTS))


def live_content(session: Session, state: State) -> set[bytes]:
    """
    Give the short names of all packs, index objects and lists that a reader of *state* can need.

    Raises:
        DamagedData: A record or a list that tells of them is missing or altered.

    Cost: one GET for each record that added a live segment, and the lists that it names.
    Memory: about 100 bytes a name.
    """
    found = {segment.name for segment in state.segments}
    found |= {b"l" + digest for digest in state.lists}
    leaves = {segment.added: segment.leaf for segment in state.segments}
    for index in sorted(leaves):
        record = rec.parse_record(session.log.record(index), index)
        if names.content_hash(record.leaf) != leaves[index]:
            raise DamagedData(f"ledger record {index} was altered", kind="altered_ledger")
        facts = record.facts()
        fronts = facts.packs or (
            session.log.fetch_list(facts.packs_list) if facts.packs_list else b""
        )
        found.update(front.name for front in split_fronts(fronts))
    return found - state.condemned.keys()


def content_in(seam: StoreSeam) -> dict[bytes, int]:
    """Give the content objects that stand in a store: short name -> length in bytes."""
    found = {}
    for letter, prefix in _FOLDERS:
        for entry in seam.list(prefix):
            text = entry.key.rsplit("/", 1)[-1]
            if len(text) == 64:
                with contextlib.suppress(ValueError):
                    found[letter + bytes.fromhex(text)] = entry.size_bytes
    return found


def condemned_content(state: State) -> Iterator[tuple[bytes, int]]:
    """Give the condemned content objects, each with the record that condemned it."""
    for name, (index, _) in state.condemned.items():
        if name[:1] in _LETTERS:
            yield name, index


def sweepable(state: State, size: int) -> int:
    """
    Say below which record what is condemned may go from a replica.

    Records that an earlier run has put, so that readers have had that long to fold
    them; of those the ones that the primary was swept by: liveness was counted anew then.
    """
    upto, _ = state.swept.get(state.vault_id, (-1, frozenset()))
    return min(size, upto + 1)


def settled(state: State, size: int, now: datetime) -> int:
    """Say below which record what is condemned comes back to a replica no more once it is gone."""
    return older_than(state, now, SETTLED_S, sweepable(state, size))


def sweep_due(state: State, replica: Replica) -> bool:
    """Tell whether something condemned may stand there that is to go, or to be said to be gone."""
    limit = sweepable(state, replica.size)
    return bool(replica.kept) or any(
        index < limit and replica.may_hold(index, name) for name, index in condemned_content(state)
    )


def keys_due(state: State, replica: Replica) -> bool:
    """Tell whether old key objects may stand there."""
    return bool(replica.left) or any(
        name[:1] not in _LETTERS and index >= replica.keys
        for name, (index, _) in state.condemned.items()
    )
