"""Durations of ISO 8601, added to instants by the calendar of a zone."""

from __future__ import annotations

import calendar
import re
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from attrs import frozen

from ...errors import InputError

__all__ = ["Duration", "duration", "zone"]

_FORM: Final = re.compile(
    r"P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?"
)
SHORTEST_MONTH: Final = 28
_FAR: Final = datetime.max.replace(tzinfo=UTC)
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
_MAX: Final = 9999 * 366 * 86_400


@frozen
class Duration:
    """A length of time: months and days by the calendar, seconds by the clock."""

    text: str
    months: int
    days: int
    seconds: int

    def after(self, moment: datetime, where: tzinfo) -> datetime:
        """
        Give the instant that is as much later, in UTC.

        Months and days are those of the calendar of *where*: a day may have 23
        or 25 hours, and a month after 31 January is the last of February.
        """
        return self._moved(moment, where, 1)

    def before(self, moment: datetime, where: tzinfo) -> datetime:
        """Give the instant that is as much earlier, in UTC; likewise."""
        return self._moved(moment, where, -1)

    def _moved(self, moment: datetime, where: tzinfo, sign: int) -> datetime:
        try:
            if self.months or self.days:
                moment = _months(moment.astimezone(where), sign * self.months)
                if self.days:
                    moment += timedelta(days=sign * self.days)
            moment = moment.astimezone(UTC)
            return moment + timedelta(seconds=sign * self.seconds) if self.seconds else moment
        except (OverflowError, ValueError):
            return _FAR if sign > 0 else _LONG_AGO

    def __str__(self) -> str:
        return self.text


def _months(local: datetime, months: int) -> datetime:
    if not months:
        return local
    count = local.year * 12 + local.month - 1 + months
    year, month = divmod(count, 12)
    if not 1 <= year <= 9999:
        raise OverflowError
    day = local.day
    if day > SHORTEST_MONTH:
        day = min(day, calendar.monthrange(year, month + 1)[1])
    return local.replace(year=year, month=month + 1, day=day)


@lru_cache(maxsize=256)
def duration(what: str, text: object) -> Duration:
    """
    Read a duration of ISO 8601 in whole units; *what* names it in the error.

    Raises:
        InputError: It is none, is zero, or is longer than 9,999 years.

    >>> duration("keep_at_least", "P1Y6M").months
    18
    """
    match = _FORM.fullmatch(text) if isinstance(text, str) else None
    if not isinstance(text, str) or match is None or text.endswith(("P", "T")):
        raise InputError(
            f"{what} is a duration of ISO 8601 in whole units, such as P7Y, P18M, P5W, P30D or "
            f"PT12H, not {text!r}"
        )
    years, months, weeks, days, hours, minutes, seconds = (int(n or 0) for n in match.groups())
    found = Duration(
        text,
        years * 12 + months,
        weeks * 7 + days,
        hours * 3600 + minutes * 60 + seconds,
    )
    total = found.months * 31 * 86_400 + found.days * 86_400 + found.seconds
    if not 0 < total <= _MAX:
        raise InputError(f"{what} is more than nothing and at most 9,999 years, not {text}")
    return found


@lru_cache(maxsize=256)
def zone(name: str) -> ZoneInfo:
    """
    Give a time zone by its name in the IANA database.

    Raises:
        InputError: This host knows none of that name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError, AttributeError):
        raise InputError(
            f"this host knows no time zone {name!r}; they are named like Europe/Stockholm. "
            "Where it knows none at all, install tzdata"
        ) from None
