"""
Ends of periods, as Regulation (EEC, Euratom) 1182/71 counts them.

Pure but for :func:`public_holidays`. Days only: the time of day decides no
deadline that is counted in days or months.
"""

from __future__ import annotations

import calendar
from collections.abc import Callable, Iterable
from datetime import MAXYEAR, date, timedelta
from typing import Final, TypeAlias

from ...errors import InputError

__all__ = ["IsHoliday", "add_months", "days_within", "next_working_day", "public_holidays"]

IsHoliday: TypeAlias = Callable[[date], bool]
"""Tells whether a day is a public holiday where the action is due; Sundays need not be."""

SATURDAY: Final = 5
MAX_FREE_DAYS: Final = 60


def add_months(day: date, months: int) -> date:
    """
    Give the same day *months* later; the last day of that month where there is none such.

    The day from which one counts is itself no part of the period, which ends with
    the day that this gives. Source: Reg. 1182/71 Art. 3(1) and (2)(c).

    Raises:
        InputError: Beyond the year 9999.

    >>> add_months(date(2026, 1, 31), 1)
    datetime.date(2026, 2, 28)
    >>> add_months(date(2026, 3, 5), 1)
    datetime.date(2026, 4, 5)
    """
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    if year > MAXYEAR:
        raise InputError("the period ends after the year 9999")
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


def next_working_day(day: date, is_holiday: IsHoliday) -> date:
    """
    Give *day*, or the first day after it that is no Saturday, Sunday or public holiday.

    Source: Reg. 1182/71 Art. 2(2) and 3(4).

    Raises:
        InputError: *is_holiday* knows no working day in the two months that follow.

    >>> next_working_day(date(2026, 11, 28), lambda day: False)
    datetime.date(2026, 11, 30)
    """
    for later in range(MAX_FREE_DAYS):
        found = day + timedelta(days=later)
        if found.weekday() < SATURDAY and not is_holiday(found):
            return found
    raise InputError(f"the calendar has no working day in {MAX_FREE_DAYS} days")


def days_within(spans: Iterable[tuple[date, date]], *, since: date) -> int:
    """
    Count the days from *since* on that lie in any of *spans*, whose both ends count.

    A day that lies in two of them counts once.
    """
    counted, last = 0, since - timedelta(days=1)
    for first, end in sorted(spans):
        begin = max(first, last + timedelta(days=1))
        if end >= begin:
            counted += (end - begin).days + 1
            last = end
    return counted


def public_holidays(country: str, subdivision: str | None = None) -> IsHoliday:
    """
    Give the public holidays of a place, as the library ``holidays`` knows them.

    Args:
        country: ISO 3166-1 alpha-2.
        subdivision: ISO 3166-2 without the country, where holidays depend on it.

    Raises:
        InputError: The library is not installed (kind "missing_extra"), or does not know the place.
    """
    try:
        import holidays
    except ImportError:
        raise InputError(
            "public holidays need the extra gdpr: pip install 'loopbackup[gdpr]'; "
            "or give your own: Registers(..., is_holiday=)",
            kind="missing_extra",
        ) from None
    try:
        known = holidays.country_holidays(country, subdiv=subdivision)
    except NotImplementedError:
        raise InputError(
            f"no public holidays are known of {country}"
            f"{f'-{subdivision}' if subdivision else ''}: "
            "give them yourself: Registers(..., is_holiday=)"
        ) from None
    return lambda day: day in known
