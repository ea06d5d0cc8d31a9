"""
The plan: keep rules, limits and blockers come together.

Higher blocks lower: legal hold > restriction (GDPR Art. 18) > open access request
(FERPA, 34 CFR 99.10(e)) > minimum > lock of the store > maximum > keep rules > default,
which is to stay.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from attrs import define, field

from ...errors import InputError
from ...terms import Blocker, Fate, SnapshotInfo
from ..looks import PolicyPlan
from ..rules.where import TAG, selects
from .durations import zone
from .keep import keeps
from .order import Odd, believed

if TYPE_CHECKING:
    from ..rules.retention import Retention

__all__ = ["make_plan"]

_RANK: Final = {"hold": 0, "restriction": 1, "access request": 2, "lock": 4}
_UNKNOWN: Final = 3


@define
class _Seen:
    """What the rules say of one snapshot."""

    asked: bool = False
    """Some rule with keep rules is about it."""
    kept: list[str] = field(factory=list)


def make_plan(
    rules: Sequence[Retention], snapshots: Sequence[SnapshotInfo], *, at: datetime, policy: str
) -> PolicyPlan:
    """
    Decide for each snapshot; see :meth:`.Policy.plan_retention`.

    Raises:
        InputError: Two snapshots share an id, or one has a naive time.
    """
    ordered = sorted(snapshots, key=lambda s: s.index)
    _check(ordered)
    odd = believed(ordered, at)
    seen = {snapshot.id: _Seen() for snapshot in ordered}
    for rule in rules:
        if rule.has_keeps:
            _count(rule, ordered, odd, seen)
    limits = [rule for rule in rules if rule.minimum or rule.maximum]
    keep: list[Fate] = []
    expire: list[Fate] = []
    blocked: list[Fate] = []
    for snapshot in reversed(ordered):
        fate, goes = _fate(snapshot, seen[snapshot.id], limits, odd.get(snapshot.id), at)
        (expire if goes else keep).append(fate)
        if fate.blocked_by:
            blocked.append(fate)
    return PolicyPlan(tuple(keep), tuple(expire), tuple(blocked), at=at, policy=policy)


def _check(snapshots: Sequence[SnapshotInfo]) -> None:
    if len({snapshot.id for snapshot in snapshots}) != len(snapshots):
        raise InputError("two snapshots share an id")
    for snapshot in snapshots:
        if snapshot.created_at.utcoffset() is None:
            raise InputError(f"the time of snapshot {snapshot.id[:8]} has no zone")


def _count(
    rule: Retention,
    snapshots: Iterable[SnapshotInfo],
    odd: dict[str, Odd],
    seen: dict[str, _Seen],
) -> None:
    """Let one rule say which snapshots it keeps."""
    groups: dict[tuple[object, ...], list[SnapshotInfo]] = defaultdict(list)
    for snapshot in snapshots:
        if not selects(rule.where, snapshot):
            continue
        found = seen[snapshot.id]
        found.asked = True
        if rule.keep_tags and rule.keep_tags.items() & snapshot.tags.items():
            found.kept.append(f"{rule.id}: tag")
        if any(selects({"name": name}, snapshot) for name in rule.keep_names):
            found.kept.append(f"{rule.id}: name")
        if snapshot.id not in odd:
            groups[_group(rule, snapshot)].append(snapshot)
    where = zone(rule.timezone)
    for group in groups.values():
        # Stable, so that of equal times the later record comes first.
        group.reverse()
        group.sort(key=lambda s: s.created_at, reverse=True)
        reasons = keeps(rule.keeps, [s.created_at for s in group], where)
        for snapshot, why in zip(group, reasons, strict=True):
            if why:
                seen[snapshot.id].kept.append(f"{rule.id}: {', '.join(why)}")


def _group(rule: Retention, snapshot: SnapshotInfo) -> tuple[object, ...]:
    """Give what is counted together; nobody's snapshots push out another writer's."""
    parts: list[object] = [snapshot.writer]
    for key in rule.group_by:
        if key == "name":
            parts.append(snapshot.name)
        elif key == "category":
            parts.append(snapshot.category)
        else:
            parts.append(snapshot.tags.get(key[len(TAG) :]))
    return tuple(parts)


def _fate(
    snapshot: SnapshotInfo, seen: _Seen, limits: Sequence[Retention], odd: Odd | None, at: datetime
) -> tuple[Fate, bool]:
    """Give what becomes of a snapshot, and whether it goes."""
    made = snapshot.created_at if odd is None else odd.latest
    low = high = None
    for rule in limits:
        if not selects(rule.where, snapshot):
            continue
        not_before, not_after = rule.not_before(made), rule.not_after(made)
        if not_before is not None and (low is None or not_before > low[0]):
            low = (not_before, rule)
        if not_after is not None and (high is None or not_after < high[0]):
            high = (not_after, rule)
    due = high is not None and at >= high[0]
    if due and high is not None:
        reasons = [f"{high[1].id}: older than {high[1].maximum}"]
    elif odd is not None:
        reasons = [odd.why]
    elif seen.kept:
        reasons = seen.kept
    else:
        reasons = ["no rule keeps it" if seen.asked else "no rule is about it"]
    goes = due or (seen.asked and not seen.kept and odd is None)
    if goes and low is not None and at < low[0]:
        goes = False
        reasons = [f"{low[1].id}: younger than {low[1].minimum}"]
        due = False
    blocked = _blocked(snapshot.blockers, at) if goes else ()
    fate = Fate(
        snapshot,
        tuple(reasons),
        None if low is None else low[0],
        None if low is None else low[1].id,
        None if high is None else high[0],
        None if high is None else high[1].id,
        blocked,
    )
    return fate, goes and not blocked


def _blocked(blockers: Sequence[Blocker], at: datetime) -> tuple[str, ...]:
    """Give what stands against it now, the strongest first."""
    if not blockers:
        return ()
    standing = [found for found in blockers if found.until is None or found.until > at]
    standing.sort(key=lambda found: (_RANK.get(found.kind, _UNKNOWN), str(found)))
    return tuple(map(str, standing))
