"""
Writers, prunes, sweep and forget on one ledger that is only ever created: every interleaving.

A step is one store call or one fold. Properties: (a) committed snapshots are
readable, (b) a commit is neither lost nor doubled, (e) whoever is alone ends.
The grace is 0: what is condemned may be deleted at any moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.model.explore import bits
from tests.model.ledger import (
    NAMES,
    RECORDS,
    Claimed,
    Fold,
    Forgotten,
    Lapsed,
    Name,
    Options,
    Snapshot,
    Swept,
    Torn,
    first_objects,
    name_all,
)
from tests.model.pruner import prune_steps
from tests.model.state import (
    CHECK,
    CLAIM,
    CREATE,
    DEAD,
    DONE,
    INDEX,
    MANIFEST,
    OPEN,
    PACK,
    RACE,
    READ,
    STUCK,
    Faults,
    Late,
    Ledger,
    Pruner,
    State,
    Step,
    Writer,
)

__all__ = ["CommitModel"]

ENDED: Final = (STUCK, DONE, DEAD)
ALONE_MAX: Final = 40


class CommitModel:
    """The model; see the module."""

    def __init__(self, options: Options) -> None:
        self.options = o = options
        self._folds: dict[Ledger, Fold] = {}
        self._readable: dict[tuple[Ledger, int], str | None] = {}
        self._ends: dict[tuple[Ledger, int, int, Writer], bool] = {}
        self.rework = 0
        """How often at most a writer had to put something again."""
        self._acts = {
            OPEN: self._open,
            CLAIM: self._claim,
            PACK: self._put_pack,
            INDEX: self._put_index,
            MANIFEST: self._put_manifest,
            CHECK: self._check_names,
            CREATE: self._create,
            READ: self._read_back,
            RACE: self._overwrite,
        }
        first = list(first_objects(o))
        objects = 0
        for _record, mask in first:
            objects |= mask
        self.start = State(
            tuple(record for record, _mask in first),
            objects,
            (Writer(),) * len(o.wants),
            (Pruner(),) * o.pruners,
            sum(1 << number for number in o.forget),
            Faults(o.crashes, o.lost, o.zombies, o.late_puts, o.torn, o.lapses),
        )

    def fold(self, ledger: Ledger) -> Fold:
        """Fold a ledger, once."""
        fold = self._folds.get(ledger)
        if fold is None:
            fold = self._folds[ledger] = Fold.of(ledger)
        return fold

    # ---- writers

    def writer_steps(self, w: int, s: State, *, faults: bool = True) -> Iterator[Step]:
        """Yield what writer *w* may do next."""
        o, me = self.options, s.writers[w]
        if me.at in ENDED:
            return
        if faults and s.faults.crashes:
            left = s.faults._replace(crashes=s.faults.crashes - 1)
            yield f"w{w} crashes", self._with(s, w, Writer(DEAD), faults=left)
        if me.at in (OPEN, CHECK, READ) and self.fold(s.ledger).torn and not o.void_rule:
            return
        if me.at in (OPEN, CHECK) and o.lag and faults:
            for head in range(max(1, me.known), len(s.ledger)):
                yield from self._acts[me.at](w, s, s.ledger[:head], faults)
        yield from self._acts[me.at](w, s, s.ledger, faults)

    def _with(
        self,
        s: State,
        w: int,
        me: Writer,
        *,
        record: int | None = None,
        objects: int = 0,
        faults: Faults | None = None,
        late: Late | None = None,
    ) -> State:
        """Give the state after a step of writer *w*."""
        if not self.options.lag and me.known:
            me = me._replace(known=0)
        return State(
            s.ledger if record is None else (*s.ledger, record),
            s.objects | objects,
            (*s.writers[:w], me, *s.writers[w + 1 :]),
            s.pruners,
            s.forgettable,
            s.faults if faults is None else faults,
            s.late if late is None else (*s.late, late),
        )

    def _next_pack(self, w: int, relied: tuple[int, ...], number: int) -> int:
        """Name the pack of the chunks that no pack holds yet; -1 if there are none."""
        wants = self.options.wants[w]
        need = tuple(chunk for chunk, pack in zip(wants, relied, strict=True) if pack < 0)
        return NAMES(Name("pack", f"w{w}", number, need)) if need else -1

    def _record(self, w: int, me: Writer) -> int:
        attempt = 0 if self.options.stable_id else me.attempt
        return RECORDS(Snapshot(f"w{w}", attempt, self.options.wants[w], me.segment, me.manifest))

    def _open(self, w: int, s: State, ledger: Ledger, _faults: bool) -> Iterator[Step]:
        o, me, f = self.options, s.writers[w], self.fold(ledger)
        relied = tuple(f.places[c][0] if c in f.places else -1 for c in o.wants[w])
        pack = self._next_pack(w, relied, me.number)
        me = me._replace(head=0, relied=relied, again=0, known=len(ledger))
        if o.commit_first:
            relied = tuple(p if p >= 0 else pack for p in relied)
            places = tuple((c, p) for c, p in zip(o.wants[w], relied, strict=True) if p == pack)
            index = NAMES(Name("index", f"w{w}", me.number, places=places)) if pack >= 0 else -1
            manifest = NAMES(Name("manifest", f"w{w}", 0, o.wants[w]))
            me = me._replace(at=CHECK, relied=relied, segment=index, manifest=manifest)
        else:
            me = me._replace(at=CLAIM if o.claims else PACK if pack >= 0 else MANIFEST)
        yield f"w{w} opens at {len(ledger)}", self._with(s, w, me)

    def _claim(self, w: int, s: State, ledger: Ledger, _faults: bool) -> Iterator[Step]:
        me, f = s.writers[w], self.fold(ledger)
        relied = tuple(
            p if p >= 0 and not f.condemned >> p & 1 else f.places[c][0] if c in f.places else -1
            for c, p in zip(self.options.wants[w], me.relied, strict=True)
        )
        pack = self._next_pack(w, relied, me.number)
        mask = sum(1 << p for p in {*relied, pack} if p >= 0)
        at = PACK if pack >= 0 else MANIFEST if me.manifest < 0 else CHECK
        me = me._replace(at=at, head=0, relied=relied)
        record = RECORDS(Claimed(f"w{w}", mask))
        yield f"w{w} claims {name_all(mask)}", self._with(s, w, me, record=record)

    def _put_pack(self, w: int, s: State, _ledger: Ledger, faults: bool) -> Iterator[Step]:
        me = s.writers[w]
        if self.options.commit_first:
            objects = 1 << max(me.relied) | 1 << me.manifest
            objects |= 1 << me.segment if me.segment >= 0 else 0
            yield f"w{w} puts its pack", self._with(s, w, Writer(DONE), objects=objects)
            return
        pack = self._next_pack(w, me.relied, me.number)
        relied = tuple(p if p >= 0 else pack for p in me.relied)
        me = me._replace(at=INDEX, head=0, relied=relied)
        label = f"w{w} puts {NAMES.values[pack]}"
        yield label, self._with(s, w, me, objects=1 << pack)
        if faults and s.faults.late_puts:
            left = s.faults._replace(late_puts=s.faults.late_puts - 1)
            after = self._with(s, w, me, objects=1 << pack, faults=left, late=Late(pack))
            yield f"{label}, a second copy of the request stays in flight", after

    def _put_index(self, w: int, s: State, _ledger: Ledger, _faults: bool) -> Iterator[Step]:
        me = s.writers[w]
        wanted = zip(self.options.wants[w], me.relied, strict=True)
        own = tuple((c, p) for c, p in wanted if NAMES.values[p].owner == f"w{w}")
        index = NAMES(Name("index", f"w{w}", me.number, places=own))
        me = me._replace(at=MANIFEST if me.manifest < 0 else CHECK, head=0, segment=index)
        yield f"w{w} puts its index {me.number}", self._with(s, w, me, objects=1 << index)

    def _put_manifest(self, w: int, s: State, _ledger: Ledger, _faults: bool) -> Iterator[Step]:
        me = s.writers[w]
        manifest = NAMES(Name("manifest", f"w{w}", me.number, self.options.wants[w]))
        me = me._replace(at=CHECK, head=0, manifest=manifest)
        yield f"w{w} puts its manifest", self._with(s, w, me, objects=1 << manifest)

    def _check_names(self, w: int, s: State, ledger: Ledger, _faults: bool) -> Iterator[Step]:
        """Hold everything that was put and is relied on against what is condemned."""
        o, me, f = self.options, s.writers[w], self.fold(ledger)
        label = f"w{w} folds to {len(ledger)}"
        if o.stable_id and f"w{w}" in f.times:
            yield f"w{w} finds its own record", self._with(s, w, Writer(DONE))
            return
        if o.commit_first:
            yield label, self._with(s, w, me._replace(at=CREATE, head=len(ledger)))
            return
        condemned = f.remembered if o.drop_swept else f.condemned
        relied, again = self._settle(w, me, f, condemned)
        me = me._replace(head=0, relied=relied, known=len(ledger))
        if again:
            after = me._replace(relied=s.writers[w].relied, again=me.again | again)
            yield f"{label}, puts its pack again", self._with(s, w, after, objects=again)
        elif -1 in relied:
            gone = (p for p, q in zip(s.writers[w].relied, relied, strict=True) if q < 0)
            if not o.rereadable and any(not s.objects >> p & 1 for p in gone):
                yield f"w{w} cannot read a chunk again", self._with(s, w, Writer(STUCK))
                return
            at = CLAIM if o.claims else PACK
            after = me._replace(at=at, segment=-1, number=me.number + 1)
            yield f"{label}, must put chunks again", self._with(s, w, after)
        else:
            yield from self._check_own_meta(w, s, me, condemned, len(ledger))

    def _settle(self, w: int, me: Writer, f: Fold, condemned: int) -> tuple[tuple[int, ...], int]:
        """Give the places that last, -1 for none, and what is to be put again as it was."""
        o = self.options
        relied, again = [], 0
        for chunk, pack in zip(o.wants[w], me.relied, strict=True):
            own = NAMES.values[pack].owner == f"w{w}"
            bad = bool(condemned >> pack & 1) and (o.check_own if own else o.check_reused)
            if bad and own and not o.fresh_names:
                again |= 0 if me.again >> pack & 1 else 1 << pack
            elif bad:
                relied.append(f.places[chunk][0] if chunk in f.places else -1)
                continue
            relied.append(pack)
        return tuple(relied), again

    def _check_own_meta(
        self, w: int, s: State, me: Writer, condemned: int, head: int
    ) -> Iterator[Step]:
        label = f"w{w} folds to {head}"
        if not any(NAMES.values[pack].owner == f"w{w}" for pack in me.relied):
            me = me._replace(segment=-1)
        if self.options.check_own_meta:
            if me.segment >= 0 and condemned >> me.segment & 1:
                after = me._replace(at=INDEX, segment=-1, number=me.number + 1)
                yield f"{label}, its index is condemned", self._with(s, w, after)
                return
            if condemned >> me.manifest & 1:
                after = me._replace(at=MANIFEST, manifest=-1, number=me.number + 1)
                yield f"{label}, its manifest is condemned", self._with(s, w, after)
                return
        yield f"{label}, all is well", self._with(s, w, me._replace(at=CREATE, head=head))

    def _create(self, w: int, s: State, ledger: Ledger, faults: bool) -> Iterator[Step]:
        o, me = self.options, s.writers[w]
        record, free = self._record(w, me), len(ledger) == me.head
        if not o.exclusive:
            at = RACE if free else READ
            yield f"w{w} looks for record {me.head}", self._with(s, w, me._replace(at=at))
        elif free:
            missing = o.commit_first and max(me.relied) >= 0
            done = me._replace(at=PACK) if missing else Writer(DONE)
            label = f"w{w} creates record {me.head}"
            yield label, self._with(s, w, done, record=record)
            if faults:
                yield from self._faulty_create(w, s, record, label)
        elif not o.recheck_writer and ledger[me.head] != record:
            after = me._replace(head=me.head + 1)
            yield f"w{w} loses the race, tries the next number", self._with(s, w, after)
        else:
            yield f"w{w}: record {me.head} exists", self._with(s, w, me._replace(at=READ))

    def _faulty_create(self, w: int, s: State, record: int, label: str) -> Iterator[Step]:
        left, unsure = s.faults, s.writers[w]._replace(at=READ)
        if left.lost:
            fewer = left._replace(lost=left.lost - 1)
            yield f"{label}, reply lost", self._with(s, w, unsure, record=record, faults=fewer)
            yield f"{label}, request lost", self._with(s, w, unsure, faults=fewer)
        if left.zombies:
            fewer, late = left._replace(zombies=left.zombies - 1), Late(record, unsure.head)
            yield f"{label}, request delayed", self._with(s, w, unsure, faults=fewer, late=late)
        if left.torn:
            fewer, torn = left._replace(torn=left.torn - 1), RECORDS(Torn(len(s.ledger)))
            yield f"{label}, dies in it", self._with(s, w, Writer(DEAD), record=torn, faults=fewer)

    def _read_back(self, w: int, s: State, ledger: Ledger, _faults: bool) -> Iterator[Step]:
        o, me = self.options, s.writers[w]
        there = len(ledger) > me.head
        if there and ledger[me.head] == self._record(w, me):
            yield f"w{w} reads back its own record", self._with(s, w, Writer(DONE))
        elif there or not o.stable_id:
            after = me._replace(at=CHECK, head=0, attempt=me.attempt + (not o.stable_id))
            yield f"w{w} reads back another record", self._with(s, w, after)
        else:
            yield f"w{w} reads back nothing, tries again", self._with(s, w, me._replace(at=CREATE))

    def _overwrite(self, w: int, s: State, ledger: Ledger, _faults: bool) -> Iterator[Step]:
        me = s.writers[w]
        written = (*ledger[: me.head], self._record(w, me), *ledger[me.head + 1 :])
        after = self._with(s, w, me._replace(at=READ))
        yield f"w{w} puts record {me.head}, the store overwrites", after._replace(ledger=written)

    # ---- everything

    def successors(self, s: State) -> Iterator[Step]:
        """Yield what may happen next."""
        for label, after in self._steps(s):
            gone = self.fold(after.ledger).condemned & after.objects if self.options.eager else 0
            yield label, after._replace(objects=after.objects & ~gone) if gone else after

    def _steps(self, s: State) -> Iterator[Step]:
        for w in range(len(s.writers)):
            yield from self.writer_steps(w, s)
        for k in range(len(s.pruners)):
            yield from prune_steps(self, k, s)
        fold = self.fold(s.ledger)
        if self.options.void_rule or not fold.torn:
            yield from self._forget_or_sweep(s, fold)
        if s.faults.lapses:
            fewer = s.faults._replace(lapses=s.faults.lapses - 1)
            for run in fold.claims:
                ledger = (*s.ledger, RECORDS(Lapsed(run)))
                yield f"the claim of {run} lapses", s._replace(ledger=ledger, faults=fewer)
        for number, late in enumerate(s.late):
            yield self._land(s, late, (*s.late[:number], *s.late[number + 1 :]))

    def _forget_or_sweep(self, s: State, fold: Fold) -> Iterator[Step]:
        for number in bits(s.forgettable):
            ledger = (*s.ledger, RECORDS(Forgotten(f"s{number}")))
            left = s.forgettable & ~(1 << number)
            yield f"s{number} is forgotten", s._replace(ledger=ledger, forgettable=left)
        if self.options.eager:
            return
        for name in bits(fold.condemned & s.objects):
            after = s._replace(objects=s.objects & ~(1 << name))
            if self.options.drop_swept:
                after = after._replace(ledger=(*s.ledger, RECORDS(Swept(1 << name))))
            yield f"{NAMES.values[name]} is swept", after

    def _land(self, s: State, late: Late, rest: tuple[Late, ...]) -> Step:
        if late.head < 0:
            after = s._replace(objects=s.objects | 1 << late.what, late=rest)
            return f"a late put of {NAMES.values[late.what]} lands", after
        if len(s.ledger) == late.head:
            ledger = (*s.ledger, late.what)
            return f"a late record {late.head} lands", s._replace(ledger=ledger, late=rest)
        return "a late record is refused", s._replace(late=rest)

    # ---- properties

    def check(self, s: State) -> str | None:
        """Say what is wrong with a state."""
        key = (s.ledger, s.objects)
        if key not in self._readable:
            self._readable[key] = self.readable(*key)
        error = self._readable[key]
        if error:
            return error
        fold = self.fold(s.ledger)
        self.rework = max(self.rework, *(writer.number for writer in s.writers), 0)
        for run, times in fold.times.items():
            if times > 1:
                return f"(b) {run} is committed {times} times"
        for w, writer in enumerate(s.writers):
            if writer.at == DONE and not self.options.commit_first and f"w{w}" not in fold.times:
                return f"(b) w{w} was told that it committed, and no record says so"
            if writer.at == STUCK:
                return f"(e) w{w} cannot commit: the only copy of a chunk that it needs is gone"
        return self._progress(s)

    def readable(self, ledger: Ledger, objects: int) -> str | None:
        """Say which live snapshot cannot be read from these objects."""
        fold = self.fold(ledger)
        stored = {
            chunk
            for index in fold.index
            if objects >> index & 1
            for chunk, pack in NAMES.values[index].places
            if objects >> pack & 1
        }
        for run in fold.live:
            chunks, manifest = fold.snapshots[run]
            if not objects >> manifest & 1:
                return f"(a) the manifest of {run} is gone"
            for chunk in chunks:
                if chunk not in stored:
                    return f"(a) chunk {chunk} of {run} is in no pack that exists"
        return None

    def _progress(self, s: State) -> str | None:
        """Each living writer must commit when it goes on alone and nothing strikes it."""
        for w, writer in enumerate(s.writers):
            if writer.at in ENDED or self.options.commit_first:
                continue
            key = (s.ledger, s.objects, w, writer)
            if key not in self._ends:
                self._ends[key] = self._ends_alone(w, s)
            if not self._ends[key]:
                return f"(e) w{w} alone never commits"
        return None

    def _ends_alone(self, w: int, s: State) -> bool:
        state = s._replace(forgettable=0, faults=Faults(), late=())
        for _ in range(ALONE_MAX):
            step = next(self.writer_steps(w, state, faults=False), None)
            if step is None:
                break
            state = step[1]
        return state.writers[w].at == DONE
