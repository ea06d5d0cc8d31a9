"""The states of the commit model."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

__all__ = ["Faults", "Late", "Ledger", "Pruner", "State", "Step", "Writer"]

Ledger: TypeAlias = tuple[int, ...]

# Where a writer is.
OPEN, PACK, INDEX, MANIFEST, CHECK, CREATE, READ, STUCK, DONE, DEAD, RACE, CLAIM = range(12)


class Writer(NamedTuple):
    """A backup under way."""

    at: int = OPEN
    head: int = 0
    """The record that it is about to create."""
    relied: tuple[int, ...] = ()
    """For each chunk that it wants the pack that holds it, or -1."""
    segment: int = -1
    manifest: int = -1
    number: int = 0
    """Counts what it puts again."""
    attempt: int = 0
    again: int = 0
    """Condemned names that it has put again (where that is the broken rule)."""
    known: int = 0
    """The head that it has seen, where folds may lag."""


class Pruner(NamedTuple):
    """A prune under way; ``at`` as in :mod:`tests.model.pruner`."""

    at: int = 0
    listed: int = 0
    condemns: int = 0
    old: int = 0
    pack: int = -1
    """Where it has moved live chunks to."""
    segment: int = -1
    head: int = 0
    number: int = 0
    round: int = 0


class Faults(NamedTuple):
    """How many more of each kind may strike."""

    crashes: int = 0
    lost: int = 0
    zombies: int = 0
    late_puts: int = 0
    torn: int = 0
    lapses: int = 0


class Late(NamedTuple):
    """A call that takes effect later: a put of a pack, or the creation of record ``head``."""

    what: int
    head: int = -1


class State(NamedTuple):
    """Everything."""

    ledger: Ledger
    objects: int
    writers: tuple[Writer, ...]
    pruners: tuple[Pruner, ...]
    forgettable: int
    faults: Faults
    late: tuple[Late, ...] = ()


Step: TypeAlias = tuple[str, State]
