"""Which snapshots live: calendars, limits, and snapshots that lie about their time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.policy import restic

import loopbackup as lb
from loopbackup import policy
from loopbackup.policy.retention.durations import duration, zone

NOW = datetime(2026, 11, 23, 16, tzinfo=UTC)
STOCKHOLM = "Europe/Stockholm"


def made(*times: datetime, name: str = "n", first: int = 0, **more: Any) -> list[Any]:
    """Give snapshots of these times, in the order of the ledger."""
    return [
        policy.SnapshotInfo(f"{first + n:032x}", name, time, first + n, **more)
        for n, time in enumerate(times)
    ]


def kept(rules: Sequence[Any], snapshots: Sequence[Any], *, at: datetime = NOW) -> list[int]:
    """Give the record numbers of what stays."""
    plan = policy.Policy(*rules).plan_retention(snapshots, at=at)
    assert {f.snapshot.id for f in (*plan.keep, *plan.expire)} == {s.id for s in snapshots}
    assert len(plan.keep) + len(plan.expire) == len(snapshots)
    assert all(fate.reasons for fate in (*plan.keep, *plan.expire))
    return sorted(fate.snapshot.index for fate in plan.keep)


def days(count: int, *, until: datetime = NOW, each: float = 1) -> list[datetime]:
    """Give one time a day, the oldest first."""
    return [until - timedelta(days=each * number) for number in reversed(range(count))]


# ---- the real restic


def recorded() -> list[Any]:
    """Give what restic kept, case by case."""
    said = json.loads(restic.DATA.read_text())
    return [
        pytest.param(found["timezone"], found["snapshots"], case, id=f"{found['timezone']} {rule}")
        for found in said["histories"]
        for case in found["cases"]
        for rule in [" ".join(restic.options(case["rule"]))]
    ]


@pytest.mark.parametrize(("timezone", "snapshots", "case"), recorded())
def test_the_same_snapshots_stay_as_with_restic(
    timezone: str, snapshots: list[Any], case: Any
) -> None:
    """Asked once and written down: see restic.py beside this file."""
    assert restic.ours(snapshots, case["rule"], timezone) == case["keep"]


def test_histories_of_restic_tell_rules_apart() -> None:
    """Each rule keeps some, few keep all, and most keep different ones."""
    for found in json.loads(restic.DATA.read_text())["histories"]:
        counts = [len(case["keep"]) for case in found["cases"]]
        assert min(counts) >= 1
        assert len({tuple(case["keep"]) for case in found["cases"]}) > 10
        assert sum(count == len(found["snapshots"]) for count in counts) <= 4


# ---- calendars


def test_day_is_that_of_the_zone() -> None:
    """At half past eleven in the evening UTC it is tomorrow in Stockholm."""
    times = [datetime(2026, 1, 5, 23, 30, tzinfo=UTC), datetime(2026, 1, 6, 12, tzinfo=UTC)]
    times.insert(0, datetime(2026, 1, 1, tzinfo=UTC))

    assert kept([policy.Retention(keep_daily=2)], made(*times)) == [1, 2]
    assert kept([policy.Retention(keep_daily=2, timezone=STOCKHOLM)], made(*times)) == [0, 2]


def test_hour_that_the_clock_shows_twice_is_two_hours() -> None:
    """On 25 October 2026 Stockholm has two o'clock at 00:00 and at 01:00 UTC."""
    times = [datetime(2026, 10, 25, hour, 30, tzinfo=UTC) for hour in range(4)]

    assert kept([policy.Retention(keep_hourly=3, timezone=STOCKHOLM)], made(*times)) == [1, 2, 3]


def test_day_on_which_clocks_are_set_is_one_day() -> None:
    """25 hours in October, 23 in March."""
    autumn = [datetime(2026, 10, 24, 22, 30, tzinfo=UTC) + timedelta(hours=n) for n in range(25)]
    spring = [datetime(2026, 3, 28, 23, 30, tzinfo=UTC) + timedelta(hours=n) for n in range(23)]

    for times in (autumn, spring):
        before = times[0] - timedelta(hours=1)
        rule = policy.Retention(keep_daily=2, timezone=STOCKHOLM)
        assert kept([rule], made(before, *times)) == [0, len(times)]


