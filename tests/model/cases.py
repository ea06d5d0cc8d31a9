"""
The cases: who takes part, which faults strike, which rule is broken, and what must come of it.

"ok" means that every state was seen and none violates anything; a letter is
the property that must break: (a) readable, (b) a commit lost or doubled,
(c) erased, (d) the replica, (e) progress.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from tests.model.commit import CommitModel
from tests.model.epochs import EraseOptions
from tests.model.erase import EraseModel
from tests.model.explore import Found, explore
from tests.model.ledger import Options
from tests.model.reader import WithReader
from tests.model.replica import ReplicaModel, ReplicaOptions

__all__ = ["BROKEN", "QUICK", "SLOW", "Case", "Reading", "run"]

MAX_STATES: Final = 3_000_000


class Reading:
    """A commit case with a reader beside it."""

    def __init__(self, options: Options, *, refold: bool = True) -> None:
        self.options = options
        self.refold = refold


Case: TypeAlias = Options | Reading | ReplicaOptions | EraseOptions


def run(case: Case) -> Found:
    """Explore a case."""
    match case:
        case Reading():
            return explore(WithReader(case.options, refold=case.refold), max_states=MAX_STATES)
        case Options():
            return explore(CommitModel(case), max_states=MAX_STATES)
        case ReplicaOptions():
            return explore(ReplicaModel(case), max_states=MAX_STATES)
        case EraseOptions():
            return explore(EraseModel(case), max_states=MAX_STATES)


def _commit(**more: Any) -> Options:
    return Options(**more)


def _packs_only(**more: Any) -> Options:
    """Condemn packs only; other orphans stay."""
    return Options(orphans="keep", **more)


def _erase(*actors: tuple[str, int], replica: bool = True, **more: Any) -> EraseOptions:
    return EraseOptions(actors=actors, use_replica=replica, **more)


def _salted(*actors: tuple[str, int], **more: Any) -> EraseOptions:
    """Erase as the design says: slots mix a salt that only the epoch's record has."""
    return _erase(*actors, **{"salt": True, "announce": False, "delete": "committed", **more})


ONE: Final = {"wants": ((1, 3),)}
TWICE: Final = {"initial": (((1, 2),), ((1, 2),))}
CALM: Final = {"crashes": 0, "lost": 0}
ERASE_1, ERASE_2, WRITE_1 = ("erase", 1), ("erase", 2), ("write", 1)
REPLICATE, ADD_3, READMIT_1, TWIN_1 = ("replicate", 0), ("add", 3), ("readmit", 1), ("twin", 1)

QUICK: Final[dict[str, Case]] = {
    "packs only, 2 writers, 1 pruner, crash, lost reply": _packs_only(),
    "packs only, 1 writer, 2 pruners, crash, lost reply": _packs_only(**ONE, pruners=2),
    "1 writer, prune twice, crash, lost reply": _commit(**ONE, rounds=2),
    "4 chunks in 3 packs, 2 writers, crash": _commit(
        wants=((1, 3), (2, 4)), initial=(((1, 2), (4,)),), lost=0
    ),
    "sweep any subset at any time, late put of a pack": _commit(**ONE, eager=False, late_puts=1),
    "claims, 1 writer, crash, lost reply, 2 lapses": _commit(**ONE, claims=True, lapses=2),
    "claims, source read once, no lapse": _commit(**ONE, rounds=2, claims=True, rereadable=False),
    "reader folds again when something is not found": Reading(
        _commit(wants=(), **TWICE, pruners=2, forget=(1,))
    ),
    "index list absolute, all validated again": _commit(**ONE, relative_index=False),
    "replica: records downwards, 1 replicator, crash": ReplicaOptions(),
    "replica: records downwards, 2 replicators, crash": ReplicaOptions(replicators=2),
    "erase: erase, running backup, readmit": _erase(ERASE_1, WRITE_1, READMIT_1),
    "erase: erase, new domain, replicate": _erase(ERASE_1, ADD_3, REPLICATE),
    "erase: salt, erase, new domain, replicate, backup": _salted(
        ERASE_1, ADD_3, REPLICATE, WRITE_1
    ),
    "erase: salt, anchors by random epoch name": _salted(
        ERASE_1, ERASE_2, replica=False, anchor="epoch"
    ),
    "erase: salt, the fence carries the subject's tag": _salted(
        ERASE_1, TWIN_1, ERASE_2, replica=False
    ),
}

SLOW: Final[dict[str, Case]] = {
    "packs only, 2 writers, 2 pruners": _packs_only(pruners=2, **CALM),
    "2 writers, 1 pruner, crash, lost reply": _commit(),
    "2 writers, 1 pruner, 2 crashes, delayed create": _commit(crashes=2, lost=0, zombies=1),
    "1 writer, 2 pruners with different bounds, crash, lost reply": _commit(
        **ONE, pruners=2, repack=(True, False)
    ),
    "3 writers, 1 pruner": _commit(wants=((1, 3), (2, 3), (1, 2)), **CALM),
    "duplicates, 2 pruners, both snapshots forgotten": _commit(
        **ONE, **TWICE, pruners=2, forget=(0, 1), **CALM
    ),
    "stale folds and lists": _commit(lag=True, crashes=0),
    "torn record is void": _commit(wants=((3,), (4,)), torn=1),
    "claims, 2 writers, 1 pruner, lapse": _packs_only(claims=True, lapses=1, **CALM),
    "claims, 1 writer, 2 pruners, lapse": _commit(**ONE, pruners=2, **CALM, claims=True, lapses=1),
    "erase: two erasures, replicate, crash": _erase(ERASE_1, ERASE_2, REPLICATE),
    "erase: same erasure twice, readmit, backup": _erase(
        ERASE_1, ERASE_1, READMIT_1, WRITE_1, replica=False
    ),
    "erase: two erasures, new domain, 2 crashes": _erase(
        ERASE_1, ERASE_2, ADD_3, replica=False, crashes=2
    ),
    "erase: salt, two erasures, replicate, crash": _salted(ERASE_1, ERASE_2, REPLICATE),
    "erase: salt, two erasures, new domain, 2 crashes": _salted(
        ERASE_1, ERASE_2, ADD_3, replica=False, crashes=2
    ),
}

