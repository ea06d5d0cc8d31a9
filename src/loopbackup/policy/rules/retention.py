"""How long snapshots live: which are kept, how long at least, and how long at most."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

from attrs import field, frozen

from ...errors import InputError
from ...terms import Action, Facts
from ..retention.durations import Duration, duration, zone
from ..retention.keep import PERIODS, Keep, parse_keep
from ..retention.order import believed
from ..tables import Tables
from .base import PASS, Deny, Missing, Verdict, described, named, options_of, texts
from .where import TAG, check_where, selects

__all__ = ["Retention"]

Count = int | str
_GROUPS = ("name", "category")


def _group_by(value: object) -> tuple[str, ...]:
    found = texts("group_by", value)
    for key in found:
        if key not in _GROUPS and key.removeprefix(TAG) in ("", key):
            raise InputError(f'group_by takes name, category and "tag:<tag>", not {key!r}')
    return tuple(sorted(found))


def _tags(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(
        isinstance(text, str) and text for pair in value.items() for text in pair
    ):
        raise InputError('keep_tags maps tags to texts: {"env": "audit"}')
    return dict(value)


def _names(value: object) -> frozenset[str]:
    return texts("keep_names", value)


@frozen(kw_only=True)
class Retention:
    """
    Keep some snapshots, for a least and a longest time.

    Args:
        where: Which snapshots: by ``name``, ``category``, ``"tag:<tag>"``; all of
            these have to fit, and ``*`` stands for any text. Default all.
        keep_last: So many of the newest.
        keep_minutely: The newest of each of the last so many minutes that have one.
        keep_hourly: Likewise; an hour that the clock shows twice counts twice.
        keep_daily: Likewise, by the calendar of *timezone*.
        keep_weekly: Likewise; weeks of ISO 8601 begin on Monday.
        keep_monthly: Likewise.
        keep_quarterly: Likewise.
        keep_half_yearly: Likewise.
        keep_yearly: Likewise. For all of these: a count, ``"all"``, or a duration
            of ISO 8601, such as ``"P30D"``: all periods so long before the newest
            snapshot of the group.
        keep_within: All so long before the newest snapshot of the group.
        keep_tags: All that have one of these tags.
        keep_names: All of these series; ``*`` stands for any text.
        keep_at_least: Nothing younger is forgotten: a statutory minimum, or a
            guard against whoever floods the vault to push older snapshots out.
        ground: The law that demands *keep_at_least*. With it, what is kept stands
            against an erasure too (GDPR Art. 17(3)(b)).
        erase_after: Whatever is older goes, kept or not (GDPR Art. 5(1)(e)).
        timezone: Name of the IANA zone whose calendar counts.
        group_by: Snapshots are counted apart for each of these: ``name``,
            ``category``, ``"tag:<tag>"``; always for each writer.
        id: Names the rule in decisions; default as it is written.

    A rule without any of the keep rules only sets limits. A snapshot that
    several rules are about stays if one of them keeps it.

    Raises:
        InputError: A count, duration, zone or selection that is none; a minimum
            that is longer than the maximum; nothing that it would do.
    """

    version: ClassVar[str] = "1"
    where: Mapping[str, str] = field(factory=dict, converter=check_where)
    keep_last: Count = 0
    keep_minutely: Count = 0
    keep_hourly: Count = 0
    keep_daily: Count = 0
    keep_weekly: Count = 0
    keep_monthly: Count = 0
    keep_quarterly: Count = 0
    keep_half_yearly: Count = 0
    keep_yearly: Count = 0
    keep_within: str | None = None
    keep_tags: Mapping[str, str] = field(factory=dict, converter=_tags)
    keep_names: Collection[str] = field(default=frozenset(), converter=_names)
    keep_at_least: str | None = None
    ground: str | None = None
    erase_after: str | None = None
    timezone: str = "UTC"
    group_by: Sequence[str] = field(default=("name",), converter=_group_by)
    id: str = ""
    has_own_id: bool = field(init=False, default=False, repr=False, eq=False)
    keeps: tuple[Keep, ...] = field(init=False, default=(), repr=False, eq=False)
    minimum: Duration | None = field(init=False, default=None, repr=False, eq=False)
    maximum: Duration | None = field(init=False, default=None, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        zone(self.timezone)
        found = [
            parse_keep(period, getattr(self, f"keep_{period}")) for period in ("last", *PERIODS)
        ]
        if self.keep_within is not None:
            found.append(Keep("last", within=duration("keep_within", self.keep_within)))
        object.__setattr__(self, "keeps", tuple(keep for keep in found if keep is not None))
        for name, text in (("minimum", "keep_at_least"), ("maximum", "erase_after")):
            value = getattr(self, text)
            if value is not None:
                object.__setattr__(self, name, duration(text, value))
        if self.ground is not None and (self.minimum is None or not texts("ground", self.ground)):
            raise InputError("ground names the law that demands keep_at_least")
        if not (self.has_keeps or self.minimum or self.maximum):
            raise InputError("a retention keeps something, or sets a limit; this one does neither")
        named(self)

    @property
    def has_keeps(self) -> bool:
        """Whether it says which snapshots stay, rather than only how long."""
        return bool(self.keeps or self.keep_tags or self.keep_names)

    def options(self) -> dict[str, Any]:
        """Give what makes the same rule again."""
        return options_of(self)

    def __str__(self) -> str:
        return described(self)

    def not_before(self, moment: datetime) -> datetime | None:
        """Say until when a snapshot of *moment* has to live."""
        return None if self.minimum is None else self.minimum.after(moment, zone(self.timezone))

    def not_after(self, moment: datetime) -> datetime | None:
        """Say by when a snapshot of *moment* has to be gone."""
        return None if self.maximum is None else self.maximum.after(moment, zone(self.timezone))

    def evaluate(self, action: str, facts: Facts, *, at: datetime, tables: Tables) -> Verdict:
        """Refuse to forget what has to live on, and to erase what a law demands."""
        binds = action == Action.FORGET or (action == Action.ERASE and self.ground is not None)
        if self.minimum is None or not binds:
            return PASS
        required = f"snapshots to live for {self.minimum}"
        if self.ground is not None:
            required += f" ({self.ground})"
        is_told = bool(facts.snapshots) or "snapshots" not in facts.unknown
        if not is_told or (action == Action.FORGET and not facts.snapshots):
            return Missing("which snapshots it is about", required)
        made = _made(facts, at)
        young = [
            (until, snapshot)
            for snapshot in facts.snapshots
            if selects(self.where, snapshot)
            and (until := self.not_before(made[snapshot.id])) is not None
            and until > at
        ]
        if not young:
            return PASS
        until, last = max(young, key=lambda pair: pair[0])
        count = f"{len(young):,} snapshots are" if len(young) > 1 else f"snapshot {last.id[:8]} is"
        actual = f"{count} younger"
        return Deny(required, actual, f"after {until:%Y-%m-%d %H:%M} UTC")


def _made(facts: Facts, at: datetime) -> dict[str, datetime]:
    """Say when the snapshots were made, at the latest where a time is not believed, by id."""
    known = {snapshot.id: snapshot for snapshot in (*facts.live, *facts.snapshots)}
    odd = believed(sorted(known.values(), key=lambda s: s.index), at)
    return {
        snapshot.id: odd[snapshot.id].latest if snapshot.id in odd else snapshot.created_at
        for snapshot in facts.snapshots
    }
