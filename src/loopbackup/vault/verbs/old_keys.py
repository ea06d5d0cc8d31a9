"""Names of key objects that do not count any more, as far as the ledger can tell them."""

from __future__ import annotations

from collections.abc import Callable

from ..format import names
from ..ledger.state import State

__all__ = ["named_by_condemned", "old_names"]


def old_names(state: State, short: bytes) -> list[str]:
    """
    Give the names that a condemned short name of keys stands for: a shard, or root and slots.

    Slots keep their ids when the keys are changed; those that were removed since are unknown.
    """
    if short[:1] == b"s":
        return [names.shard_name(short[1:])]
    if short[:1] == b"k":
        epoch = short[1:17]
        slots = [names.slot_name(epoch, slot) for slot, _, _ in state.slots]
        return [*slots, names.root_name(epoch)]
    return []


def named_by_condemned(state: State, is_due: Callable[[bytes, int], bool]) -> set[str]:
    """Give the names of all old keys of which *is_due*, asked by short name and record, is true."""
    return {
        name
        for short, (index, _) in state.condemned.items()
        if is_due(short, index)
        for name in old_names(state, short)
    }
