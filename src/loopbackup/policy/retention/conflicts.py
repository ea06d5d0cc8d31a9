"""Rules that cannot both hold are an error when they are put together, not at night."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ...errors import InputError
from ..rules.where import may_meet
from .durations import zone

if TYPE_CHECKING:
    from ..rules.retention import Retention

__all__ = ["refuse_conflicts"]

# Whatever months and leap days are between: a minimum may exceed a maximum from some days only.
_FROM: Final = tuple(
    datetime(year, month, day, tzinfo=UTC)
    for year in (2023, 2024)
    for month in range(1, 13)
    for day in (1, 28)
)


def refuse_conflicts(rules: Sequence[Retention]) -> None:
    """
    Refuse a minimum that is longer than a maximum for the same snapshot.

    Raises:
        InputError: There is such a pair.

    Cost: O(n^2), n = rules with limits.
    """
    least = [rule for rule in rules if rule.minimum is not None]
    most = [rule for rule in rules if rule.maximum is not None]
    for low in least:
        for high in most:
            if may_meet(low.where, high.where) and _exceeds(low, high):
                raise InputError(
                    f"these cannot both hold: {low.id} keeps for at least {low.minimum}, "
                    f"{high.id} erases after {high.maximum}. Let where= tell their snapshots "
                    "apart, or make them fit"
                )


def _exceeds(low: Retention, high: Retention) -> bool:
    assert low.minimum is not None
    assert high.maximum is not None
    for moment in _FROM:
        until = low.minimum.after(moment, zone(low.timezone))
        if until > high.maximum.after(moment, zone(high.timezone)):
            return True
    return False
