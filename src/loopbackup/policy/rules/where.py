"""Which snapshots a rule is about: by series, category and tags."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Protocol

from ...errors import InputError

__all__ = ["Labelled", "check_where", "may_meet", "selects"]

TAG = "tag:"


class Labelled(Protocol):
    """A snapshot, or facts about one."""

    @property
    def name(self) -> str | None:
        """The series."""
        ...

    @property
    def category(self) -> str | None:
        """The category."""
        ...

    @property
    def tags(self) -> Mapping[str, str]:
        """The tags."""
        ...


def check_where(where: object) -> dict[str, str]:
    """
    Give a selection if it is one.

    Keys are ``name``, ``category`` and ``tag:<tag>``; all of them have to fit. ``*`` in a value
    stands for any text.

    Raises:
        InputError: It is none.
    """
    if not isinstance(where, Mapping):
        raise InputError('where maps name, category or "tag:<tag>" to a text')
    for key, value in where.items():
        known = key in ("name", "category") or (
            isinstance(key, str) and key.startswith(TAG) and key != TAG
        )
        if not known:
            raise InputError(f'where selects by name, category or "tag:<tag>", not by {key!r}')
        if not isinstance(value, str) or not value:
            raise InputError(f"where holds a text for {key}")
    return dict(where)


def selects(where: Mapping[str, str], what: Labelled) -> bool:
    """Tell whether a snapshot is meant."""
    if not where:
        return True
    return all(_value_fits(pattern, _value(key, what)) for key, pattern in where.items())


def _value(key: str, what: Labelled) -> str | None:
    if key == "name":
        return what.name
    return what.category if key == "category" else what.tags.get(key[len(TAG) :])


def _value_fits(pattern: str, value: str | None) -> bool:
    return value is not None and (value == pattern or _compiled(pattern)(value) is not None)


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Callable[[str], re.Match[str] | None]:
    parts = map(re.escape, pattern.split("*"))
    return re.compile(".*".join(parts), re.DOTALL).fullmatch


def may_meet(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Tell whether some snapshot can be meant by both."""
    for key in one.keys() & other.keys():
        first, second = one[key], other[key]
        if "*" in first and "*" in second:
            continue
        if not (_value_fits(first, second) or _value_fits(second, first)):
            return False
    return True
