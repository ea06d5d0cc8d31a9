"""
Following the ledger: its records and lists are read, verified, and folded one by one.

A process that has begun folds record by record, and looks again before it
uses a key. Of a replica it sees the records below the first gap, and the keys
that a tombstone names.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime

from ...errors import (
    DamagedData,
    FormatError,
    InputError,
    NotFoundError,
    RollbackDetected,
    StoreError,
)
from ...logs import get_logger
from ..format import names
from ..format import record as rec
from ..format.bounds import MAX_LIST_BYTES, MAX_RECORD_BYTES
from ..format.header import Header
from ..format.record import Record, is_record
from ..format.tombstone import Tombstone
from ..keys.root import Signer
from ..store.seam import StoreSeam
from .ahead import buried_by, followed, is_past, keys_over
from .commit import (
    LIST_MAGIC,
)
from .epoch import FollowsEpochs
from .lease import Lease
from .memory import Head, LocalMemory, rolled_back
from .records import Records
from .state import Admitted, Front, State, split_fronts

__all__ = ["Follower"]

_LIST_HEAD = len(LIST_MAGIC) + 16


class Follower:
    """
    The ledger of one vault, read only. Thread-safe.

    ``state`` is the fold up to the last record that this process has seen. It
    is replaced, never changed: whoever holds one sees a single moment.
    """

    def __init__(
        self,
        store: StoreSeam,
        header: Header,
        first: bytes,
        *,
        clock: Callable[[], datetime],
        memory: LocalMemory,
        is_replica: bool = False,
    ) -> None:
        self._store = store
        self._header = header
        self._first = first
        self._clock = clock
        self._memory = memory
        self.is_replica = is_replica
        self._ahead: Tombstone | None = None
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._last = names.content_hash(first)
        self.signer: Signer | None = None
        self.keys: FollowsEpochs | None = None
        """Holds the keys of an epoch; told when another one counts."""
        self.fresh = False
        self.behind = 0
        """How many records of those that this host has seen a replica lacked when it was opened."""
        self._lacks_first = False
        self.lease = Lease(clock, self._lock, self.refresh)
        self._records = Records(store, self.lease.now)
        self._take(self._genesis())

    @property
    def state(self) -> State:
        """The fold; of a replica whose keys are ahead of its records, with those keys."""
        return self._shown

    @property
    def first(self) -> bytes:
        """Record 0."""
        return self._first

    @property
    def folded(self) -> State:
        """The fold of the records alone."""
        return self._folded

    def _take(self, state: State) -> None:
        self._folded = state
        if self._ahead is not None and is_past(state, self._ahead):
            self._ahead = None
        self._shown = state if self._ahead is None else keys_over(state, self._ahead)

    @property
    def recent(self) -> State:
        """
        The fold, no older than the lease: what every use of a domain's key stands on.

        Raises:
            StoreError: Kind "lease": see :meth:`.lease.Lease.keep`.
        """
        self.lease.keep()
        return self.state

    def _genesis(self) -> State:
        state = State(self._header.vault_id, self._header.authority)
        if state.apply(self._first, self.fetch_list) is None:
            raise FormatError("the vault's first record is malformed")
        return state

    def fetch_list(self, digest: bytes) -> bytes:
        """Read a long list of names; DamagedData when it is missing or altered."""
        name = names.list_name(digest)
        try:
            data = self._store.get_whole(name, MAX_LIST_BYTES)
        except NotFoundError:
            raise DamagedData("a list that the ledger names is missing", object=name) from None
        if names.content_hash(data) != digest or data[: len(LIST_MAGIC)] != LIST_MAGIC:
            raise DamagedData("a list that the ledger names was altered", object=name)
        return data[_LIST_HEAD:]

    def _look_ahead(self) -> None:
        """Follow tombstones from the root of the records' epoch to the keys that count."""
        if not self.is_replica:
            return
        while True:
            before = self._folded.size if self._ahead is None else self._ahead.size
            found = buried_by(self._store, self._header, self.state.epoch, before)
            if found is None:
                return
            self._ahead = found if self._ahead is None else followed(self._ahead, found)
            self._take(self._folded)

    def fold_further(self) -> None:
        """Fold what was committed since, and remember nothing: no credential has opened it yet."""
        with self._lock:
            self._fold([])
            self._look_ahead()

    def refresh(self) -> bool:
        """
        Fold what was committed since; True if anything was.

        Raises:
            CredentialError: The keys were changed, and the credential that the
                vault was opened with has no slot any more.
        """
        self.check_process()
        with self._lock:
            before = self.state.size
            self._catch_up()
            moved = self.state.size > before
            if moved:
                self._memory.remember(self.state)
            return moved

    def _catch_up(self) -> None:
        """
        Fold to the head, and take up its keys where they were changed.

        Epochs that were replaced in their turn are passed over: their key
        objects are gone.
        """
        self._fold([])
        self._look_ahead()
        while self.keys is not None and self.keys.epoch != self.state.epoch:
            state = self.state
            try:
                self.keys.follow(state)
            except (DamagedData, NotFoundError):
                self._fold([])
                self._look_ahead()
                if self.state.epoch == state.epoch:
                    raise

    def check_process(self) -> None:
        """Refuse to go on in a forked child."""
        if os.getpid() != self._pid:
            raise InputError("this vault was opened before a fork; open it again in the child")

    def _fold(self, known: list[Head], listen: Callable[[int, Record], None] | None = None) -> None:
        heads = {h.size: h.root for h in known}
        self._hold_against(heads)
        looked = self.lease.now()
        while (found := self._read_next()) is not None:
            self._apply(*found, listen)
            self._hold_against(heads)
            looked = self.lease.now()
        # Of the end a listing tells as it was when it was asked for.
        self.lease.renew(self._records.listed or looked)
        size = self._folded.size
        behind = [seen for seen in heads if seen > size]
        if behind and not self.is_replica:
            if self._records.listed is not None:
                # A store may be late with what it lists.
                self._records.stop()
                self._fold(known, listen)
                return
            raise rolled_back(size, max(behind))

    def _hold_against(self, heads: dict[int, bytes]) -> None:
        root = heads.get(self._folded.size)
        if root is not None and root != self._folded.tree.head():
            raise RollbackDetected(
                f"the first {self._folded.size} ledger records are not the ones seen before: "
                "the store shows another history",
                kind="fork",
                seen=self._folded.size,
                found=self._folded.size,
            )

    def _apply(
        self,
        data: bytes,
        admitted: Admitted | None = None,
        listen: Callable[[int, Record], None] | None = None,
    ) -> Record | None:
        index = self._folded.size
        state = self._folded.copy()
        record = state.apply(data, self.fetch_list, admitted)
        self._take(state)
        self._last = names.content_hash(data)
        if record is None:
            get_logger().error("void ledger record", index=index, why=state.alarms[-1].reason)
            return None
        if not record.whole:
            get_logger().error("a body of a ledger record is lost", index=index)
        if listen is not None:
            listen(index, record)
        return record

    def _read_next(self) -> tuple[bytes, Admitted | None] | None:
        """
        Read the record at the head; again where it would be void, or lack a body.

        None when there is none; with its bytes what it opened to, if it is sound.

        To call a good record void for one bad reading, and to commit on top of
        that, would break the ledger for everybody.

        Raises:
            StoreError: Two readings differ, and neither is a record; or the store gives
                what it does not list.
        """
        index = self._folded.size
        data = self._records.read(index)
        if data is None:
            return None
        admitted = self._folded.admits(data)
        if admitted is not None:
            return data, admitted
        again = self._records.read(index)
        if again == data:
            self._refuse_strangers(index, data)
            return data, None
        admitted = None if again is None else self._folded.admits(again)
        if again is not None and admitted is not None:
            return again, admitted
        raise StoreError(
            f"ledger record {index} reads differently each time; nothing was changed",
            kind="unsteady_record",
            object=names.record_name(index),
            transient=True,
        )

    def _refuse_strangers(self, index: int, data: bytes) -> None:
        """
        Refuse to fold what is no record at all unless the store lists it.

        What stands between a store and its client may answer in its place, with a page that
        says "back soon"; to fold that, and commit behind it, would lose all that follows.
        """
        if is_record(data):
            return
        name = names.record_name(index)
        listed = (found.size_bytes for found in self._store.list(name) if found.key == name)
        if len(data) not in listed:
            raise StoreError(
                f"the store gives something for {name} that it does not list; nothing was changed",
                object=name,
                transient=True,
            )

    def record(self, index: int) -> bytes:
        """Give the bytes of a record below the head; DamagedData when it is gone."""
        try:
            return self._store.get_whole(names.record_name(index), MAX_RECORD_BYTES)
        except NotFoundError:
            raise DamagedData(
                f"ledger record {index} is missing", object=names.record_name(index)
            ) from None

    def packs_of(self, segment: bytes) -> list[Front]:
        """
        Give the packs of a live index segment, from the record that added it.

        A record that was altered since it was folded is not believed.
        """
        state = self.state
        for live in state.segments:
            if live.name == segment:
                record = rec.parse_record(self.record(live.added), live.added)
                if names.content_hash(record.leaf) != live.leaf:
                    raise DamagedData(
                        f"ledger record {live.added} was altered", kind="altered_ledger"
                    )
                facts = record.facts()
                fronts = split_fronts(facts.packs or self.fetch_list(facts.packs_list))
                return [front for front in fronts if front.name not in state.condemned]
        raise NotFoundError("the segment is no longer live", kind="segment")

    @property
    def head(self) -> str:
        """The ledger's size and Merkle tree head as text."""
        state = self.state
        return str(Head(state.size, state.tree.head()))

    def now(self) -> datetime:
        """Read the vault's clock; always aware UTC."""
        return self._clock().astimezone(UTC)

    def close(self) -> None:
        """Save what the next opening can start from."""
        self._memory.save(self._folded, self._last, always=self._store.is_distant)
