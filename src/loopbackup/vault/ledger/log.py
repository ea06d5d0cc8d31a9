"""
The ledger as a client sees it: folding, committing, and knowing when it lies.

One loop serves every commit: fold to the head, let the intent look at the
state, create the next record exclusively. A record number belongs to whoever
creates it first; nothing else decides, neither clock nor lock.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from ...errors import (
    ConflictError,
    DamagedData,
    FormatError,
    InputError,
    IntegrityError,
    LoopbackupError,
    NotFoundError,
    RollbackDetected,
    StoreError,
)
from ...logs import get_logger
from ..format import codec, names
from ..format import record as rec
from ..format.bounds import MAX_LIST_BYTES, MAX_RECORD_BYTES
from ..format.header import Header
from ..format.record import BodyRef, Record
from ..format.tombstone import Tombstone
from ..keys.root import Signer
from ..store.seam import StoreSeam
from .ahead import buried_by, followed, gapless, is_past, keys_over, lag
from .commit import (
    LIST_MAGIC,
    Body,
    Draft,
    Fresh,
    Intent,
    Rebuild,
    Simple,
    create_record,
    inline_or_list,
    put_list,
)
from .epoch import FollowsEpochs
from .lease import Lease
from .memory import Head, LocalMemory, rolled_back
from .records import Records
from .state import Admitted, Front, State, split_fronts
from .summary import Candidate, NamesSummary, candidates, put_summary

__all__ = [
    "Body",
    "Draft",
    "Fresh",
    "Intent",
    "Log",
    "Rebuild",
    "Simple",
    "inline_or_list",
    "put_list",
]

SUMMARY_EVERY = 64
_LIST_HEAD = len(LIST_MAGIC) + 16


class Log:
    """
    The ledger of one vault. Thread-safe; commits of one process queue.

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
        self._records = Records(store)
        self.lease = Lease(clock, self._lock, self.refresh)
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

    # ---- folding

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

    def remember(self) -> None:
        """Keep the head on this host; only once a credential has proved that it is the vault's."""
        self._memory.remember(self.state)

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
        if max_size is not None and max_size < SUMMARY_EVERY:
            return False  # Nobody has written one by then; a removed key may have forged one.
        for found in candidates(self._store, self._header, max_size):
            confirmed: list[Record] = []

            def listen(
                _index: int,
                record: Record,
                found: Candidate = found,
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
        self.lease.renew(looked)
        size = self._folded.size
        behind = [seen for seen in heads if seen > size]
        if behind and not self.is_replica:
            if self._records.is_looking:
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
            DamagedData: Two readings differ, and neither is a record.
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
            return data, None
        admitted = None if again is None else self._folded.admits(again)
        if again is not None and admitted is not None:
            return again, admitted
        raise DamagedData(
            f"ledger record {index} reads differently each time; nothing was changed",
            kind="unsteady_record",
            object=names.record_name(index),
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

    # ---- committing

    def commit(self, intent: Intent) -> int | None:
        """
        Commit *intent* and give the number of its record.

        None when the intent found that nothing is left to do.

        Raises:
            StoreError: ``kind == "outcome_unknown"`` when the store does not
                answer; whether the commit was made shows at the next opening.
        """
        self.check_process()
        if self.signer is None:
            raise InputError("this vault is open for reading only")
        index = None if self._header.single_writer else self._commit_unseen(intent)
        while index is None:
            with self._lock:
                self._catch_up()
                done = self.state.commits.get(intent.commit_id)
                if done is not None:
                    return done
                size = self.state.size
                verdict = intent.validate(self.state)
                if self.state.size != size:
                    continue  # A read inside folded on: the verdict is on an older state.
                if verdict is None:
                    return None
                if isinstance(verdict, Draft):
                    index = self._attempt(intent.commit_id, verdict)
                    continue
            verdict.work(self.state)
        is_due = index - self.state.last_summary >= SUMMARY_EVERY
        if is_due and not isinstance(intent, NamesSummary):
            self._summarise()
        return index

    def _commit_unseen(self, intent: Intent) -> int | None:
        """
        Try to commit without a look at the head first, which spares a request; None if that fails.

        That nobody was faster is what the exclusive create shows. Of a vault of a
        single writer the store may not keep to it.
        """
        with self._lock:
            size = self.state.size
            try:
                verdict = intent.validate(self.state)
            except LoopbackupError:
                return None
            if not isinstance(verdict, Draft) or self.state.size != size:
                return None
            return self._attempt(intent.commit_id, verdict)

    def commit_draft(self, draft: Draft) -> int | None:
        """Commit something that holds whatever the state is."""
        return self.commit(Simple(draft))

    def _attempt(self, commit_id: bytes, draft: Draft) -> int | None:
        assert self.signer is not None
        state, index = self.state, self.state.size
        refs = [BodyRef(b.key, b.ref, names.content_hash(b.data)) for b in draft.bodies]
        frame = rec.Frame(
            rec.VERSION,
            index,
            commit_id,
            state.tree.head(),
            state.epoch,
            state.root,
            self.signer.writer,
            int(self._clock().timestamp() * 1_000_000),
            draft.kind,
            refs,
            msgspec.Raw(codec.encode(draft.facts)),
        )
        data = rec.encode_record(
            frame,
            tuple(b.data for b in draft.bodies),
            vault_id=self._header.vault_id,
            key=self.signer.key,
        )
        if not create_record(self._store, names.record_name(index), data):
            return None
        if self._apply(data) is None:
            raise ConflictError(f"ledger record {index} was void: {self.state.alarms[-1].reason}")
        self._memory.remember(self.state)
        return index

    def _summarise(self) -> None:
        if self.signer is None or "maintainer" not in self.signer.roles:
            return
        try:
            self.commit(put_summary(self._store, self.state))
        except LoopbackupError as exc:
            # What the caller wanted is committed; any later commit summarises again.
            get_logger().warning("no summary was written", kind=exc.kind)

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
