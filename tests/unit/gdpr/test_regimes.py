"""Each law gives its own time, and stops its clock or does not."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopbackup.errors import InputError
from loopbackup.gdpr.requests.calendar import add_months, public_holidays
from loopbackup.gdpr.requests.regimes import REGIMES, Wait, due_on, regime_of

DAYS = st.dates(min_value=date(2018, 5, 25), max_value=date(2090, 12, 31))


def never(_day: date) -> bool:
    """Know no public holiday."""
    return False


def due(regime: str, received_on: date, *waits: Wait, **more: Any) -> date:
    """Compute, with Swedish holidays unless told otherwise."""
    options: dict[str, Any] = {"is_holiday": public_holidays("SE"), "today": date(2026, 12, 1)}
    return due_on(REGIMES[regime], received_on, waits=waits, **{**options, **more})


@pytest.mark.parametrize(
    ("regime", "received_on", "extended", "end"),
    [
        ("GDPR", date(2026, 11, 2), False, date(2026, 12, 2)),
        # 31 January: 28 February is a Saturday.
        ("GDPR", date(2026, 1, 31), False, date(2026, 3, 2)),
        ("GDPR", date(2028, 1, 31), False, date(2028, 2, 29)),
        # Easter Monday 6 April 2026, after Easter Sunday.
        ("GDPR", date(2026, 3, 5), False, date(2026, 4, 7)),
        # Christmas Day is a Friday, then a weekend with Boxing Day.
        ("GDPR", date(2026, 11, 25), False, date(2026, 12, 28)),
        ("GDPR", date(2026, 11, 2), True, date(2027, 2, 2)),
        # Three months from receipt, and not two from the first end: 30 November to 28 February.
        ("GDPR", date(2026, 11, 30), True, date(2027, 3, 1)),
        ("UK_GDPR", date(2026, 9, 3), False, date(2026, 10, 5)),
        ("FADP", date(2026, 11, 2), False, date(2026, 12, 2)),
        ("FERPA", date(2026, 11, 2), False, date(2026, 12, 17)),
        # 45 days end on a Saturday, and stay there.
        ("FERPA", date(2026, 11, 4), False, date(2026, 12, 19)),
        ("COPPA", date(2026, 11, 2), False, date(2026, 12, 2)),
    ],
    ids=str,
)
def test_first_and_extended_periods(
    regime: str, received_on: date, extended: bool, end: date
) -> None:
    """Dates that were counted by hand."""
    assert due(regime, received_on, extended=extended) == end


def test_the_uk_clock_starts_when_identity_and_fee_came() -> None:
    """At the latest of receipt, proof and fee (Art. 12A UK GDPR)."""
    identity = Wait("identity", asked_on=date(2026, 9, 2), came_on=date(2026, 9, 9))
    fee = Wait("fee", asked_on=date(2026, 9, 2), came_on=date(2026, 9, 16))

    assert due("UK_GDPR", date(2026, 9, 1), identity) == date(2026, 10, 9)
    assert due("UK_GDPR", date(2026, 9, 1), identity, fee) == date(2026, 10, 16)


def test_the_uk_clock_stands_while_a_clarification_is_awaited() -> None:
    """From the question to the answer, both days included."""
    asked = Wait("clarification", asked_on=date(2026, 9, 7), came_on=date(2026, 9, 16))

    assert due("UK_GDPR", date(2026, 9, 1), asked, is_holiday=never) == date(2026, 10, 12)
    assert due("UK_GDPR", date(2026, 9, 2), asked, is_holiday=never) == date(2026, 10, 12)
    assert due("UK_GDPR", date(2026, 9, 3), asked, is_holiday=never) == date(2026, 10, 13)


def test_two_questions_at_once_stop_the_clock_once() -> None:
    """A day does not count twice as not counting."""
    one = Wait("clarification", asked_on=date(2026, 9, 7), came_on=date(2026, 9, 16))
    other = Wait("clarification", asked_on=date(2026, 9, 10), came_on=date(2026, 9, 12))

    assert due("UK_GDPR", date(2026, 9, 3), one, other) == due("UK_GDPR", date(2026, 9, 3), one)


def test_a_question_after_the_end_stops_nothing() -> None:
    """Whoever is late cannot ask himself out of it."""
    late = Wait("clarification", asked_on=date(2026, 10, 20), came_on=date(2026, 11, 20))

    assert due("UK_GDPR", date(2026, 9, 1), late) == due("UK_GDPR", date(2026, 9, 1))


def test_what_has_not_come_counts_as_if_it_came_today() -> None:
    """The day on which one looks moves the end."""
    asked = Wait("clarification", asked_on=date(2026, 9, 7))

    found = [
        due("UK_GDPR", date(2026, 9, 3), asked, today=date(2026, 9, day), is_holiday=never)
        for day in (7, 8, 9)
    ]

    assert found == [date(2026, 10, 5), date(2026, 10, 5), date(2026, 10, 6)]


@given(
    DAYS,
    st.lists(st.tuples(st.integers(0, 120), st.integers(0, 90)), max_size=5),
    st.sampled_from(sorted(REGIMES)),
    st.booleans(),
)
def test_waiting_never_shortens_a_period(
    received_on: date, waits: list[tuple[int, int]], regime: str, extended: bool
) -> None:
    """And lengthens it under a law that stops its clock alone, by no more than the days waited."""
    spans = [
        Wait(
            "clarification",
            asked_on=received_on + timedelta(days=asked),
            came_on=received_on + timedelta(days=asked + took),
        )
        for asked, took in waits
    ]
    options: dict[str, Any] = {"is_holiday": never, "extended": extended}

    plain = due(regime, received_on, **options)
    stopped = due(regime, received_on, *spans, **options)

    waited = sum(took + 1 for _, took in waits)
    if REGIMES[regime].stops_the_clock:
        assert plain <= stopped <= plain + timedelta(days=waited + 2)
    else:
        assert stopped == plain


@given(DAYS)
def test_an_extension_is_counted_from_receipt(received_on: date) -> None:
    """Three months in all, whatever the first one ended on."""
    end = due("GDPR", received_on, extended=True, is_holiday=never)

    assert timedelta(0) <= end - add_months(received_on, 3) <= timedelta(days=2)


def test_what_is_not_from_the_law_says_so() -> None:
    """16 CFR 312.6 has no number of days."""
    assert [name for name, regime in REGIMES.items() if not regime.is_statutory] == ["COPPA"]
    assert all(regime.source for regime in REGIMES.values())
    with pytest.raises(InputError, match="GDPR, UK_GDPR"):
        regime_of("CCPA")
