"""
Fences, epochs, the deletion of key objects, readmission, new domains, replicas: every interleaving.

A commit is one step, "fold all, validate, create"; the commit model takes it
apart. Properties: (a) what is not erased can be opened, (c) what is erased
cannot, (d) the replica can be opened, (e) an erasure comes to its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

from tests.model.epochs import (
    RECORDS,
    TWIN,
    Epoch,
    EraseOptions,
    Fold,
    Key,
    Objects,
    Record,
    is_taken,
    keys_in,
    parts_of,
    root_of,
)

__all__ = ["EraseModel"]

ENDED, DEAD = 90, 99
ALONE_MAX: Final = 60


class Actor(NamedTuple):
    """Somebody, what he is at, and what he holds."""

    kind: str
    domain: int
    at: int = 0
    held: tuple[Any, ...] = ()


class State(NamedTuple):
    """Everything."""

    ledger: tuple[int, ...]
    source: Objects
    replica: Objects
    replicated: int
    """How many records the replica has."""
    actors: tuple[Actor, ...]
    crashes: int


Step: TypeAlias = tuple[str, State]


class Building(NamedTuple):
    """An erasure under way, and the epoch that it builds."""

    key: Key
    epoch: Epoch = 0
    base: Epoch = 0
    attempt: int = 0
    keys: frozenset[Key] = frozenset()


class EraseModel:
    """The model; see the module."""

    def __init__(self, options: EraseOptions) -> None:
        self._options = options
        self._folds: dict[tuple[int, ...], Fold] = {}
        self._ends: dict[tuple[Any, ...], bool] = {}
        self._acts: dict[str, Callable[[int, State], Iterator[Step]]] = {
            "write": self._write,
            "add": self._add,
            "readmit": self._add,
            "twin": self._twin,
            "erase": self._erase,
            "replicate": self._replicate,
        }
        self._erasing = {
            1: self._begin_epoch,
            2: self._put_root,
            3: self._put_slot,
            35: self._test_opening,
            4: self._change_epoch,
            5: self._delete_old,
            6: self._root_to_replica,
            7: self._parts_to_replica,
            8: self._delete_on_replica,
            10: self._issue_receipt,
        }
        keys = frozenset({(1, 0), (2, 0)})
        first: Objects = frozenset({("root", 0, keys), ("slot", 0)})
        ledger = tuple(RECORDS(Record("data", key)) for key in sorted(keys))
        self.start = State(
            ledger,
            first,
            first if options.use_replica else frozenset(),
            len(ledger),
            tuple(Actor(kind, domain) for kind, domain in options.actors),
            options.crashes,
        )

    def _fold(self, ledger: tuple[int, ...]) -> Fold:
        fold = self._folds.get(ledger)
        if fold is None:
            fold = self._folds[ledger] = Fold(self._options)
            for number in ledger:
                fold.apply(RECORDS.values[number])
        return fold

    # ---- steps

    def successors(self, s: State) -> Iterator[Step]:
        """Yield what may happen next."""
        for i, actor in enumerate(s.actors):
            if actor.at >= ENDED:
                continue
            if s.crashes:
                dead = self._with(s, i, DEAD)
                yield f"{actor.kind}#{i} crashes", dead._replace(crashes=s.crashes - 1)
            yield from self._acts[actor.kind](i, s)

    @staticmethod
    def _with(
        s: State, i: int, at: int, held: tuple[Any, ...] = (), record: Record | None = None
    ) -> State:
        """Give the state after a step of actor *i*."""
        actor = Actor(s.actors[i].kind, s.actors[i].domain, at, held)
        return s._replace(
            ledger=s.ledger if record is None else (*s.ledger, RECORDS(record)),
            actors=(*s.actors[:i], actor, *s.actors[i + 1 :]),
        )

    def _write(self, i: int, s: State) -> Iterator[Step]:
        actor, f = s.actors[i], self._fold(s.ledger)
        domain, who = actor.domain, f"writer#{i}"
        if actor.at == 0:
            key = (domain, f.incarnations.get(domain, 0))
            if key in f.fenced or domain not in f.incarnations:
                yield f"{who} is refused", self._with(s, i, ENDED)
            else:
                yield f"{who} holds {key}, uploads", self._with(s, i, 1, key)
            return
        key = (actor.held[0], actor.held[1])
        now = (domain, f.incarnations[domain])
        stale = {
            "none": False,
            "erased-now": now in f.fenced,
            "incarnation": key in f.fenced or now != key,
        }
        if stale[self._options.fence_check]:
            yield f"{who}'s commit is refused", self._with(s, i, ENDED)
        else:
            yield f"{who} commits under {key}", self._with(s, i, ENDED, (), Record("data", key))

    def _add(self, i: int, s: State) -> Iterator[Step]:
        """Add a domain, or readmit an erased one."""
        actor, f, o = s.actors[i], self._fold(s.ledger), self._options
        readmits, who = actor.kind == "readmit", f"{actor.kind}#{i}"
        old = (actor.domain, f.incarnations.get(actor.domain, 0))
        if readmits and actor.at == 0 and old not in f.fenced:
            return
        if readmits and not o.new_incarnation:
            yield f"{who} lifts the fence", self._with(s, i, ENDED, (), Record("lift", old))
        elif actor.at == 0:
            key = (actor.domain, old[1] + 1 if readmits else 0)
            after = self._with(s, i, 1, (f.current, key))
            shard = ("shard", f.current, key)
            yield f"{who} puts a shard with {key}", after._replace(source=s.source | {shard})
        elif actor.at == 1:
            epoch, key = actor.held
            if o.validate_add and f.current != epoch:
                yield f"{who}: the epoch changed, again", self._with(s, i, 0)
                return
            record = Record("domain", key, epoch)
            yield (
                f"{who} commits {key}",
                self._with(s, i, ENDED if readmits else 2, () if readmits else actor.held, record),
            )
        else:
            record = Record("data", actor.held[1])
            yield f"{who} commits data", self._with(s, i, ENDED, (), record)

    def _twin(self, i: int, s: State) -> Iterator[Step]:
        """Make a second domain of a subject, whose first was not seen."""
        actor, f, who = s.actors[i], self._fold(s.ledger), f"twin#{i}"
        key = (actor.domain, TWIN)
        by_tag = actor.at == 0 or self._options.fence_by == "tag"
        if ((actor.domain, 0) in f.fenced and by_tag) or key in f.fenced:
            yield f"{who} is refused", self._with(s, i, ENDED)
        elif actor.at == 0:
            after = self._with(s, i, 1, (f.current,))
            shard = ("shard", f.current, key)
            yield f"{who} puts a shard with {key}", after._replace(source=s.source | {shard})
        elif f.current != actor.held[0]:
            yield f"{who}: the epoch changed, again", self._with(s, i, 0)
        elif actor.at == 1:
            yield f"{who} commits {key}", self._with(s, i, 2, actor.held, Record("twin", key))
        else:
            yield f"{who} commits data", self._with(s, i, ENDED, (), Record("data", key))

    # ---- an erasure

    def _erase(self, i: int, s: State) -> Iterator[Step]:
        actor, f = s.actors[i], self._fold(s.ledger)
        if actor.at:
            yield from self._erasing[actor.at](i, s, f, Building(*actor.held))
            return
        if actor.domain not in f.incarnations:
            return
        key = (actor.domain, f.incarnations[actor.domain])
        job = Building(key, base=f.current)
        if key in f.fenced:
            yield f"erase#{i} takes up an erasure", self._with(s, i, 1, job)
        else:
            yield f"erase#{i} fences {key}", self._with(s, i, 1, job, Record("fence", key))

    def _begin_epoch(self, i: int, s: State, f: Fold, job: Building) -> Iterator[Step]:
        o, base, epoch = self._options, f.current, f"{i}.{job.attempt}"
        name: Epoch = epoch if o.epoch_names == "unique" else int(base) + 1
        # What the ledger says, not what lies there.
        keys = frozenset(f.keys & keys_in(s.source, base))
        job = Building(job.key, name, base, job.attempt, keys)
        if o.anchor != "none":
            source = frozenset(x for x in s.source if x[:2] != ("anchor", name))
            after = self._with(s, i, 2, job)._replace(source=source | {("anchor", name, i)})
            yield f"erase#{i} puts anchor {name}", after
        elif o.announce:
            record = Record("announce", epoch=name)
            yield f"erase#{i} announces epoch {name}", self._with(s, i, 2, job, record)
        else:
            yield f"erase#{i} builds epoch {name}", self._with(s, i, 2, job)

    def _again(self, s: State, i: int, job: Building) -> State:
        return self._with(s, i, 1, Building(job.key, attempt=job.attempt + 1))

    def _put_root(self, i: int, s: State, _f: Fold, job: Building) -> Iterator[Step]:
        if is_taken(s.source, job.epoch):
            # Numbered epochs end here: nothing says what to do now.
            if self._options.epoch_names == "unique":
                yield f"erase#{i}: the name is taken, again", self._again(s, i, job)
            return
        after = self._with(s, i, 3 if self._options.slots_first else 4, job)
        root = ("root", job.epoch, job.keys)
        yield f"erase#{i} puts root {job.epoch}", after._replace(source=s.source | {root})

    def _put_slot(self, i: int, s: State, _f: Fold, job: Building) -> Iterator[Step]:
        after = self._with(s, i, 35 if self._options.anchor != "none" else 4, job)
        slot = ("slot", job.epoch)
        yield f"erase#{i} puts slot {job.epoch}", after._replace(source=s.source | {slot})

    def _test_opening(self, i: int, s: State, _f: Fold, job: Building) -> Iterator[Step]:
        if ("anchor", job.epoch, i) in s.source:
            yield f"erase#{i} opens the epoch as a test", self._with(s, i, 4, job)
        else:
            yield f"erase#{i}: the test fails, again", self._again(s, i, job)

    def _change_epoch(self, i: int, s: State, f: Fold, job: Building) -> Iterator[Step]:
        moved = f.current != job.base or job.epoch in f.condemned or job.keys != f.keys
        if not self._options.validate_epoch or not moved:
            record = Record("epoch", epoch=job.epoch, who=i)
            yield f"erase#{i} commits epoch {job.epoch}", self._with(s, i, 5, job, record)
            return
        gone = job.key not in f.keys and job.key not in keys_in(s.source, f.current)
        if gone and f.current != job.base:
            yield f"erase#{i}: another's epoch has done it", self._with(s, i, 5, job)
        else:
            yield f"erase#{i}: keys changed, again", self._again(s, i, job)

    def _old(self, f: Fold, job: Building, objects: Objects) -> Epoch | None:
        """Give an epoch of which something is still to be deleted."""
        tomb = self._options.tomb
        for epoch in [job.base] if self._options.delete == "base" else f.condemned:
            left = any(x[1] == epoch and x[0] != "tomb" for x in objects)
            if left or (tomb and ("tomb", epoch) not in objects):
                return epoch
        return None

    def _bury(self, objects: Objects, epoch: Epoch) -> Objects:
        tomb: Objects = frozenset({("tomb", epoch)} if self._options.tomb else ())
        return frozenset(x for x in objects if x[1] != epoch) | tomb

    def _delete_old(self, i: int, s: State, f: Fold, job: Building) -> Iterator[Step]:
        o, old = self._options, self._old(f, job, s.source)
        if old is not None:
            after = self._with(s, i, 5, job)._replace(source=self._bury(s.source, old))
            yield f"erase#{i} deletes epoch {old}", after
        elif not o.slots_first and ("slot", job.epoch) not in s.source:
            after = self._with(s, i, 5, job)
            slot = ("slot", job.epoch)
            yield f"erase#{i} puts slot {job.epoch}", after._replace(source=s.source | {slot})
        else:
            at = (6 if o.replica_first else 8) if o.use_replica else 10
            yield f"erase#{i} is done with the source", self._with(s, i, at, job)

    def _root_to_replica(self, i: int, s: State, f: Fold, job: Building) -> Iterator[Step]:
        root = root_of(s.source, f.current)
        if root is None:
            return
        after = self._with(s, i, 7, job)
        if not is_taken(s.replica, f.current):
            after = after._replace(replica=s.replica | {root})
        yield f"erase#{i} puts root {f.current} on the replica", after

    def _parts_to_replica(self, i: int, s: State, f: Fold, job: Building) -> Iterator[Step]:
        replica = s.replica | parts_of(s.source, f.current)
        after = self._with(s, i, 8, job)._replace(replica=replica)
        yield f"erase#{i} puts slots and shards on the replica", after

    def _delete_on_replica(self, i: int, s: State, f: Fold, job: Building) -> Iterator[Step]:
        there = root_of(s.replica, f.current) and ("slot", f.current) in s.replica
        old = self._old(f, job, s.replica)
        if self._options.replica_first and not there:
            yield f"erase#{i}: the epoch moved on", self._with(s, i, 6, job)
        elif old is not None:
            after = self._with(s, i, 8, job)._replace(replica=self._bury(s.replica, old))
            yield f"erase#{i} deletes epoch {old} on the replica", after
        else:
            yield f"erase#{i} is done with the replica", self._with(s, i, 10, job)

    def _issue_receipt(self, i: int, s: State, _f: Fold, job: Building) -> Iterator[Step]:
        record = Record("receipt", job.key)
        yield f"erase#{i} issues the receipt", self._with(s, i, ENDED, (), record)

    def _replicate(self, i: int, s: State) -> Iterator[Step]:
        actor, f, who = s.actors[i], self._fold(s.ledger), f"replicate#{i}"
        if actor.at == 0:
            root = root_of(s.source, f.current)
            if root is not None:
                held = (f.current, len(s.ledger), root, parts_of(s.source, f.current))
                yield f"{who} reads epoch {f.current}", self._with(s, i, 1, held)
            return
        epoch, head, root, rest = actor.held
        if actor.at == 1:
            if root not in s.replica and is_taken(s.replica, epoch):
                yield f"{who}: the root was erased, again", self._with(s, i, 0)
                return
            after = self._with(s, i, 2, actor.held)
            yield f"{who} puts root {epoch}", after._replace(replica=s.replica | {root})
        elif actor.at == 2:
            after = self._with(s, i, 3, actor.held)
            yield f"{who} puts slots and shards", after._replace(replica=s.replica | rest)
        else:
            after = self._with(s, i, ENDED)
            yield (
                f"{who} installs {head} records",
                after._replace(replicated=max(s.replicated, head)),
            )

    # ---- properties

    def check(self, s: State) -> str | None:
        """Say what is wrong with a state."""
        f = self._fold(s.ledger)
        error = f.error or self._openable(s, f)
        if not error and self._options.use_replica:
            error = self._replica_openable(s, f)
        return error or self._receipts_hold(s, f) or self._progress(s, f)

    def _openable(self, s: State, f: Fold) -> str | None:
        epoch = f.current
        if root_of(s.source, epoch) is None or ("slot", epoch) not in s.source:
            return f"(a) the source cannot be opened: epoch {epoch} has no root or no slot"
        anchor = ("anchor", epoch, f.builders.get(epoch))
        if self._options.anchor != "none" and epoch in f.builders and anchor not in s.source:
            return f"(a) nobody can open the source: anchor {epoch} was replaced"
        return self._all_there(s.source, epoch, f, f.fenced)

    def _replica_openable(self, s: State, now: Fold) -> str | None:
        f, opener = self._fold(s.ledger[: s.replicated]), self._options.opener
        epoch, objects = f.current, s.replica
        whole = root_of(objects, epoch) is not None and ("slot", epoch) in objects
        if (opener == "tomb" and ("tomb", epoch) in objects) or (opener == "any" and not whole):
            later = (
                e for e in reversed(now.announced) if root_of(objects, e) and ("slot", e) in objects
            )
            epoch = next(later, epoch)
        if root_of(objects, epoch) is None or ("slot", epoch) not in objects:
            return f"(d) the replica cannot be opened: epoch {epoch} has no root or no slot"
        return self._all_there(objects, epoch, f, now.fenced)

    @staticmethod
    def _all_there(objects: Objects, epoch: Epoch, f: Fold, fenced: set[Key]) -> str | None:
        have = keys_in(objects, epoch)
        for key in f.data:
            if key not in have and key not in fenced:
                return f"(a) data of {key} are committed, not erased, and have no key"
        return None

    def _receipts_hold(self, s: State, f: Fold) -> str | None:
        for key in f.receipts:
            for objects in (s.source, s.replica):
                for x in objects:
                    dormant = self._options.salt and x[1] not in f.committed
                    if x[0] == "root" and not dormant and key in keys_in(objects, x[1]):
                        return f"(c) {key} has its receipt, and its key lies in epoch {x[1]}"
        return None

    def _progress(self, s: State, f: Fold) -> str | None:
        if not self._options.progress:
            return None
        for i, actor in enumerate(s.actors):
            if actor.kind != "erase":
                continue
            if actor.at < ENDED and actor.domain in f.incarnations and not self._ends_alone(s, i):
                return f"(e) erase#{i} alone never comes to its receipt"
            key = (actor.domain, f.incarnations.get(actor.domain, 0))
            unfinished = key in f.fenced and key not in f.receipts
            if actor.at == DEAD and unfinished and not self._ends_alone(s, i):
                return f"(e) after the crash nobody can finish the erasure of {key}"
        return None

    def _ends_alone(self, s: State, i: int) -> bool:
        actor, actors = s.actors[i], s.actors
        if actor.at == DEAD:
            # Another process takes it up, under names of its own.
            actor = Actor(actor.kind, actor.domain)
            actors, i = (*actors, actor), len(actors)
        key = (s.ledger, s.source, s.replica, actor, i)
        known = self._ends.get(key)
        if known is None:
            known = self._ends[key] = self._walk(s._replace(actors=actors, crashes=0), i)
        return known

    def _walk(self, s: State, i: int) -> bool:
        for _ in range(ALONE_MAX):
            step = next(self._erase(i, s), None)
            if step is None:
                return False
            s = step[1]
            if s.actors[i].at == ENDED:
                return True
        return False