BROKEN: Final[dict[str, tuple[str, Case]]] = {
    "reused chunks are not checked": ("a", _packs_only(**ONE, check_reused=False)),
    "own packs are not checked": ("a", _packs_only(**ONE, check_own=False)),
    "a condemned name is used again": ("a", _packs_only(**ONE, fresh_names=False)),
    "commit before packs": ("a", _commit(**ONE, commit_first=True, pruners=0)),
    "sweep before the condemn record": ("a", _packs_only(**ONE, sweep_first=True)),
    "writer does not check again after a lost race": (
        "a",
        _packs_only(**ONE, recheck_writer=False),
    ),
    "prune does not plan again after a lost race": ("a", _packs_only(**ONE, recheck_pruner=False)),
    "the same, with two pruners and duplicate chunks": (
        "a",
        _packs_only(**ONE, **TWICE, forget=(), pruners=2, recheck_pruner=False),
    ),
    "prune keeps its own packs unchecked": (
        "a",
        _packs_only(**ONE, pruners=2, repack=(True, False), pruner_checks_own=False),
    ),
    "orphans are deleted without a record": ("a", _commit(**ONE, orphans="delete")),
    "writer checks packs only": (
        "a",
        _commit(**ONE, check_own_meta=False),
    ),
    "a summary drops swept names under a running writer": (
        "a",
        _packs_only(**ONE, drop_swept=True, eager=False),
    ),
    "an id per attempt, delayed create": (
        "b",
        _commit(**ONE, pruners=0, stable_id=False, zombies=1),
    ),
    "a store only pretends exclusive create": ("b", _commit(pruners=0, exclusive=False)),
    "a torn record, no rule to pass it": (
        "e",
        _commit(wants=((3,), (4,)), pruners=0, torn=1, void_rule=False),
    ),
    "a source that cannot be read twice, grace 0": ("e", _packs_only(**ONE, rereadable=False)),
    "reader does not fold again": (
        "a",
        Reading(_packs_only(wants=(), **TWICE, pruners=2, forget=()), refold=False),
    ),
    "replica: what each record names, wait for it": ("e", ReplicaOptions(mode="each")),
    "replica: what each record names, skip what is swept": (
        "d",
        ReplicaOptions(mode="each", skip_missing=True),
    ),
    "replica: records upwards": ("d", ReplicaOptions(mode="upwards")),
    "replica: swept by records that are not yet visible": (
        "d",
        ReplicaOptions(replicators=2, sweeps_unseen=True),
    ),
    "replica: somebody commits on it": ("d", ReplicaOptions(foreign=True)),
    "erase: salt, but no tombstone, replicate late": (
        "c",
        _salted(ERASE_1, REPLICATE, opener="any", crashes=0, tomb=False),
    ),
    "erase: fence not checked at commit": (
        "c",
        _erase(ERASE_1, WRITE_1, replica=False, fence_check="none"),
    ),
    "erase: commit asks only whether it is erased now": (
        "c",
        _erase(ERASE_1, WRITE_1, READMIT_1, replica=False, fence_check="erased-now"),
    ),
    "erase: readmission only lifts the fence": (
        "c",
        _erase(ERASE_1, WRITE_1, READMIT_1, replica=False, new_incarnation=False),
    ),
    "erase: numbered epochs, a crash burns the name": (
        "e",
        _erase(ERASE_1, ERASE_2, replica=False, epoch_names="next", announce=False),
    ),
    "erase: epoch change not validated": (
        "a",
        _erase(ERASE_1, ADD_3, replica=False, validate_epoch=False),
    ),
    "erase: new domain not validated against the epoch": (
        "a",
        _erase(ERASE_1, ADD_3, replica=False, validate_add=False, crashes=0),
    ),
    "erase: only the replaced epoch is deleted": (
        "c",
        _erase(ERASE_1, ERASE_2, replica=False, delete="base"),
    ),
    "erase: epochs not announced": ("c", _erase(ERASE_1, ERASE_2, replica=False, announce=False)),
    "erase: no tombstone, slow eraser writes late": (
        "c",
        _erase(ERASE_1, ERASE_2, replica=False, tomb=False),
    ),
    "erase: no tombstone, replicate puts old keys late": (
        "c",
        _erase(ERASE_1, REPLICATE, tomb=False, opener="any", crashes=0),
    ),
    "erase: old keys deleted on a replica that lacks the new": (
        "d",
        _erase(ERASE_1, replica_first=False),
    ),
    "erase: opener of a replica trusts its own records": (
        "d",
        _erase(ERASE_1, tomb=False, opener="ledger"),
    ),
    "erase: anchors by epoch number": (
        "a",
        _salted(
            ERASE_1,
            ERASE_2,
            replica=False,
            anchor="number",
            epoch_names="next",
            crashes=0,
            progress=False,
        ),
    ),
    "erase: fence lists ids, the subject gets a second domain": (
        "c",
        _salted(ERASE_1, TWIN_1, replica=False, fence_by="ids", crashes=0),
    ),
    "erase: old objects deleted before new slots": (
        "a",
        _erase(ERASE_1, replica=False, slots_first=False),
    ),
}
