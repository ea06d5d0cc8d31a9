"""The prune of the commit model: list, plan, move, condemn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from attrs import frozen
from tests.model.explore import bits
from tests.model.ledger import NAMES, RECORDS, Condemned, Fold, Name, name_all
from tests.model.state import Pruner, State, Step

if TYPE_CHECKING:
    from tests.model.commit import CommitModel

__all__ = ["prune_steps"]

# Where a pruner is.
LIST, PLAN, MOVE, INDEX, CREATE, SWEPT, READ, ENDED, DONE, DEAD = range(10)


def prune_steps(model: CommitModel, k: int, s: State, *, faults: bool = True) -> Iterator[Step]:
    """Yield what pruner *k* may do next."""
    me, o = s.pruners[k], model.options
    if me.at >= DONE:
        return
    if faults and s.faults.crashes:
        left = s.faults._replace(crashes=s.faults.crashes - 1)
        yield f"p{k} crashes", _with(s, k, Pruner(DEAD))._replace(faults=left)
    if model.fold(s.ledger).torn and not o.void_rule:
        return
    if me.at == LIST:
        yield from _list(model, k, s)
    elif me.at == PLAN:
        if o.lag and faults:
            for head in range(max(1, me.head), len(s.ledger)):
                yield _plan(model, k, s, head)
        yield _plan(model, k, s, len(s.ledger))
    elif me.at == MOVE:
        after = _with(s, k, me._replace(at=INDEX if me.segment >= 0 else CREATE))
        yield f"p{k} puts {NAMES.values[me.pack]}", _put(after, me.pack)
    elif me.at == INDEX:
        yield f"p{k} puts its index", _put(_with(s, k, me._replace(at=CREATE)), me.segment)
    elif me.at == READ:
        yield _read_back(model, k, s)
    else:
        yield from _create(model, k, s, faults)


def _with(s: State, k: int, me: Pruner) -> State:
    return s._replace(pruners=(*s.pruners[:k], me, *s.pruners[k + 1 :]))


def _put(s: State, name: int) -> State:
    return s._replace(objects=s.objects | 1 << name)


def _next(model: CommitModel, me: Pruner) -> Pruner:
    """Begin the next round, or end."""
    if me.round + 1 < model.options.rounds:
        return Pruner(number=me.number + 1, round=me.round + 1)
    return Pruner(DONE)


def _list(model: CommitModel, k: int, s: State) -> Iterator[Step]:
    me = s.pruners[k]
    packs_only = model.options.orphans == "keep"
    seen = 0
    for name in bits(s.objects):
        if NAMES.values[name].kind == "pack" or not packs_only:
            seen |= 1 << name
    me = Pruner(PLAN, seen, pack=me.pack, number=me.number, round=me.round)
    yield f"p{k} lists", _with(s, k, me)
    if model.options.lag and seen:
        yield f"p{k} lists, and sees nothing new", _with(s, k, me._replace(listed=0))


@frozen
class Usage:
    """Which packs count, and where each live chunk is at home."""

    packs: dict[int, set[int]]
    condemned: int
    moved: tuple[int, ...]


def _usage(fold: Fold, k: int, *, repack: bool) -> Usage:
    """Say which packs are dead or wasteful, and what has to be moved out of them."""
    live = {chunk for run in fold.live for chunk in fold.snapshots[run][0]}
    packs: dict[int, set[int]] = {}
    for chunk, holders in fold.places.items():
        for pack in holders:
            packs.setdefault(pack, set()).add(chunk)
    # Two pruners prefer different copies of what is there twice.
    order = sorted(packs, reverse=bool(k % 2))
    home: dict[int, int] = {}
    for pack in order:
        for chunk in packs[pack] & live:
            home.setdefault(chunk, pack)
    condemned = 0
    moved: list[int] = []
    for pack in order:
        keep = {chunk for chunk in packs[pack] if home.get(chunk) == pack}
        if fold.claimed >> pack & 1:
            continue
        if not keep or (len(keep) < len(NAMES.values[pack].chunks) and repack):
            condemned |= 1 << pack
            moved += keep
    return Usage(packs, condemned, tuple(sorted(moved)))


def _orphans(model: CommitModel, fold: Fold, me: Pruner) -> tuple[int, int]:
    """Give the unknown objects to condemn, and those to delete without a record."""
    condemned = deleted = 0
    mine = 0 if me.pack < 0 else 1 << me.pack
    for name in bits(me.listed & ~fold.named & ~mine & ~fold.claimed):
        if NAMES.values[name].kind == "pack":
            condemned |= 1 << name if model.options.condemn_unknown else 0
        elif model.options.orphans == "condemn":
            condemned |= 1 << name
        elif model.options.orphans == "delete":
            deleted |= 1 << name
    if model.options.orphans == "condemn":
        for run in fold.snapshots.keys() - fold.live:
            condemned |= 1 << fold.snapshots[run][1] & ~fold.condemned
    return condemned, deleted


def _plan(model: CommitModel, k: int, s: State, head: int) -> Step:
    o, me, ledger = model.options, s.pruners[k], s.ledger[:head]
    fold = model.fold(ledger)
    usage = _usage(fold, k, repack=o.repack[k])
    orphans, deleted = _orphans(model, fold, me)
    if deleted:
        after = _with(s, k, me._replace(listed=me.listed & ~deleted))
        label = f"p{k} deletes {name_all(deleted)} without a record"
        return label, after._replace(objects=s.objects & ~deleted)
    condemns = usage.condemned | orphans
    if not condemns:
        return f"p{k} folds to {head}: nothing to do", _with(s, k, _next(model, me))
    pack, moved = me.pack, usage.moved
    stands = pack >= 0 and not (o.pruner_checks_own and fold.condemned >> pack & 1)
    kept = stands and NAMES.values[pack].chunks == moved
    if not kept:
        pack = NAMES(Name("pack", f"p{k}", me.number, moved)) if moved else -1
    index, old = _new_index(k, me, head, usage, condemns, pack), sum(1 << i for i in fold.index)
    me = Pruner(
        MOVE if pack >= 0 and not kept else INDEX if index >= 0 else CREATE,
        me.listed,
        condemns | (old if o.orphans == "condemn" else 0),
        old,
        pack,
        index,
        head,
        me.number + 1,
        me.round,
    )
    label = f"p{k} folds to {head}: condemns {name_all(me.condemns)}, moves {moved}"
    return label, _with(s, k, me)


def _new_index(k: int, me: Pruner, head: int, usage: Usage, condemns: int, pack: int) -> int:
    places = {(c, p) for p, chunks in usage.packs.items() if not condemns >> p & 1 for c in chunks}
    if pack >= 0:
        places |= {(chunk, pack) for chunk in usage.moved}
    if not places:
        return -1
    return NAMES(Name("index", f"p{k}", me.number * 10 + head, places=tuple(sorted(places))))


def _record(model: CommitModel, k: int, me: Pruner) -> int:
    absolute = 0 if model.options.relative_index or me.segment < 0 else 1 << me.segment
    return RECORDS(Condemned(f"p{k}.{me.round}", me.condemns, me.old, me.segment, absolute))


def _create(model: CommitModel, k: int, s: State, faults: bool) -> Iterator[Step]:
    o, me = model.options, s.pruners[k]
    if o.sweep_first and me.at == CREATE:
        after = _with(s, k, me._replace(at=SWEPT))
        label = f"p{k} deletes {name_all(me.condemns)} before its record"
        yield label, after._replace(objects=s.objects & ~me.condemns)
        return
    record, label = _record(model, k, me), f"p{k} creates record {me.head}"
    unsure = me._replace(at=READ)
    if len(s.ledger) == me.head:
        written = (*s.ledger, record)
        yield label, _with(s, k, _next(model, me))._replace(ledger=written)
        if faults and s.faults.lost:
            after = _with(s, k, unsure)._replace(faults=s.faults._replace(lost=s.faults.lost - 1))
            yield f"{label}, reply lost", after._replace(ledger=written)
            yield f"{label}, request lost", after
    elif not o.recheck_pruner:
        yield f"p{k} tries the next number", _with(s, k, me._replace(head=me.head + 1))
    else:
        yield f"p{k}: record {me.head} exists", _with(s, k, unsure)


def _read_back(model: CommitModel, k: int, s: State) -> Step:
    me = s.pruners[k]
    if len(s.ledger) > me.head:
        if s.ledger[me.head] == _record(model, k, me):
            return f"p{k} reads back its own record", _with(s, k, _next(model, me))
        head = me.head + 1 if model.options.lag else 0
        again = Pruner(PLAN, me.listed, pack=me.pack, head=head, number=me.number, round=me.round)
        return f"p{k} plans again", _with(s, k, again)
    return f"p{k} reads back nothing, tries again", _with(s, k, me._replace(at=CREATE))
