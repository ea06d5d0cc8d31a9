"""Reading ledger records: one by one, or, of a distant store, all that a listing shows at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from ...errors import LoopbackupError, NotFoundError
from ..format import names
from ..format.bounds import MAX_RECORD_BYTES
from ..store.seam import StoreSeam
from .lease import Moment

__all__ = ["Records"]

SPAN: Final = 100
"""So many numbers begin alike: a listing by their prefix shows all that there are of them."""
AHEAD: Final = 32
SMALL_BYTES: Final = 1 << 20
"""Longer records are read when it is their turn."""


class Records:
    """
    Gives records by number. Not thread-safe.

    Between :meth:`look` and :meth:`stop` it takes a listing's word for which
    there are, so that a ledger of many records is read in few round trips.
    """

    def __init__(self, store: StoreSeam, now: Callable[[], Moment]) -> None:
        self._store = store
        self._now = now
        self.listed: Moment | None = None
        """When the listing was asked for that says what there is; None: nothing is listed."""
        self._span = range(0)
        """Numbers of which the listing shows whether there is a record."""
        self._sizes: dict[int, int] = {}
        self._coming: dict[int, Future[bytes]] = {}

    def look(self, index: int) -> None:
        """
        List the records from *index* on, if the store is distant, and ask for the first of them.

        Cost: one LIST, of a page.
        """
        self.stop()
        if not self._store.is_distant:
            return
        listed, first = self._now(), index // SPAN * SPAN
        prefix = names.record_name(first)[: -len(str(SPAN - 1))]
        for entry in self._store.list(prefix):
            found = names.record_index(entry.key)
            if found is not None:
                self._sizes[found] = entry.size_bytes
        self._span, self.listed = range(first, first + SPAN), listed
        for coming in range(index, index + AHEAD):
            self._ask(coming)

    def stop(self) -> None:
        """Believe no listing any more."""
        for future in self._coming.values():
            future.cancel()
        self._span, self._sizes, self._coming, self.listed = range(0), {}, {}, None

    def read(self, index: int) -> bytes | None:
        """Read a record; None when there is none."""
        if self._span and index not in self._span:
            self.look(index)
        if self._span:
            if index not in self._sizes:
                return None
            self._ask(index + AHEAD)
            future = self._coming.pop(index, None)
            try:
                if future is not None:
                    return future.result()
            except LoopbackupError:
                pass  # Whatever it was, it is met again, and told, below.
        try:
            return self._store.get_whole(names.record_name(index), MAX_RECORD_BYTES)
        except NotFoundError:
            return None

    def _ask(self, index: int) -> None:
        size = self._sizes.get(index, SMALL_BYTES + 1)
        if size <= SMALL_BYTES and index not in self._coming:
            name = names.record_name(index)
            self._coming[index] = self._store.threads.submit(self._store.get_whole, name, size)
