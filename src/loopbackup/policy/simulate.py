"""What would change if a policy were active: the past asked again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from attrs import field, frozen

from ..terms import Decision, History, Past, RetentionPlan

if TYPE_CHECKING:
    from .policy import Policy

__all__ = ["Simulation", "simulate"]


@frozen
class Simulation:
    """
    The answers of a policy to what was done before it.

    Args:
        refused: What was done, and would be refused.
        allowed: What was refused, and would be allowed.
        undecided: What the ledger says too little of.
        same: How many would have the same answer.
        plan: Which snapshots would go now.
    """

    refused: tuple[tuple[Past, Decision], ...] = ()
    allowed: tuple[tuple[Past, Decision], ...] = ()
    undecided: tuple[tuple[Past, Decision], ...] = ()
    same: int = 0
    plan: RetentionPlan = field(factory=RetentionPlan)

    def __str__(self) -> str:
        total = len(self.plan.expire) + len(self.plan.keep)
        lines = [
            f"{len(self.refused):,} of what was done would be refused",
            f"{len(self.allowed):,} of what was refused would be allowed",
            f"{self.same:,} would be the same",
            f"{len(self.plan.expire):,} of {total:,} snapshots would go now",
        ]
        if self.undecided:
            lines.append(f"of {len(self.undecided):,} the ledger says too little")
        for what, found in (("refused", self.refused), ("allowed", self.allowed)):
            counts = _by_reason(found)
            lines += [f"{what} {count:,} times: {why}" for why, count in counts.items()]
        return "\n".join(lines)


def _by_reason(found: tuple[tuple[Past, Decision], ...]) -> Mapping[str, int]:
    counts = Counter(f"{past.action} {decision}" for past, decision in found)
    return dict(counts.most_common())


def simulate(policy: Policy, history: History, *, at: datetime) -> Simulation:
    """Ask a policy about each event of a history, as of its time; and which snapshots would go."""
    refused: list[tuple[Past, Decision]] = []
    allowed: list[tuple[Past, Decision]] = []
    undecided: list[tuple[Past, Decision]] = []
    same = 0
    for past in history.events:
        decision = policy.decide(past.action, past.facts, at=past.at)
        if decision.outcome == "indeterminate":
            undecided.append((past, decision))
        elif decision.allowed == past.allowed:
            same += 1
        else:
            (allowed if decision.allowed else refused).append((past, decision))
    plan = policy.plan_retention(history.snapshots, at=at)
    return Simulation(tuple(refused), tuple(allowed), tuple(undecided), same, plan)
