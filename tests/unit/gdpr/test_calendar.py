"""Ends of periods keep to Regulation 1182/71, whatever the day and the calendar."""

from __future__ import annotations

import calendar
import sys
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopbackup.errors import InputError
from loopbackup.gdpr.requests.calendar import (
    add_months,
    days_within,
    next_working_day,
    public_holidays,
)

DAYS = st.dates(min_value=date(1971, 6, 3), max_value=date(2100, 12, 31))
MONTHS = st.integers(min_value=0, max_value=36)
SPANS = st.lists(st.tuples(DAYS, st.integers(0, 60)), max_size=6)


@pytest.mark.parametrize(
    ("day", "months", "end"),
    [
        (date(2026, 3, 5), 1, date(2026, 4, 5)),
        (date(2026, 8, 31), 1, date(2026, 9, 30)),
        (date(2026, 1, 31), 1, date(2026, 2, 28)),
        (date(2028, 1, 31), 1, date(2028, 2, 29)),
        (date(2026, 11, 30), 3, date(2027, 2, 28)),
        (date(2026, 12, 31), 2, date(2027, 2, 28)),
        (date(2027, 2, 28), 1, date(2027, 3, 28)),
    ],
    ids=str,
)
def test_months_end_on_the_day_of_the_same_number(day: date, months: int, end: date) -> None:
    """The examples of the EDPB, and the ends of short months."""
    assert add_months(day, months) == end


@given(DAYS, MONTHS)
def test_month_arithmetic_has_its_laws(day: date, months: int) -> None:
    """It ends in the right month, on the same number or that month's last day."""
    end = add_months(day, months)

    whole = (end.year * 12 + end.month) - (day.year * 12 + day.month)
    last = calendar.monthrange(end.year, end.month)[1]
    assert whole == months
    assert end.day == min(day.day, last)


@given(DAYS, DAYS, MONTHS)
def test_who_comes_later_is_due_no_earlier(one: date, other: date, months: int) -> None:
    """Month arithmetic keeps the order of days."""
    first, second = sorted((one, other))

    assert add_months(first, months) <= add_months(second, months)


@given(DAYS, st.sets(st.integers(0, 20)))
def test_the_end_moves_to_the_next_working_day_and_no_further(day: date, free: set[int]) -> None:
    """Never back, never past a working day, and twice is as once."""
    holidays = {day + timedelta(days=number) for number in free}

    end = next_working_day(day, holidays.__contains__)

    passed = [day + timedelta(days=number) for number in range((end - day).days)]
    assert end >= day
    assert end.weekday() < 5
    assert end not in holidays
    assert all(each.weekday() >= 5 or each in holidays for each in passed)
    assert next_working_day(end, holidays.__contains__) == end


def test_a_calendar_without_working_days_is_refused() -> None:
    """Rather than counted for ever."""
    with pytest.raises(InputError, match="no working day"):
        next_working_day(date(2026, 1, 1), lambda _day: True)


@given(SPANS, DAYS)
def test_days_in_spans_are_counted_once(spans: list[tuple[date, int]], since: date) -> None:
    """As a set of days would count them."""
    ends = [(first, first + timedelta(days=length)) for first, length in spans]

    counted = days_within(ends, since=since)

    days = {
        first + timedelta(days=number)
        for first, end in ends
        for number in range((end - first).days + 1)
    }
    assert counted == len({day for day in days if day >= since})


@pytest.mark.parametrize(
    ("place", "day", "free"),
    [
        (("SE", None), date(2026, 6, 6), True),
        (("SE", None), date(2026, 6, 8), False),
        (("DE", "BY"), date(2027, 1, 6), True),
        (("DE", "BE"), date(2027, 1, 6), False),
        (("GB", "SCT"), date(2026, 11, 30), True),
        (("GB", "ENG"), date(2026, 11, 30), False),
    ],
    ids=str,
)
def test_public_holidays_are_those_of_the_place(
    place: tuple[str, str | None], day: date, free: bool
) -> None:
    """Epiphany is one in Munich and none in Berlin."""
    assert public_holidays(*place)(day) is free


@pytest.mark.parametrize("place", [("XX", None), ("DE", "ZZ")], ids=str)
def test_an_unknown_place_is_told(place: tuple[str, str | None]) -> None:
    """And what to do about it."""
    with pytest.raises(InputError, match="is_holiday="):
        public_holidays(*place)


def test_without_the_library_one_is_told_which(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra."""
    monkeypatch.setitem(sys.modules, "holidays", None)

    with pytest.raises(InputError, match=r"loopbackup\[gdpr\]") as caught:
        public_holidays("SE")

    assert caught.value.kind == "missing_extra"