def test_week_is_that_of_iso_8601() -> None:
    """Thursday 31 December 2026 and Sunday 3 January 2027 are of week 53; Monday is of week 1."""
    at = datetime(2027, 2, 1, tzinfo=UTC)
    thursday, sunday, monday = (
        datetime(2026, 12, 31, tzinfo=UTC),
        datetime(2027, 1, 3, tzinfo=UTC),
        datetime(2027, 1, 4, tzinfo=UTC),
    )
    snapshots = made(datetime(2026, 1, 1, tzinfo=UTC), thursday, sunday, monday)

    assert kept([policy.Retention(keep_weekly=2)], snapshots, at=at) == [2, 3]
    assert kept([policy.Retention(keep_yearly=2)], snapshots, at=at) == [1, 3]


@pytest.mark.parametrize(
    ("period", "count"), [("quarterly", 4), ("half_yearly", 2), ("yearly", 1), ("monthly", 12)]
)
def test_year_has_so_many_periods(period: str, count: int) -> None:
    """The last snapshot of each stays."""
    times = days(365, until=datetime(2025, 12, 31, 12, tzinfo=UTC))

    assert len(kept([policy.Retention(**{f"keep_{period}": "all"})], made(*times))) == count + 1


def test_duration_is_added_by_the_calendar() -> None:
    """Months end where they end, and a day is a day on the clock of the zone."""
    stockholm = zone(STOCKHOLM)

    def after(text: str, *moment: int) -> str:
        start = datetime(*moment, tzinfo=stockholm)  # type: ignore[arg-type, misc]
        return f"{duration('d', text).after(start, stockholm).astimezone(stockholm):%m-%d %H:%M}"

    assert after("P1M", 2026, 1, 31, 12) == "02-28 12:00"
    assert after("P1Y", 2024, 2, 29, 12) == "02-28 12:00"
    assert after("P1D", 2026, 10, 24, 12) == "10-25 12:00"
    assert after("PT24H", 2026, 10, 24, 12) == "10-25 11:00"
    assert after("P2W", 2026, 3, 20, 2) == "04-03 02:00"
    assert duration("d", "P9000Y").after(NOW, UTC).year == 9999
    assert duration("d", "P9000Y").before(NOW, UTC).year == 1


