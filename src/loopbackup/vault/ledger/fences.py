"""Fences: which domains were erased, by which record, and what may not name them any more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from ..format import record as rec
from .values import SnapshotRecord

__all__ = [
    "Erasure",
    "FencedState",
    "cleared_at",
    "ids_of",
    "names_fenced",
    "of_others",
    "why_no_erasure",
    "why_no_receipt",
]


class Erasure(NamedTuple):
    """Where an erasure stands in the ledger; -1 for what has not come yet."""

    record: int
    """Its record."""
    receipt: int = -1
    """The newest record that holds a receipt that its keys are destroyed."""
    cleared: int = -1
    """The newest prune since which nothing that counts has bytes of it."""
    completed: int = -1
    """The newest record that holds a receipt that its bytes are gone too."""


class FencedState(Protocol):
    """What the fold knows of erasures."""

    none_domain: bytes

    @property
    def fenced(self) -> Mapping[bytes, int]:
        """Domain id -> the record that erased it."""
        ...

    @property
    def erasures(self) -> Mapping[bytes, Erasure]:
        """By the name of the erasure."""
        ...


def ids_of(joined: bytes) -> Iterator[bytes]:
    """Take concatenated domain ids apart."""
    return (joined[at : at + 16] for at in range(0, len(joined), 16))


def names_fenced(state: FencedState, joined: bytes) -> bool:
    """Tell whether any of the domains was erased."""
    return bool(state.fenced) and any(domain_id in state.fenced for domain_id in ids_of(joined))


def of_others(
    snapshots: Mapping[bytes, SnapshotRecord], fenced: Mapping[bytes, int]
) -> dict[bytes, SnapshotRecord]:
    """
    Give the snapshots without those that were about nobody but erased domains.

    Of such a one nothing can be read, not even its name. Those of so many
    domains that they are listed apart have a name that can.
    """
    return {
        snapshot_id: record
        for snapshot_id, record in snapshots.items()
        if not record.domains or any(d not in fenced for d in ids_of(record.domains))
    }


def why_no_erasure(
    state: FencedState, facts: rec.EpochChanged, erased: bytes, kept: frozenset[bytes]
) -> str | None:
    """
    Say why a record that begins an epoch cannot erase as it says; None if it can.

    *kept* are the domains that are held or restricted at its time.
    """
    if len(facts.erasure) not in (0, 16) or len(erased) % 16:
        return "it names no erasure or no domains"
    if bool(facts.erasure) != bool(erased):
        return "an erasure has a name and domains"
    if facts.erasure in state.erasures:
        return "an erasure of that name is there already"
    if state.none_domain in ids_of(erased):
        return "it erases what is about nobody"
    if not kept.isdisjoint(ids_of(erased)):
        return "it erases what is held or restricted"
    return None


def why_no_receipt(state: FencedState, facts: rec.Receipted) -> str | None:
    """Say why a receipt is of nothing, or comes too early; None if neither."""
    erasure = state.erasures.get(facts.erasure)
    if erasure is None:
        return "it is the receipt of no erasure"
    if facts.stage not in ("keys_destroyed", "completed"):
        return "it is a receipt of no known stage"
    if facts.stage == "completed" and (erasure.cleared < 0 or erasure.receipt < 0):
        return "it completes an erasure of which a prune or a receipt is still to come"
    return None


def cleared_at(state: FencedState, joined: bytes, index: int) -> dict[bytes, Erasure] | None:
    """Give the erasures once those of the joined names are clear; None if one is not there."""
    names = list(ids_of(joined))
    if not state.erasures.keys() >= set(names):
        return None
    cleared = {name: state.erasures[name]._replace(cleared=index) for name in names}
    return {**state.erasures, **cleared}
