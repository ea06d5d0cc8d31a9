"""What every store must do, as a pytest class for the authors of storage plugins."""

from __future__ import annotations

from .listing import ListingTests
from .objects import ObjectTests
from .sharing import SharingTests

__all__ = ["StoreSuite"]


class StoreSuite(ObjectTests, SharingTests, ListingTests):
    """
    Check the whole contract of :class:`~loopbackup.vault.store.protocol.Store`.

    Subclass it in a test module under a name that pytest collects and give it
    ``make_store``; a fixture with ``autouse=True`` may prepare what that needs.

    A handle is pickled to start other processes with it, as hosts do: the class
    must be importable there. Only a store that lives in one process sets
    ``between_processes`` to False; it must refuse to be pickled, for its copy
    would be another store.
    """