@pytest.mark.parametrize(
    "text",
    ["", "P", "PT", "P1DT", "7Y", "P-1D", "P1.5D", "P0D", "PT0S", "P10000Y", "p1d", "P1S", 5, None],
    ids=repr,
)
def test_what_is_no_duration_is_refused(text: Any) -> None:
    """Nothing, less than nothing, and what another notation would say."""
    with pytest.raises(lb.InputError, match=r"keep_at_least|does neither"):
        policy.Retention(keep_at_least=text)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"keep_daily": -1}, "keep_daily is a count"),
        ({"keep_daily": True}, "a duration such as .*, not True"),
        ({"keep_daily": 1.5}, "a duration such as .*, not 1.5"),
        ({"keep_daily": "ten"}, "keep_daily is a duration"),
        ({"keep_daily": 7, "timezone": "Europe/Gotham"}, "no time zone 'Europe/Gotham'"),
        ({"keep_daily": 7, "timezone": "../etc/passwd"}, "no time zone"),
        ({"keep_daily": 7, "where": {"host": "a"}}, "not by 'host'"),
        ({"keep_daily": 7, "where": {"tag:": "a"}}, "not by 'tag:'"),
        ({"keep_daily": 7, "where": {5: "a"}}, "not by 5"),
        ({"keep_daily": 7, "where": "name"}, "where maps"),
        ({"keep_daily": 7, "where": {"name": ""}}, "text for name"),
        ({"keep_daily": 7, "group_by": ["host"]}, "not 'host'"),
        ({"keep_tags": ["a"]}, "keep_tags maps"),
        ({"keep_names": [""]}, "not empty"),
        ({}, "does neither"),
        ({"keep_last": 1, "ground": "a law"}, "demands keep_at_least"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_retention_is_refused(rule: Any, message: str) -> None:
    """When it is made, not at night."""
    with pytest.raises(lb.InputError, match=message):
        policy.Retention(**rule)


# ---- several rules


def test_snapshot_stays_if_one_rule_keeps_it() -> None:
    """And what no rule is about stays too."""
    nights = made(*days(30, until=NOW - timedelta(days=3)))
    mail = made(*days(3), name="mail", first=100)
    rules = [
        policy.Retention(keep_last=2, where={"name": "n"}),
        policy.Retention(keep_last=3, where={"name": "n*"}),
    ]

    assert kept(rules, [*nights, *mail]) == [27, 28, 29, 100, 101, 102]


def test_rules_select_by_tag_and_category() -> None:
    """All of a selection has to fit."""
    prod = made(*days(3, until=NOW - timedelta(days=3)), tags={"env": "prod"}, category="hr")
    test = made(*days(3), tags={"env": "test"}, category="hr", first=10)
    rule = policy.Retention(keep_last=1, where={"tag:env": "prod", "category": "hr"})

    assert kept([rule], [*prod, *test]) == [2, 10, 11, 12]


def test_tagged_and_named_snapshots_are_kept() -> None:
    """Whatever their age."""
    tagged = made(*days(3, until=NOW - timedelta(days=9)), tags={"kind": "audit"})
    named = made(*days(3, until=NOW - timedelta(days=5)), name="yearly report", first=10)
    others = made(*days(3), name="mail", first=20)
    rule = policy.Retention(keep_last=1, keep_tags={"kind": "audit"}, keep_names=["yearly *"])

    assert kept([rule], [*tagged, *named, *others]) == [0, 1, 2, 10, 11, 12, 22]


def test_groups_are_counted_apart() -> None:
    """By name unless it is said otherwise."""
    one = made(*days(3, until=NOW - timedelta(days=3)), name="a")
    two = made(*days(3), name="b", first=10)

    assert kept([policy.Retention(keep_last=1)], [*one, *two]) == [2, 12]
    assert kept([policy.Retention(keep_last=1, group_by=[])], [*one, *two]) == [12]


def test_limits_alone_forget_nothing_before_their_time() -> None:
    """Storage limitation says when, not which."""
    assert kept([policy.Retention(erase_after="P10D")], made(*days(20))) == list(range(10, 20))


@pytest.mark.parametrize(
    ("low", "high", "fits"),
    [
        ("P7Y", "P7Y", True),
        ("P12M", "P1Y", True),
        ("P30D", "P1M", False),
        ("P8Y", "P7Y", False),
        ("P365D", "P1Y", True),
        ("P366D", "P1Y", False),
    ],
)
def test_minimum_above_a_maximum_is_an_error(low: str, high: str, fits: bool) -> None:
    """When the policy is made, and only where a snapshot could be under both."""
    rules = [policy.Retention(keep_at_least=low), policy.Retention(erase_after=high)]
    apart = [evolve(rule, where={"name": n}, id="") for rule, n in zip(rules, "ab", strict=True)]

    policy.Policy(*apart)
    if fits:
        policy.Policy(*rules)
    else:
        with pytest.raises(lb.InputError, match="cannot both hold"):
            policy.Policy(*rules)


# ---- the lattice


def test_strongest_blocker_comes_first() -> None:
    """Hold, restriction, access request, lock."""
    blockers = tuple(
        policy.Blocker(kind, "x") for kind in ("lock", "access request", "restriction", "hold")
    )
    old = made(NOW - timedelta(days=9), blockers=blockers)
    plan = policy.Policy(policy.Retention(erase_after="P1D")).plan_retention(old, at=NOW)

    (fate,) = plan.blocked
    assert fate.blocked_by == ("hold x", "restriction x", "access request x", "lock x")
    assert fate.reasons == ('Retention(erase_after="P1D"): older than P1D',)


def test_blocker_ends_by_itself() -> None:
    """A lock has an end, and from then on the snapshot goes."""
    lock = policy.Blocker("lock", until=NOW)
    old = made(NOW - timedelta(days=9), blockers=(lock,))
    rules = policy.Policy(policy.Retention(erase_after="P1D"))

    assert len(rules.plan_retention(old, at=NOW - timedelta(seconds=1)).blocked) == 1
    assert len(rules.plan_retention(old, at=NOW).expire) == 1


def test_blocker_of_what_stays_anyway_is_no_news() -> None:
    """Only what should go can be blocked."""
    fresh = made(NOW, blockers=(policy.Blocker("hold"),))

    assert policy.Policy(policy.Retention(keep_last=1)).plan_retention(fresh, at=NOW).blocked == ()


def test_law_cannot_be_held_against_an_erasure_of_nobody_knows_what() -> None:
    """As the ledger tells it years later."""
    rules = policy.Policy(policy.Retention(keep_at_least="P7Y", ground="a law"))
    past = policy.Facts(unknown=("snapshots",))

    assert rules.decide("erase", past, at=NOW).outcome == "indeterminate"
    assert rules.decide("erase", policy.Facts(), at=NOW).outcome == "allow"


# ---- hostile snapshots


def test_snapshot_of_the_future_pushes_nothing_out() -> None:
    """It stays until its time comes, and counts nowhere."""
    nights = made(*days(7))
    ahead = made(*[NOW + timedelta(days=400 + n) for n in range(7)], first=100)
    rule = policy.Retention(keep_daily=7, keep_within="P3D")

    assert kept([rule], [*nights, *ahead]) == [*range(7), *range(100, 107)]


def test_snapshot_of_the_future_goes_when_the_next_one_has_to() -> None:
    """It cannot have been made after what the ledger has after it."""
    nights = made(*days(3, until=NOW - timedelta(days=800)))
    lie = made(NOW + timedelta(days=9000), first=10)
    rule = policy.Retention(erase_after="P2Y")
    own = made(NOW - timedelta(days=750), first=11)
    others = made(NOW - timedelta(days=750), first=11, writer="w")

    assert kept([rule], [*nights, *lie]) == [10]
    assert kept([rule], [*nights, *lie, *own]) == []
    assert kept([rule], [*nights, *lie, *others]) == []


def test_lies_of_another_writer_make_no_odd_snapshot_old() -> None:
    """It is no older than what its own writer had made before."""
    nights, lie = made(*days(3)), made(NOW + timedelta(days=9000), first=10)
    others = made(NOW - timedelta(days=9000), first=11, writer="w")

    assert kept([policy.Retention(erase_after="P2Y")], [*nights, *lie, *others]) == [0, 1, 2, 10]


@pytest.mark.parametrize(
    ("claimed", "later", "action", "allowed"),
    [
        (9000, 3000, "erase", True),
        (9000, 3, "erase", False),
        (-4000, 3, "forget", False),
        (-4000, 3000, "forget", True),
    ],
    ids=["ahead and old", "ahead and young", "back and young", "back and old"],
)
def test_law_is_held_against_the_time_that_is_believed(
    claimed: int, later: int, action: str, allowed: bool
) -> None:
    """And not against what a writer claims, where the order of the ledger is known."""
    rules = policy.Policy(policy.Retention(keep_at_least="P7Y", ground="a law"))
    lie = made(NOW + timedelta(days=claimed), first=10)
    first = made(*days(3, until=NOW - timedelta(days=3600)))
    live = (*first, *lie, *made(NOW - timedelta(days=later), NOW, first=11))
    facts = policy.Facts(name="n", snapshots=tuple(lie), live=live)

    assert rules.decide(action, facts, at=NOW).allowed == allowed


def test_snapshot_of_the_past_takes_nobodys_place() -> None:
    """Made today, it claims to be the last of 2020: the real last of that year stays."""
    years = [datetime(year, 12, 20, tzinfo=UTC) for year in range(2018, 2026)]
    lie = datetime(2020, 12, 31, tzinfo=UTC)
    snapshots = [*made(*years), *made(lie, first=50)]

    found = kept([policy.Retention(keep_yearly="all")], snapshots)

    assert found == [*range(8), 50]


def test_times_that_run_ahead_do_not_make_honest_ones_odd() -> None:
    """One writer claims a year too much, and then the honest ones go on."""
    before, after = days(100, until=NOW - timedelta(days=100)), days(100)
    lie = before[-1] + timedelta(days=60)
    snapshots = [*made(*before), *made(lie, first=100), *made(*after, first=101)]

    found = kept([policy.Retention(keep_daily=150)], snapshots)

    assert found == [*range(50, 100), *range(100, 201)]


def test_clocks_that_differ_by_minutes_are_nobodys_attack() -> None:
    """Two hosts back up in turns, and one clock is behind."""
    times = [t - timedelta(minutes=7 * (n % 2)) for n, t in enumerate(days(60, each=0.001))]

    assert len(kept([policy.Retention(keep_last=5)], made(*times))) == 5


def test_lies_of_one_writer_make_nobody_elses_times_odd() -> None:
    """Who signs with a key of his own contradicts himself at most."""
    nights = made(*days(30))
    lies = made(*[NOW - timedelta(days=500 - n) for n in range(100)], first=100, writer="w")
    rule = policy.Retention(keep_last=3, where={"name": "n"})

    assert [number for number in kept([rule], [*nights, *lies]) if number < 100] == [27, 28, 29]


def test_flood_pushes_out_nothing_that_is_younger_than_the_guard() -> None:
    """A thousand snapshots in one night, and the week before is still there."""
    nights = made(*days(30, until=NOW - timedelta(hours=2)))
    flood = made(*[NOW - timedelta(seconds=n) for n in reversed(range(1000))], first=100)
    rule = policy.Retention(keep_last=7, keep_at_least="P7D")

    found = kept([rule], [*nights, *flood])

    assert [number for number in found if number < 100] == list(range(23, 30))


times = st.integers(-400, 400).map(lambda day: NOW + timedelta(days=day, hours=3))


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=20),
    st.lists(times, max_size=20),
    st.sampled_from(["P3D", "P10D", "P30D"]),
    st.integers(1, 5),
)
def test_nothing_that_others_add_pushes_out_what_the_guard_protects(
    ages: list[int], added: list[datetime], guard: str, count: int
) -> None:
    """Whatever times they claim, in whatever number."""
    honest = made(*[NOW - timedelta(days=age) for age in sorted(ages, reverse=True)])
    rule = policy.Retention(keep_last=count, keep_daily=count, keep_at_least=guard)
    young = [s.index for s in honest if rule.not_before(s.created_at) > NOW]  # type: ignore[operator]

    found = kept([rule], [*honest, *made(*added, first=100)])

    assert set(young) <= set(found)


