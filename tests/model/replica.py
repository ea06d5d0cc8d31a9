"""
A replica is filled while its source goes on: every interleaving.

Events of the source are atomic here; the commit model takes them apart.
Replicators copy one object a step. Properties: (d) the replica, opened at any
moment, is a valid vault and a prefix of its source, (e) a replicator ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple, TypeAlias

from attrs import frozen
from tests.model.commit import CommitModel
from tests.model.explore import bits
from tests.model.ledger import NAMES, RECORDS, Forgotten, Name, Options, Snapshot
from tests.model.pruner import DONE as PRUNED
from tests.model.pruner import prune_steps
from tests.model.state import Faults, Ledger, Pruner
from tests.model.state import State as Source

__all__ = ["ReplicaModel", "ReplicaOptions"]

# Where a replicator is.
FOLD, COPY, INSTALL, DONE, DEAD = 0, 1, 2, 8, 9
ALONE_MAX: Final = 80
WANTS: Final = {"S1": (1, 3), "S2": (2, 3)}

Records: TypeAlias = tuple[tuple[int, int], ...]


@frozen(kw_only=True)
class ReplicaOptions:
    """A case; defaults are the design."""

    mode: Literal["downwards", "each", "upwards"] = "downwards"
    """
    Which objects come before which records: what lives at the head, then the
    records from the head downwards, or upwards; or what each record names,
    then that record.
    """
    skip_missing: bool = False
    """With ``each``: leave out what is swept; else wait for it."""
    replicators: int = 1
    crashes: int = 1
    events: tuple[str, ...] = ("S1", "F0", "prune", "S2", "prune")
    sweeps_unseen: bool = False
    """The replica also sweeps by records that are not yet visible."""
    foreign: bool = False
    """Somebody commits on the replica."""


class Replicator(NamedTuple):
    """Somebody who fills the replica."""

    at: int = FOLD
    head: int = 0
    todo: int = 0


class State(NamedTuple):
    """Everything: the source, and the replica."""

    ledger: Ledger
    objects: int
    events: int
    copied: int
    records: Records
    replicators: tuple[Replicator, ...]
    crashes: int
    foreign: bool


Step: TypeAlias = tuple[str, State]


class ReplicaModel:
    """The model; see the module."""

    def __init__(self, options: ReplicaOptions) -> None:
        self._options = options
        self._commit = CommitModel(Options())
        first = self._commit.start
        replicators = (Replicator(),) * options.replicators
        self.start = State(
            first.ledger, first.objects, 0, 0, (), replicators, options.crashes, options.foreign
        )

    def _live(self, ledger: Ledger) -> int:
        """Give the objects that a reader at this head can need."""
        fold = self._commit.fold(ledger)
        mask = 0
        for index in fold.index:
            mask |= 1 << index
            for _chunk, pack in NAMES.values[index].places:
                mask |= 1 << pack
        for run in fold.live:
            mask |= 1 << fold.snapshots[run][1]
        return mask & ~fold.condemned

    def _source(self, s: State) -> Iterator[tuple[str, Ledger, int]]:
        """Let the next event of the source happen."""
        if s.events >= len(self._options.events):
            return
        what = self._options.events[s.events]
        if what in WANTS:
            yield self._source_commits(s, what)
        elif what == "F0":
            ledger = (*s.ledger, RECORDS(Forgotten("s0")))
            yield "the source forgets s0", ledger, s.objects
        else:
            state = Source(s.ledger, s.objects, (), (Pruner(),), 0, Faults())
            while state.pruners[0].at < PRUNED:
                state = next(prune_steps(self._commit, 0, state, faults=False))[1]
            objects = state.objects & ~self._commit.fold(state.ledger).condemned
            yield "the source prunes and sweeps", state.ledger, objects

    def _source_commits(self, s: State, what: str) -> tuple[str, Ledger, int]:
        want, places = WANTS[what], self._commit.fold(s.ledger).places
        new = tuple(chunk for chunk in want if chunk not in places)
        objects, index = s.objects, -1
        if new:
            pack = NAMES(Name("pack", what, 0, new))
            index = NAMES(Name("index", what, 0, places=tuple((chunk, pack) for chunk in new)))
            objects |= 1 << pack | 1 << index
        manifest = NAMES(Name("manifest", what, 0, want))
        record = RECORDS(Snapshot(what, 0, want, index, manifest))
        return f"the source commits {what}", (*s.ledger, record), objects | 1 << manifest

    @staticmethod
    def _visible(records: Records) -> Ledger:
        """Give the ledger that an opener of the replica sees: up to the first gap."""
        found = dict(records)
        head = 0
        while head in found:
            head += 1
        return tuple(found[number] for number in range(head))

    # ---- steps

    def successors(self, s: State) -> Iterator[Step]:
        """Yield what may happen next."""
        for label, ledger, objects in self._source(s):
            yield label, s._replace(ledger=ledger, objects=objects, events=s.events + 1)
        visible = self._visible(s.records)
        seen = visible
        if self._options.sweeps_unseen and s.records:
            seen = tuple(record for _, record in sorted(s.records))
        gone = self._commit.fold(seen).condemned & s.copied if seen else 0
        if gone:
            yield "the replica sweeps", s._replace(copied=s.copied & ~gone)
        if s.foreign and visible:
            foreign = (len(visible), RECORDS(Forgotten("s0", "replica")))
            records = tuple(sorted({*s.records, foreign}))
            yield "somebody commits on it", s._replace(records=records, foreign=False)
        for i in range(len(s.replicators)):
            yield from self._replicate(i, s, visible)

    @staticmethod
    def _with(s: State, i: int, me: Replicator) -> State:
        return s._replace(replicators=(*s.replicators[:i], me, *s.replicators[i + 1 :]))

    def _replicate(self, i: int, s: State, visible: Ledger) -> Iterator[Step]:
        me = s.replicators[i]
        if me.at >= DONE:
            return
        if s.crashes:
            after = self._with(s, i, Replicator(DEAD))
            yield f"r{i} crashes", after._replace(crashes=s.crashes - 1)
        if me.at == FOLD:
            yield self._fold(i, s, len(visible))
        elif me.at == COPY:
            yield from self._copy(i, s)
        else:
            yield self._install(i, s)

    def _fold(self, i: int, s: State, seen: int) -> Step:
        if self._options.mode == "each":
            if seen == len(s.ledger):
                return f"r{i} is done", self._with(s, i, Replicator(DONE))
            need = self._named(s.ledger[seen]) & ~s.copied
            return f"r{i} wants record {seen}", self._with(s, i, Replicator(COPY, seen + 1, need))
        need = self._live(s.ledger) & ~s.copied
        if seen == len(s.ledger) and not need:
            return f"r{i} is done", self._with(s, i, Replicator(DONE))
        me = Replicator(COPY, len(s.ledger), need)
        return f"r{i} folds the source to {len(s.ledger)}", self._with(s, i, me)

    @staticmethod
    def _named(number: int) -> int:
        """Give the objects that a record names as new."""
        record = RECORDS.values[number]
        mask = 0
        index = getattr(record, "index", getattr(record, "new", -1))
        if index >= 0:
            mask |= 1 << index
            for _chunk, pack in NAMES.values[index].places:
                mask |= 1 << pack
        if isinstance(record, Snapshot):
            mask |= 1 << record.manifest
        return mask

    def _copy(self, i: int, s: State) -> Iterator[Step]:
        me = s.replicators[i]
        if not me.todo:
            yield f"r{i} has copied all", self._with(s, i, Replicator(INSTALL, me.head))
            return
        name = next(bits(me.todo))
        less = me._replace(todo=me.todo & ~(1 << name))
        if s.objects >> name & 1:
            after = self._with(s, i, less)._replace(copied=s.copied | 1 << name)
            yield f"r{i} copies {NAMES.values[name]}", after
        elif self._options.mode != "each":
            yield f"r{i} misses {NAMES.values[name]}", self._with(s, i, Replicator())
        elif self._options.skip_missing:
            yield f"r{i} leaves out {NAMES.values[name]}", self._with(s, i, less)

    def _install(self, i: int, s: State) -> Step:
        me, have, mode = s.replicators[i], dict(s.records), self._options.mode
        order = range(me.head) if mode != "downwards" else range(me.head - 1, -1, -1)
        number = next((n for n in order if n not in have), None)
        if number is None:
            return f"r{i} has installed all", self._with(s, i, Replicator())
        after = self._with(s, i, Replicator() if mode == "each" else Replicator(INSTALL, me.head))
        records = tuple(sorted((*s.records, (number, s.ledger[number]))))
        return f"r{i} installs record {number}", after._replace(records=records)

    # ---- properties

    def check(self, s: State) -> str | None:
        """Say what is wrong with a state."""
        visible = self._visible(s.records)
        if visible != s.ledger[: len(visible)]:
            return "(d) the replica's ledger is no prefix of its source's"
        if visible:
            error = self._commit.readable(visible, s.copied)
            if error:
                return f"(d) the replica at {len(visible)}, its source at {len(s.ledger)}: {error}"
        error = self._commit.readable(s.ledger, s.objects)
        if error:
            return f"source {error}"
        for i, replicator in enumerate(s.replicators):
            if replicator.at < DONE and not s.foreign and not self._ends_alone(s, replicator):
                return f"(e) r{i} never ends"
        return None

    def _ends_alone(self, s: State, replicator: Replicator) -> bool:
        events = len(self._options.events)
        state = State(
            s.ledger, s.objects, events, s.copied, s.records, (replicator,), 0, foreign=False
        )
        for _ in range(ALONE_MAX):
            if state.replicators[0].at == DONE:
                return True
            steps = self._replicate(0, state, self._visible(state.records))
            step = next(steps, None)
            if step is None:
                return False
            state = step[1]
        return False
