"""The fold of replicas: which stores hold copies, how far they have come, which are given up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from attrs import evolve, frozen

from ..format import record as rec
from ..format.record import BodyRef, Record
from .values import split_names
from .verdicts import Void

__all__ = ["Replica", "ReplicatedState", "plan_replicas"]


@frozen
class Replica:
    """A store that holds a copy, as the ledger knows it; counts as :class:`.rec.Replicated`."""

    store: bytes
    index: int
    """The record that made it known: no key was copied to it before."""
    body: tuple[BodyRef, bytes | None] | None
    """Where it lies, sealed; the bytes are None where they are lost."""
    size: int
    peaks: tuple[bytes, ...]
    keys: int
    swept: int
    kept: frozenset[bytes]
    left: frozenset[str]
    at_us: int
    """When it last was said to have come as far, by the writer's clock; 0: never."""
    lost: bool = False

    def may_hold(self, index: int, name: bytes) -> bool:
        """Tell whether *name*, condemned by record *index*, may still stand there."""
        return not self.lost and (index >= self.swept or name in self.kept)

    def has_keys_of(self, index: int) -> bool:
        """Tell whether key objects that record *index* condemned may still stand there."""
        return self.keys <= index or bool(self.left)


class ReplicatedState(Protocol):
    """What of the fold such records are held against, and change."""

    vault_id: bytes
    replicas: dict[bytes, Replica]

    @property
    def size(self) -> int:
        """How many records are folded."""
        ...


def plan_replicas(state: ReplicatedState, record: Record, facts: Any) -> Callable[[], None] | None:
    """
    Check what a record about replicas needs; give the change, which cannot fail.

    None for a record of any other kind.

    Raises:
        Void: It does not hold.
    """
    match facts:
        case rec.ReplicaAdded():
            return _add(state, record, facts)
        case rec.Replicated():
            return _replicated(state, record, facts)
        case rec.ReplicaLost():
            return _lose(state, facts)
        case _:
            return None


def _set(state: ReplicatedState, replica: Replica) -> None:
    state.replicas = {**state.replicas, replica.store: replica}


def _known(state: ReplicatedState, store: bytes) -> Replica:
    known = state.replicas.get(store)
    if known is None or known.lost:
        raise Void("there is no such replica, or it was given up")
    return known


def _add(state: ReplicatedState, record: Record, facts: rec.ReplicaAdded) -> Callable[[], None]:
    if facts.store == state.vault_id:
        raise Void("it calls the primary store a replica")
    bodies = zip(record.frame.bodies, record.bodies, strict=True)
    body = next((pair for pair in bodies if pair[0].key == "meta"), None)
    if facts.store in state.replicas:
        known = _known(state, facts.store)
        return lambda: _set(state, evolve(known, body=body))
    size = state.size
    new = Replica(facts.store, size, body, 0, (), size, size, frozenset(), frozenset(), 0)
    return lambda: _set(state, new)


def _replicated(
    state: ReplicatedState, record: Record, facts: rec.Replicated
) -> Callable[[], None]:
    known = _known(state, facts.store)
    if max(facts.size, facts.keys, facts.swept) > state.size:
        raise Void("it says that a replica has records that are not there")
    if len(facts.peaks) != facts.size.bit_count():
        raise Void("its peaks do not fit its size")
    kept, left = frozenset(split_names(facts.kept)), frozenset(facts.left)
    keys = max(known.keys, facts.keys)
    changed = evolve(known, keys=keys, left=left, at_us=record.frame.at_us)
    if facts.size >= known.size:
        changed = evolve(changed, size=facts.size, peaks=tuple(facts.peaks))
    if facts.swept >= known.swept:
        changed = evolve(changed, swept=facts.swept, kept=kept)
    return lambda: _set(state, changed)


def _lose(state: ReplicatedState, facts: rec.ReplicaLost) -> Callable[[], None]:
    known = _known(state, facts.store)
    return lambda: _set(state, evolve(known, lost=True))