@given(
    st.lists(st.tuples(times, st.sampled_from(["a", "b"])), max_size=30),
    st.integers(0, 4),
    st.integers(0, 4),
    st.randoms(),
)
def test_order_in_which_snapshots_are_given_never_matters(
    found: list[tuple[datetime, str]], last: int, daily: int, chance: Any
) -> None:
    """What counts is the order of the ledger."""
    rules = policy.Policy(
        policy.Retention(keep_last=last, keep_daily=daily, keep_at_least="P1D"),
        policy.Retention(erase_after="P300D"),
    )
    snapshots = [made(time, name=name, first=n)[0] for n, (time, name) in enumerate(found)]
    shuffled = list(snapshots)
    chance.shuffle(shuffled)

    assert rules.plan_retention(snapshots, at=NOW) == rules.plan_retention(shuffled, at=NOW)


@given(st.lists(times, max_size=30), st.sampled_from(["P1D", "P30D", "P200D"]))
def test_one_more_minimum_never_lets_more_go(found: list[datetime], minimum: str) -> None:
    """Rules only restrict."""
    snapshots = made(*found)
    some = [policy.Retention(keep_daily=3), policy.Retention(erase_after="P300D")]

    fewer = kept(some, snapshots)
    more = kept([*some, policy.Retention(keep_at_least=minimum)], snapshots)

    assert set(fewer) <= set(more)


def test_plan_refuses_what_it_cannot_tell_apart() -> None:
    """Two of an id, and a time of no zone."""
    (snapshot,) = made(NOW)
    naive = evolve(snapshot, created_at=NOW.replace(tzinfo=None), id="b" * 32)

    with pytest.raises(lb.InputError, match="share an id"):
        policy.Policy().plan_retention([snapshot, snapshot], at=NOW)
    with pytest.raises(lb.InputError, match="no zone"):
        policy.Policy().plan_retention([snapshot, naive], at=NOW)


def test_plan_reads_as_a_table() -> None:
    """Names that could drive a terminal cannot."""
    plan = policy.Policy(policy.Retention(keep_last=1, id="one")).plan_retention(
        made(*days(2), name="do\x1bcs"), at=NOW
    )

    head, newest, oldest = str(plan).splitlines()

    assert head == "1 snapshots stay (0 of them blocked), 1 go"
    assert newest == (
        "00000000  2026-11-23 16:00  keep    do\N{REPLACEMENT CHARACTER}cs  one: snapshot, of 1"
    )
    assert "no rule keeps it" in oldest
