"""What is legal in a policy, and hardly meant: rules that never matter, and doors left open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from ..terms import Action
from .retention.durations import zone
from .rules.access import OF_SNAPSHOTS, Access
from .rules.base import Rule
from .rules.residency import Residency
from .rules.retention import Retention
from .rules.where import may_meet
from .tables import Tables, shipped

if TYPE_CHECKING:
    from .policy import Policy

__all__ = ["lint"]

_LENGTHS: Final = {
    "minutely": timedelta(minutes=1),
    "hourly": timedelta(hours=1),
    "daily": timedelta(days=1),
    "weekly": timedelta(weeks=1),
    "monthly": timedelta(days=28),
    "quarterly": timedelta(days=90),
    "half_yearly": timedelta(days=181),
    "yearly": timedelta(days=365),
}
"""The shortest that each period can be."""
_FROM: Final = datetime(2025, 3, 1, tzinfo=UTC)


UNASKED: Final = frozenset({Action.EXPORT, Action.REPAIR, Action.DISCLOSE, Action.PROMOTE})
"""Of these no verb asks a policy yet."""


def lint(policy: Policy) -> tuple[str, ...]:
    """Give what should be looked at again, one sentence each, by rule."""
    rules = policy.rules
    retentions = [rule for rule in rules if isinstance(rule, Retention)]
    found = [
        *([] if policy.strict else ["strict is off: what nobody knows is allowed"]),
        *_of_access([rule for rule in rules if isinstance(rule, Access)]),
        *_of_retention(retentions),
        *_of_residency(rules),
        *_of_tables(policy.tables),
    ]
    return tuple(found)


def _of_access(rules: Sequence[Access]) -> Iterator[str]:
    for rule in rules:
        for action in Action:
            roles = rule.grants.get(action, rule.others)
            if not roles and action in rule.grants:
                yield f"{rule.id}: nobody may {action}"
        if not rule.grants.get(Action.POLICY, rule.others):
            yield f"{rule.id}: nobody may ever set another policy, but by open(override=)"
        named = sorted(rule.grants.keys() | rule.requires.keys())
        for name in named:
            if name in UNASKED:
                yield f"{rule.id}: nothing asks for {name}, so naming it binds nobody"
            elif rule.where and name not in OF_SNAPSHOTS:
                yield f"{rule.id}: {name} is about no snapshot, so its where never fits"
        if not rule.others:
            yield f"{rule.id}: nobody may do what it does not name"
    for action in Action:
        granted = [frozenset(rule.grants.get(action, rule.others)) for rule in rules]
        if len(granted) > 1 and all(granted) and not frozenset.intersection(*granted):
            yield f"nobody with one role may {action}: the access rules name different ones"


def _of_retention(rules: Sequence[Retention]) -> Iterator[str]:
    for rule in rules:
        counted = [keep.reason for keep in rule.keeps if keep.count is not None]
        if counted and rule.minimum is None and not _guarded(rule, rules):
            yield (
                f"{rule.id}: without keep_at_least whoever makes enough snapshots pushes all "
                f"others out of {', '.join(counted)}"
            )
        yield from _beyond(rule, rules)
        if rule.minimum is not None and rule.ground is None and rule.minimum.months >= 12:
            yield f"{rule.id}: keep_at_least of {rule.minimum} without the ground that demands it"
    if rules and not any(rule.maximum for rule in rules):
        yield "no rule says when snapshots have to be gone (GDPR Art. 5(1)(e)): erase_after"


def _guarded(rule: Retention, rules: Sequence[Retention]) -> bool:
    return any(other.minimum and may_meet(rule.where, other.where) for other in rules)


def _beyond(rule: Retention, rules: Sequence[Retention]) -> Iterator[str]:
    """Find keep rules that would keep longer than a maximum lets them."""
    limits = [r for r in rules if r.maximum is not None and may_meet(rule.where, r.where)]
    ends = [
        (r.maximum.after(_FROM, zone(r.timezone)) - _FROM, r)
        for r in limits
        if r.maximum is not None
    ]
    if not ends:
        return
    longest, by = min(ends, key=lambda pair: pair[0])
    for keep in rule.keeps:
        length = _LENGTHS.get(keep.period)
        if length is None or keep.count is None:
            continue
        if length * (keep.count - 1) > longest:
            yield (
                f"{rule.id}: {keep.reason} reaches beyond erase_after of {by.maximum}, "
                "so the oldest of them never stay"
            )


def _of_residency(rules: Sequence[Rule]) -> Iterator[str]:
    found = [rule for rule in rules if isinstance(rule, Residency)]
    if not found:
        yield "no rule says where data may lie"


def _of_tables(tables: Tables) -> Iterator[str]:
    for row in tables.own:
        for theirs in shipped().regions:
            if (theirs.provider, theirs.region.lower()) == (row.provider, row.region.lower()):
                yield f"{row} stands in the place of {theirs}, which the library knows"
