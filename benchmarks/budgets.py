"""The budgets, and whether a run has reached them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Final

from attrs import evolve, frozen

__all__ = ["BUDGETS", "RESTIC", "Sample", "Verdict", "judge"]

OURS: Final = "loopbackup"
PIPE: Final = "pipe"
RESTIC: Final = "restic-debian"
"""The budgets were set beside this one; any other can be put in its place."""
MIB: Final = 1 << 20
BACKUPS: Final = ("first", "again", "edited")
STREAMS: Final = ("random", "jsonl")
ALL: Final = ("tree", *STREAMS)


@frozen
class Sample:
    """One step of one tool in one round."""

    round: int
    corpus: str
    step: str
    tool: str
    wall_s: float
    cpu_s: float
    peak_bytes: int
    call_wall_s: float | None = None
    call_cpu_s: float | None = None
    repo_bytes: int | None = None
    repo_objects: int | None = None
    grown_bytes: int | None = None
    """By how much the repository grew in this step."""


Value = Callable[[Sample], float | None]


@frozen
class Budget:
    """One promise: what may be how large beside what of another tool."""

    step: str
    corpora: tuple[str, ...]
    quantity: str
    value: Value
    factor: float
    rival: str | None
    rival_value: Value | None = None
    slack: float = 0.0
    """What is allowed on top, in the unit of the value."""


@frozen
class Verdict:
    """What became of one budget on one corpus; a ratio to what is allowed is 1 at most."""

    corpus: str
    step: str
    text: str
    ours: float
    limit: float

    @property
    def used(self) -> float:
        """Which part of the budget is used; above 1 it is missed."""
        return self.ours / self.limit


def _wall(sample: Sample) -> float | None:
    return sample.wall_s


def _cpu(sample: Sample) -> float | None:
    return sample.cpu_s


def _call(sample: Sample) -> float | None:
    return sample.call_wall_s


def _peak(sample: Sample) -> float | None:
    return sample.peak_bytes


def _size(sample: Sample) -> float | None:
    return sample.repo_bytes


def _growth(sample: Sample) -> float | None:
    return sample.grown_bytes


BUDGETS: Final = (
    Budget("first", ("tree",), "wall", _wall, 0.35, RESTIC),
    Budget("first", ("tree",), "wall", _wall, 1.0, PIPE),
    Budget("first", ("tree",), "CPU", _cpu, 1.0, PIPE),
    Budget("first", ("random",), "wall", _wall, 0.3, RESTIC),
    Budget("first", ("random",), "wall", _wall, 0.8, PIPE),
    Budget("first", ("jsonl",), "wall", _wall, 0.5, RESTIC),
    Budget("first", ("jsonl",), "wall", _wall, 1.0, PIPE),
    Budget("first", ("jsonl",), "CPU", _cpu, 1.0, PIPE),
    Budget("edited", STREAMS, "wall", _wall, 0.3, RESTIC),
    Budget("again", ("tree",), "wall of the call", _call, 0.25, RESTIC, _wall),
    Budget("again", ("tree",), "wall of the process", _wall, 0.45, RESTIC),
    Budget("restore", ("tree",), "wall", _wall, 0.6, RESTIC),
    Budget("restore", STREAMS, "wall", _wall, 0.4, RESTIC),
    Budget("check", ALL, "wall", _wall, 0.4, RESTIC),
    *(Budget(step, ALL, "peak memory", _peak, 0.0, None, slack=220e6) for step in BACKUPS),
    Budget("first", ("tree", "jsonl"), "size", _size, 1.05, PIPE, slack=16 * MIB),
    Budget("edited", ("random",), "growth", _growth, 0.6, RESTIC),
)


def judge(samples: Iterable[Sample], *, restic: str = RESTIC) -> list[Verdict]:
    """
    Hold a run against the budgets; those whose step or rival was not run are left out.

    What is compared is the median of the rounds' ratios: both of a ratio come
    from the same minute. *restic* names which restic stands for restic.
    """
    by_key = {(s.corpus, s.step, s.tool, s.round): s for s in samples}
    rounds = sorted({key[3] for key in by_key})
    verdicts = []
    for promised in BUDGETS:
        budget = evolve(promised, rival=restic) if promised.rival == RESTIC else promised
        for corpus in budget.corpora:
            pairs = []
            for number in rounds:
                mine = by_key.get((corpus, budget.step, OURS, number))
                rival = by_key.get((corpus, budget.step, budget.rival or OURS, number))
                if mine is not None and rival is not None:
                    pairs.append((mine, rival))
            verdict = _verdict(budget, corpus, pairs)
            if verdict is not None:
                verdicts.append(verdict)
    return verdicts


def _verdict(budget: Budget, corpus: str, pairs: Sequence[tuple[Sample, Sample]]) -> Verdict | None:
    values = []
    for mine, rival in pairs:
        ours = budget.value(mine)
        theirs = (budget.rival_value or budget.value)(rival) if budget.rival else 0.0
        if ours is None or theirs is None:
            return None
        values.append((ours, budget.factor * theirs + budget.slack))
    if not values:
        return None
    ours = median(value for value, _ in values)
    # The limit is scaled so that ours / limit is the median of the paired ratios.
    limit = ours / median(value / allowed for value, allowed in values)
    return Verdict(corpus, budget.step, _text(budget), ours, limit)


def _text(budget: Budget) -> str:
    if budget.rival is None:
        return f"{budget.quantity} <= {budget.slack / 1e6:g} MB"
    slack = f" + {budget.slack / MIB:g} MiB" if budget.slack else ""
    return f"{budget.quantity} <= {budget.factor:g} x {budget.rival}{slack}"
