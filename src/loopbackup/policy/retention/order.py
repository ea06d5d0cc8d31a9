"""
Which times of snapshots can be believed.

A writer may claim any time. What nobody can forge is the order of records in
the ledger, so the times that most snapshots agree on in that order are
believed; one that contradicts them is set aside: it stays, and counts nowhere,
so that it pushes nothing out.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from attrs import frozen

from ...terms import SnapshotInfo

__all__ = ["SKEW", "Odd", "believed"]

SKEW: Final = timedelta(days=1)
"""Clocks that differ by less are nobody's attack."""


@frozen
class Odd:
    """
    A time that is not believed.

    Args:
        why: As a reason to keep the snapshot.
        latest: When it can have been made at the latest, as far as others say.
    """

    why: str
    latest: datetime


def believed(snapshots: Sequence[SnapshotInfo], at: datetime) -> dict[str, Odd]:
    """
    Find the snapshots whose times are not to be believed, by id.

    Each writer is held against himself: nobody's lies make another's times odd.

    Args:
        snapshots: Of one vault, ascending in the order of their records.
        at: Now.

    Cost: O(n log n): the longest run of times that do not go back; for each odd one the writers.
    """
    by_writer: dict[str | None, list[SnapshotInfo]] = {}
    for snapshot in snapshots:
        by_writer.setdefault(snapshot.writer, []).append(snapshot)
    why: dict[str, str] = {}
    for written in by_writer.values():
        why |= _of_one(written, at)
    return _bounded(snapshots, why, at) if why else {}


def _bounded(
    snapshots: Sequence[SnapshotInfo], why: Mapping[str, str], at: datetime
) -> dict[str, Odd]:
    """
    Say when odd ones can have been made at the latest: before what was recorded after them.

    The next believed time of the same writer counts; where it wrote no more, the latest
    that each other one gives, for one of those may lie to make it look old. Nothing makes
    it older than what its own writer had made before.
    """
    before: dict[str | None, datetime] = {}
    least: dict[str, datetime] = {}
    for snapshot in snapshots:
        if snapshot.id not in why:
            before[snapshot.writer] = snapshot.created_at
        elif snapshot.writer in before:
            least[snapshot.id] = before[snapshot.writer]
    after: dict[str | None, datetime] = {}
    odd: dict[str, Odd] = {}
    for snapshot in reversed(snapshots):
        if snapshot.id not in why:
            after[snapshot.writer] = snapshot.created_at
            continue
        latest = after.get(snapshot.writer) or max(after.values(), default=at)
        odd[snapshot.id] = Odd(why[snapshot.id], max(latest, least.get(snapshot.id, latest)))
    return odd


def _of_one(snapshots: Sequence[SnapshotInfo], at: datetime) -> dict[str, str]:
    """Say why times of one writer are not believed, by id."""
    odd = {s.id: "its time lies in the future" for s in snapshots if s.created_at > at}
    usual = [s for s in snapshots if s.id not in odd]
    run = _longest_run([s.created_at for s in usual])
    if len(run) == len(usual):
        return odd
    kept = set(run)
    before: datetime | None = None
    following = iter([usual[number].created_at for number in run])
    after = next(following, None)
    for number, snapshot in enumerate(usual):
        if number in kept:
            before, after = snapshot.created_at, next(following, None)
            continue
        early = before is not None and snapshot.created_at < before - SKEW
        late = after is not None and snapshot.created_at > after + SKEW
        if early or late:
            odd[snapshot.id] = "its time contradicts the order of the ledger"
    return odd


def _longest_run(times: Sequence[datetime]) -> list[int]:
    """Give the numbers of a longest subsequence that never decreases (patience sorting)."""
    if all(one <= other for one, other in pairwise(times)):
        return list(range(len(times)))
    tops: list[datetime] = []
    numbers: list[int] = []
    below: list[int] = []
    for number, moment in enumerate(times):
        pile = bisect_right(tops, moment)
        below.append(numbers[pile - 1] if pile else -1)
        if pile == len(tops):
            tops.append(moment)
            numbers.append(number)
        else:
            tops[pile], numbers[pile] = moment, number
    found = []
    number = numbers[-1]
    while number >= 0:
        found.append(number)
        number = below[number]
    return found[::-1]
