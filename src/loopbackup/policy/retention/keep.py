"""
The keep rules: the newest snapshot of so many hours, days, weeks, and so on.

The algorithm is that of restic's ``forget``: from the newest on, a snapshot
that begins another period is kept while the count lasts, and so is the oldest
of all while any is left, so that a history that has just begun is not cut.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Final

from attrs import define, frozen

from ...errors import InputError
from .durations import Duration, duration

__all__ = ["PERIODS", "Keep", "keeps", "parse_keep"]

ALL: Final = "all"

Period = tuple[object, ...]


def _offset(local: datetime) -> object:
    return local.utcoffset()


# The hour that a clock shows twice in autumn is two hours.
PERIODS: Final[Mapping[str, Callable[[datetime], Period]]] = {
    "minutely": lambda t: (t.year, t.month, t.day, t.hour, t.minute, _offset(t)),
    "hourly": lambda t: (t.year, t.month, t.day, t.hour, _offset(t)),
    "daily": lambda t: (t.year, t.month, t.day),
    "weekly": lambda t: tuple(t.isocalendar()[:2]),
    "monthly": lambda t: (t.year, t.month),
    "quarterly": lambda t: (t.year, (t.month - 1) // 3),
    "half_yearly": lambda t: (t.year, (t.month - 1) // 6),
    "yearly": lambda t: (t.year,),
}
"""By name what two instants of one period share; weeks are those of ISO 8601."""


@frozen
class Keep:
    """
    One keep rule.

    Args:
        period: Of :data:`PERIODS`; ``last`` for every snapshot, whatever its time.
        count: So many; None for no bound.
        within: Only so long before the newest.
    """

    period: str
    count: int | None = None
    within: Duration | None = None

    @property
    def reason(self) -> str:
        """Why it keeps a snapshot."""
        word = "snapshot" if self.period == "last" else self.period.replace("_", "-")
        if self.within is not None:
            return f"{word} within {self.within}"
        return f"all {word}" if self.count is None else f"{word}, of {self.count:,}"


def parse_keep(period: str, value: object) -> Keep | None:
    """
    Read what is given for a period: a count, "all", or a duration; 0 is no rule.

    Raises:
        InputError: It is none of that.
    """
    if isinstance(value, str):
        if value == ALL:
            return Keep(period)
        return Keep(period, within=duration(f"keep_{period}", value))
    if type(value) is not int or value < 0:
        raise InputError(
            f'keep_{period} is a count, "all", or a duration such as "P30D", not {value!r}'
        )
    return Keep(period, value) if value else None


@define
class _Bucket:
    keep: Keep
    key: Callable[[datetime], Period] | None
    left: int | None
    since: datetime | None
    last: Period | None = None

    def takes(self, local: datetime, moment: datetime, *, oldest: bool) -> bool:
        """Tell whether the rule keeps the next snapshot."""
        if self.left == 0 or (self.since is not None and moment <= self.since):
            return False
        if self.key is not None:
            period = self.key(local)
            if period == self.last and not oldest:
                return False
            self.last = period
        if self.left is not None:
            self.left -= 1
        return True


def keeps(rules: Sequence[Keep], times: Sequence[datetime], where: tzinfo) -> list[tuple[str, ...]]:
    """
    Say for each snapshot of a group why it is kept; nothing where no rule keeps it.

    Args:
        rules: The keep rules.
        times: Of the snapshots, newest first.
        where: The zone whose calendar counts.

    Cost: O(n) for each rule.
    """
    if not times:
        return []
    buckets = [
        _Bucket(
            rule,
            PERIODS.get(rule.period),
            rule.count,
            None if rule.within is None else rule.within.before(times[0], where),
        )
        for rule in rules
    ]
    reasons: dict[
        tuple[str, ...], tuple[str, ...]
    ] = {}  # Most snapshots are kept for the same few reasons, or for none.
    found = []
    end = len(times) - 1
    for number, moment in enumerate(times):
        local = moment.astimezone(where)
        oldest = number == end
        why = tuple([b.keep.reason for b in buckets if b.takes(local, moment, oldest=oldest)])
        found.append(reasons.setdefault(why, why))
    return found
