"""Plans and decisions to look at: as text, in a notebook, as a figure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from attrs import frozen

from ..errors import InputError
from ..show import html, text
from ..terms import Decision, Fate, RetentionPlan

__all__ = ["PolicyDecision", "PolicyPlan"]

_MARKS: Final = {"go": "-", "stay": "o", "blocked": "#"}
_STRENGTH: Final = ".-o#"
"""What shows of a day with several."""
_COLOURS: Final = {"stay": "#1b7837", "go": "#bdbdbd", "blocked": "#b2182b"}


@frozen
class PolicyDecision(Decision):
    """A decision of a policy; a notebook shows what each rule said."""

    def _repr_html_(self) -> str:
        rows = [
            (step.rule, step.outcome, step.actual or step.fact or "", step.required)
            for step in self.trace
        ]
        facts = [
            ("answer", str(self)),
            ("asked for", text.moment(self.at)),
            ("policy", self.policy[:16]),
            ("facts", self.facts[:16]),
            ("tables", self.tables[:16]),
        ]
        table = html.Table("", ("Rule", "Says", "Found", "Needs"), rows)
        return html.card(f"{self.action}", facts, *([table] if rows else []))


@frozen(repr=False)
class PolicyPlan(RetentionPlan):
    """A plan of a policy; a notebook shows it as a table."""

    def _each(self) -> Iterator[tuple[str, Fate]]:
        blocked = {fate.snapshot.id for fate in self.blocked}
        for fate in self.keep:
            yield ("blocked" if fate.snapshot.id in blocked else "stay"), fate
        for fate in self.expire:
            yield "go", fate

    def calendar(self) -> str:
        """
        Give the plan as a calendar: a line for each month, a sign for each day, UTC.

        ``o``: something of that day stays, ``#``: stays because it is blocked, ``-``: all of
        it goes, ``.``: there is nothing.
        """
        days: dict[tuple[int, int], dict[int, str]] = {}
        for what, fate in self._each():
            made = fate.snapshot.created_at
            month = days.setdefault((made.year, made.month), {})
            month[made.day] = max(month.get(made.day, "."), _MARKS[what], key=_STRENGTH.index)
        lines = [
            f"{year:04}-{month:02}  " + "".join(found.get(day, ".") for day in range(1, 32))
            for (year, month), found in sorted(days.items())
        ]
        return "\n".join([f"{'':7}  {'1234567890' * 3}1", *lines])

    def plot(self) -> Any:
        """
        Give a matplotlib figure: time from left to right, a line for each series.

        Raises:
            InputError: Kind "missing_extra": matplotlib is not installed.

        Cost: one mark a snapshot.
        """
        try:
            from matplotlib.dates import date2num
            from matplotlib.figure import Figure
        except ImportError as exc:
            raise InputError(
                "a figure needs matplotlib: pip install 'loopbackup[plot]'", kind="missing_extra"
            ) from exc
        found = list(self._each())
        names = sorted({fate.snapshot.name for _, fate in found}, reverse=True)
        figure = Figure(figsize=(9, 1.2 + 0.4 * max(len(names), 1)), layout="constrained")
        axes = figure.subplots()
        for what, colour in _COLOURS.items():
            these = [fate.snapshot for kind, fate in found if kind == what]
            axes.scatter(
                [float(date2num(s.created_at)) for s in these],  # type: ignore[no-untyped-call]
                [names.index(snapshot.name) for snapshot in these],
                s=30,
                marker="|",
                color=colour,
                label=f"{what} ({len(these):,})",
            )
        axes.xaxis_date()
        axes.set_yticks(range(len(names)), [text.plain(name) for name in names])
        axes.set_title(f"{len(self.keep):,} snapshots stay, {len(self.expire):,} go")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, frameon=False)
        return figure

    def _repr_html_(self) -> str:
        rows = [
            (
                fate.snapshot.id[:8],
                text.moment(fate.snapshot.created_at),
                fate.snapshot.name,
                what,
                fate.why,
            )
            for what, fate in sorted(
                self._each(), key=lambda pair: pair[1].snapshot.created_at, reverse=True
            )[: html.MAX_ROWS]
        ]
        facts = [
            ("planned for", text.moment(self.at)),
            ("stay", f"{len(self.keep):,}"),
            ("blocked", f"{len(self.blocked):,}"),
            ("go", f"{len(self.expire):,}"),
        ]
        columns = ("Snapshot", "Made", "Series", "Fate", "Why")
        table = html.Table("", columns, rows, len(self.keep) + len(self.expire))
        return html.card("Retention plan", facts, *([table] if rows else []))
