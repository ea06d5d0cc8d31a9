"""What the suites of stores have in common: a way to a fresh store."""

from __future__ import annotations

from typing import ClassVar

from ...vault.store.protocol import Store

__all__ = ["StoreTests"]


class StoreTests:
    """A part of :class:`.StoreSuite`."""

    between_processes: ClassVar[bool] = True

    def make_store(self) -> Store:
        """Return a handle of a store that holds nothing yet: a fresh one at every call."""
        raise TypeError(f"{type(self).__name__} must define make_store()")
