"""What creating and opening a vault ask of this host: a clock, a folder for its memory, a name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from ...errors import InputError
from ..store.local import LocalStore
from ..store.protocol import Store

__all__ = ["aware_clock", "default_state_dir", "place_of", "system_clock"]


def system_clock() -> datetime:
    """Read the system's clock."""
    return datetime.now(UTC)


def default_state_dir() -> Path:
    """Give the folder of the user where verified heads and caches are kept."""
    import platformdirs

    return Path(platformdirs.user_state_dir("loopbackup", appauthor=False))


def aware_clock(clock: Callable[[], datetime]) -> Callable[[], datetime]:
    """
    Give *clock* as one that is never taken for another zone.

    Raises:
        InputError: It cannot be called; or, when it is read, it gives no aware datetime.
    """
    if not callable(clock):
        raise InputError("clock is a function that gives aware datetimes")

    def read() -> datetime:
        moment: object = clock()
        if not isinstance(moment, datetime) or moment.utcoffset() is None:
            raise InputError("the clock gave no datetime with a zone: datetime.now(UTC) is one")
        return moment

    return read


def place_of(where: str, store: Store) -> str | None:
    """Name the place of a vault for this host; None where nothing outlives the process."""
    if isinstance(store, LocalStore):
        return store.root
    return None if where.startswith("memory://") else where
