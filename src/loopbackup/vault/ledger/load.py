"""
Loading the ledger when a vault is opened: from the best base at hand, held against memory.

A base is what this host remembers, a summary that a record confirms, or the
first record; the store has to show what this host, or the caller, has seen.
"""

from __future__ import annotations

from ...errors import (
    DamagedData,
    FormatError,
    IntegrityError,
    StoreError,
)
from ..format import names
from ..format.record import Record
from . import summary
from .ahead import gapless, lag
from .follow import Follower
from .memory import Head

__all__ = ["Loader"]


class Loader(Follower):
    """Comes to the head of the ledger, or says why what the store shows is not it."""

    def load(self, *, head: Head | None = None) -> None:
        """
        Fold to the head, from the best base at hand, and hold it against memory.

        Raises:
            RollbackDetected: The store is behind, or another history than, what
                this host or the caller has seen. A replica may be behind what the
                host has seen, but not behind the last change of keys in it.
        """
        seen = self._memory.head()
        known = [h for h in (head, seen) if h is not None]
        with self._lock:
            limit = gapless(self._store) if self.is_replica else None
            if limit == 0:
                raise FormatError(
                    "this replica is not filled yet: replicate to it again", kind="no_vault"
                )
            if not self._load_remembered(known, limit) and not self._load_summary(known, limit):
                self._take(self._genesis())
                self._records.look(0)
                self._refuse_other_first()
                self._fold(known)
            self.fresh = bool(known)
            if self.is_replica:
                self._look_ahead()
                size, epoch = self._folded.size, self.state.epoch
                self.behind = lag(size, epoch, head, seen, self._memory.epoch())
            else:
                self._refuse_gap()
            self._records.stop()

    def _refuse_gap(self) -> None:
        """
        Look one record beyond the head: a lost record must not hide all later ones.

        Raises:
            DamagedData: There is a record, and none before it.
        """
        while True:
            missing = names.record_name(self.state.size)
            if self._records.read(self.state.size + 1) is None:
                return
            before = self.state.size
            # Both may have been committed between the two reads, or while they were listed.
            self._records.stop()
            self._fold([])
            if self.state.size == before:
                raise DamagedData(
                    f"ledger record {before} is missing, and there is one after it. "
                    "Restore the ledger from a copy",
                    kind="missing_record",
                    object=missing,
                )

    def _load_remembered(self, known: list[Head], limit: int | None) -> bool:
        remembered = self._memory.state(self._header.authority)
        if remembered is None:
            return False
        base, last = remembered
        if base.vault_id != self._header.vault_id or any(h.size < base.size for h in known):
            return False
        if limit is not None and base.size > limit:
            return False
        # The store must still hold what the fold ends with; if not, folding
        # from an earlier base shows whether it was cut off or replaced.
        data = self._records.read(base.size - 1)
        if data is None or names.content_hash(data) != last:
            return False
        self._take(base)
        self._last = last
        self._records.look(base.size)
        self._fold(known)
        return True

    def _load_summary(self, known: list[Head], limit: int | None) -> bool:
        """Start from a summary that a record of a certified maintainer confirms."""
        limits = [head.size for head in known] + ([] if limit is None else [limit])
        max_size = min(limits, default=None)
        if max_size is not None and max_size < summary.SUMMARY_EVERY:
            return False  # Nobody has written one by then; a removed key may have forged one.
        for found in summary.candidates(self._store, self._header, max_size):
            confirmed: list[Record] = []

            def listen(
                _index: int,
                record: Record,
                found: summary.Candidate = found,
                confirmed: list[Record] = confirmed,
            ) -> None:
                if found.is_confirmed_by(record, self._header):
                    confirmed.append(record)

            self._take(found.state)
            self._records.look(found.state.size)
            try:
                self._fold(known, listen)
            except IntegrityError:
                # Anybody who can write may have put it: without it shows what is true.
                continue
            if confirmed:
                return True
        return False

    def _refuse_other_first(self) -> None:
        first = self._records.read(0)
        self._lacks_first = first is None
        if first not in (None, self._first):
            raise DamagedData("ledger record 0 is not the vault's own", object=names.record_name(0))

    def complete_creation(self) -> None:
        """Write record 0 where the creation of the vault was cut off before it."""
        if self._lacks_first:
            try:
                self._store.put(names.record_name(0), self._first)
            except StoreError as exc:
                if exc.kind not in ("read_only", "denied"):
                    raise

    def remember(self) -> None:
        """Keep the head on this host; only once a credential has proved that it is the vault's."""
        self._memory.remember(self.state)
