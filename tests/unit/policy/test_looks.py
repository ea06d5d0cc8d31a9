"""Plans and decisions to look at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve

import loopbackup as lb
from loopbackup import policy

NOW = datetime(2026, 11, 23, 16, tzinfo=UTC)
HELD = policy.Blocker("hold", "17")


def plan() -> policy.PolicyPlan:
    """Plan for six nights, of which one is held."""
    nights = [
        policy.SnapshotInfo(f"{n:032x}", "<b>mail", NOW - timedelta(days=9 - n), n)
        for n in range(6)
    ]
    nights[1] = evolve(nights[1], blockers=(HELD,))
    return policy.Policy(policy.Retention(keep_last=2)).plan_retention(nights, at=NOW)


def test_calendar_has_a_sign_for_each_day() -> None:
    """What goes, what stays, what is blocked, and nothing."""
    head, november = plan().calendar().splitlines()

    assert head.split() == ["1234567890123456789012345678901"]
    assert november == "2026-11  " + "." * 13 + "-#--oo" + "." * 12
    assert policy.Policy().plan_retention([], at=NOW).calendar() == head


def test_plan_is_short_where_it_is_printed_by_accident() -> None:
    """A hundred thousand snapshots are no line of a log."""
    assert repr(plan()) == "<PolicyPlan: 3 stay, 3 go, 1 blocked>"
    assert repr(policy.History()) == "<History: 0 events, 0 snapshots>"


def test_notebook_shows_a_plan_with_its_reasons() -> None:
    """Names that are HTML are text."""
    shown = plan()._repr_html_()

    assert "&lt;b&gt;mail" in shown
    assert "<b>" not in shown
    assert "blocked by hold 17" in shown
    assert "no rule keeps it" in shown


def test_notebook_shows_a_decision_rule_by_rule() -> None:
    """Those that had nothing against it too."""
    rules = policy.Policy(policy.Residency(allow="EEA"), policy.Access({}, id="<who>"))
    known = policy.Facts(places=(policy.Place("vault", "SE"),))

    shown = rules.decide("backup", known, at=NOW)._repr_html_()

    assert "&lt;who&gt;" in shown
    assert "pass" in shown
    assert "missing" in shown


def test_figure_has_a_mark_for_each_snapshot() -> None:
    """One line for each series, and a legend that counts."""
    figure = plan().plot()

    (axes,) = figure.axes
    marks = {c.get_label(): len(c.get_offsets()) for c in axes.collections}
    assert marks == {"stay (2)": 2, "go (3)": 3, "blocked (1)": 1}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["<b>mail"]


def test_figure_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """An extra, not a dependency."""
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)

    with pytest.raises(lb.InputError, match=r"loopbackup\[plot\]"):
        plan().plot()
