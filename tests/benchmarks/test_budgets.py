"""What the benchmark says of budgets follows from its samples alone."""

from __future__ import annotations

import pytest
from benchmarks.budgets import Sample, judge


def sample(tool: str, number: int, wall_s: float, *, step: str = "check") -> Sample:
    """Give a step of a tool that took so long in one round."""
    return Sample(number, "tree", step, tool, wall_s, cpu_s=wall_s, peak_bytes=10**8)


def test_a_budget_is_judged_by_the_median_of_the_ratios_of_each_round() -> None:
    """A round in which both were slow weighs no more than any other."""
    samples = [
        *(sample("loopbackup", 0, 1.0), sample("restic-debian", 0, 5.0)),
        *(sample("loopbackup", 1, 90.0), sample("restic-debian", 1, 300.0)),
        *(sample("loopbackup", 2, 1.0), sample("restic-debian", 2, 2.0)),
    ]

    (verdict,) = judge(samples)

    assert verdict.used == pytest.approx(0.3 / 0.4)


def test_a_budget_whose_rival_was_not_run_is_left_out() -> None:
    """Nothing is said to be reached that was not measured."""
    samples = [sample("loopbackup", 0, 1.0), sample("borg", 0, 5.0)]

    verdicts = judge(samples)

    assert verdicts == []


def test_rounds_in_which_the_rival_did_not_run_do_not_count() -> None:
    """Both figures of a ratio come from one round."""
    samples = [
        *(sample("loopbackup", 0, 8.0), sample("restic-debian", 0, 10.0)),
        sample("loopbackup", 1, 1.0),
    ]

    (verdict,) = judge(samples)

    assert verdict.used == pytest.approx(2.0)


def test_memory_is_held_against_a_fixed_limit() -> None:
    """A budget without a rival needs none."""
    samples = [sample("loopbackup", 0, 1.0, step="again")]

    (verdict,) = judge(samples)

    assert verdict.limit == 220e6
