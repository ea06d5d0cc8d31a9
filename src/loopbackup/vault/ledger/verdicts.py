"""Why a record has no effect, or what of it nobody can say."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ...errors import DamagedData

__all__ = ["FetchList", "ListLost", "Void", "listed"]

FetchList: TypeAlias = Callable[[bytes], bytes]
"""Reads a list object by its hash."""


def listed(digest: bytes, fetch_list: FetchList) -> bytes:
    """Read the list that a record names, if it names one."""
    try:
        return fetch_list(digest) if digest else b""
    except DamagedData as exc:
        raise ListLost(exc) from exc


class Void(Exception):
    """The record has no effect; ``leaf`` is what the tree takes, if it parses."""

    def __init__(self, reason: str, leaf: bytes = b"") -> None:
        super().__init__(reason)
        self.leaf = leaf


class ListLost(Exception):
    """A list that the record names cannot be read, so that its effect is unknown."""

    def __init__(self, error: DamagedData) -> None:
        super().__init__(str(error))
        self.error = error
