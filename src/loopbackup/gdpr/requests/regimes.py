"""The laws under which people ask, and the time that each gives; values and arithmetic only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Final, Literal

from attrs import field, frozen

from ...errors import InputError
from .calendar import IsHoliday, add_months, days_within, next_working_day

__all__ = ["REGIMES", "Regime", "RegimeName", "Wait", "due_on", "regime_of"]

RegimeName = Literal["GDPR", "UK_GDPR", "FADP", "FERPA", "COPPA"]


@frozen
class Regime:
    """
    How long an answer may take under a law.

    Args:
        name: As requests name it.
        source: The provision.
        months: Of the first period, or else *days*.
        days: As above.
        extension_months: How much longer an extension makes it; None where an extension
            is to a day that the controller names (``names_the_day``), or does not exist.
        names_the_day: Whether the controller names the day of an extension.
        stops_the_clock: Whether the time does not run while the person owes an answer.
        ends_on_working_day: Whether an end on a free day moves to the next working day.
        is_statutory: False where the law gives no number, and this is our own.
    """

    name: RegimeName
    source: str
    months: int = field(default=0, kw_only=True)
    days: int = field(default=0, kw_only=True)
    extension_months: int | None = field(default=None, kw_only=True)
    names_the_day: bool = field(default=False, kw_only=True)
    stops_the_clock: bool = field(default=False, kw_only=True)
    ends_on_working_day: bool = field(default=True, kw_only=True)
    is_statutory: bool = field(default=True, kw_only=True)

    @property
    def may_extend(self) -> bool:
        """Whether the law knows an extension."""
        return self.extension_months is not None or self.names_the_day


REGIMES: Final[dict[str, Regime]] = {
    regime.name: regime
    for regime in (
        Regime("GDPR", "GDPR Art. 12(3), (4)", months=1, extension_months=2),
        Regime(
            "UK_GDPR",
            "UK GDPR Art. 12A",
            months=1,
            extension_months=2,
            stops_the_clock=True,
        ),
        Regime("FADP", "FADP Art. 25(7); DPO Art. 18", days=30, names_the_day=True),
        # Nothing in 34 CFR 99 moves an end that falls on a free day.
        Regime("FERPA", "34 CFR 99.10(b)", days=45, ends_on_working_day=False),
        Regime("COPPA", "16 CFR 312.6", days=30, ends_on_working_day=False, is_statutory=False),
    )
}


@frozen
class Wait:
    """That something was asked of the person on a day, and when it came; None: not yet."""

    what: Literal["identity", "fee", "clarification"]
    asked_on: date = field(kw_only=True)
    came_on: date | None = field(default=None, kw_only=True)


def regime_of(name: object) -> Regime:
    """Give a regime by its name; InputError if there is none."""
    found = REGIMES.get(name) if isinstance(name, str) else None
    if found is None:
        raise InputError(f"a regime is one of {', '.join(REGIMES)}")
    return found


def due_on(
    regime: Regime,
    received_on: date,
    *,
    waits: Sequence[Wait] = (),
    today: date,
    is_holiday: IsHoliday,
    extended: bool = False,
) -> date:
    """
    Give the last day for the answer.

    Where the clock stops, it starts on the day on which the last of what was asked
    to identify the person, and of fees, came; and the days from a question for
    clarification to its answer, both included, do not count. What has not come
    yet counts as if it came *today*.

    Args:
        regime: The law.
        received_on: When the request came.
        waits: What was asked of the person.
        today: The day on which one looks.
        is_holiday: Of the place where the answer is due.
        extended: Whether the period is extended by what the law says.

    Source: Reg. 1182/71 Art. 3; UK GDPR Art. 12A.
    """
    start, stops = received_on, []
    if regime.stops_the_clock:
        came = [(wait, max(wait.asked_on, wait.came_on or today)) for wait in waits]
        start = max([start, *(end for wait, end in came if wait.what != "clarification")])
        stops = [(wait.asked_on, end) for wait, end in came if wait.what == "clarification"]
    months = regime.months + ((regime.extension_months or 0) if extended else 0)
    end = add_months(start, months) + timedelta(days=regime.days)
    for number in range(1, len(stops) + 1):
        # A question that is asked after the end stops nothing.
        counted = [span for span in sorted(stops)[:number] if span[0] <= end]
        plain = add_months(start, months) + timedelta(days=regime.days)
        end = plain + timedelta(days=days_within(counted, since=start))
    return next_working_day(end, is_holiday) if regime.ends_on_working_day else end
