"""
Checking: ledger, keys, index, entries, places; with data, every byte.

An inspection reports, it does not raise: damage in one place is told with the
snapshots and entries that it costs, and everything else stays restorable.
"""

from __future__ import annotations

import contextlib
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from attrs import define, field

from ...errors import (
    DamagedData,
    FormatError,
    InputError,
    LoopbackupError,
    NotFoundError,
    RollbackDetected,
)
from ...terms import Action, Actor, Problem
from ..content.compress import decompress
from ..content.segment import Blob, places_of
from ..content.streams import StreamReader, TableReader, content_ids
from ..format import names
from ..format import record as rec
from ..format.entries import Node
from ..format.header import split_header
from ..format.pack import CONTENT_KINDS
from ..keys.domains import Domain
from ..keys.root import read_root, read_slot
from ..ledger.log import Draft
from ..ledger.state import SnapshotRecord, State
from .look import describe
from .look import read_root as read_snapshot_root
from .session import Session

__all__ = ["CheckReport", "fold_again", "run_check"]

MAX_ENTRIES_NAMED = 10_000


@define
class CheckReport:
    """
    What a check found.

    ``problems`` names damaged objects with the snapshots and entries that need
    them; ``read_bytes`` is what ``data`` made it read.
    """

    snapshots: int = 0
    packs: int = 0
    records: int = 0
    chunks: int = 0
    read_bytes: int = 0
    problems: list[Problem] = field(factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def __str__(self) -> str:
        what = "all well" if self.ok else f"{len(self.problems):,} problems"
        return (
            f"{what}: {self.records:,} records, {self.snapshots:,} snapshots, "
            f"{self.packs:,} packs, {self.chunks:,} chunks, "
            f"{self.read_bytes / 1e6:,.1f} MB of data read"
        )


def fold_again(session: Session) -> State:
    """
    Fold the whole ledger anew and hold it against the fold in use.

    Raises:
        DamagedData: It is not the same history.
    """
    log = session.log
    target = log.state.size
    head = log.state.tree.head()
    state = State(session.header.vault_id, session.header.authority)
    for index in range(target):
        state.apply(log.record(index), log.fetch_list)
    if state.tree.head() != head:
        raise DamagedData("the ledger was altered since it was folded", kind="altered_ledger")
    return state


def run_check(session: Session, actor: Actor, *, share: float) -> CheckReport:
    """
    Check the vault; see :meth:`Vault.check`.

    Raises:
        PolicyError: Refused.
        InputError: *share* is not within 0 and 1.
    """
    if not 0.0 <= share <= 1.0:
        raise InputError("data is True, False or a share between 0 and 1")
    session.begin(Action.CHECK, actor)
    run = _Check(session, share)
    run.go()
    if not session.read_only:
        facts = rec.Checked(len(run.report.problems), share)
        try:
            session.log.commit_draft(Draft("check", facts, [session.audit(actor, Action.CHECK)]))
        except LoopbackupError as exc:
            run.report.problems.append(Problem(exc.kind, f"the check was not recorded: {exc}"))
    return run.report


@define(eq=False)
class _Check:
    session: Session
    share: float
    report: CheckReport = field(factory=CheckReport)
    state: State = field(init=False)
    sizes: dict[str, int] = field(factory=dict)
    bad: dict[tuple[bytes, bytes], str] = field(factory=dict)
    """(domain id, chunk id) -> why it cannot be restored."""
    used: dict[bytes, int] = field(factory=lambda: defaultdict(int))

    def go(self) -> None:
        """Check everything that can be checked."""
        self.state = self.session.log.state
        self.report.records = self.state.size
        self._guard("ledger", self._ledger)
        self._guard("keys", self._keys)
        self._guard("store", self._list)
        if self._guard("index", self._index):
            if self.share > 0:
                self._guard("data", self._data)
            for snapshot in sorted(self.state.snapshots.values(), key=lambda s: s.index):
                self.report.snapshots += 1
                self._snapshot(snapshot)

    def _guard(self, what: str, step: Callable[[], Any]) -> bool:
        try:
            step()
        except LoopbackupError as exc:
            self._problem(exc, what=what)
            return False
        return True

    def _problem(self, exc: LoopbackupError, *, what: str, **more: Any) -> None:
        found = exc.context.get("object")
        kind = exc.kind if exc.kind != "not_found" else "missing"
        self.report.problems.append(Problem(kind, f"{what}: {exc}", object=found, **more))

    # ---- parts

    def _ledger(self) -> None:
        for alarm in self.state.alarms:
            self.report.problems.append(
                Problem(
                    "void_record",
                    f"ledger record {alarm.index} has no effect: {alarm.reason}",
                    object=names.record_name(alarm.index),
                )
            )
        try:
            again = fold_again(self.session)
        except (RollbackDetected, FormatError) as exc:
            raise DamagedData(str(exc)) from exc
        if again.digest() != self.state.digest():
            raise DamagedData("folding the ledger again gives another state")
        for index in again.torn:
            self.report.problems.append(
                Problem(
                    "lost_body",
                    f"ledger record {index} holds, but who made it and why, or what a snapshot "
                    "is called, was altered or cut off",
                    object=names.record_name(index),
                )
            )
        for digest in sorted(self.state.lists):
            self._guard("ledger", partial(self.session.log.fetch_list, digest))
        self._guard("ledger", self._first_record)
        self._guard("ledger", self._beyond_head)

    def _first_record(self) -> None:
        """Hold record 0 in the header's object against the one in the ledger."""
        first = split_header(self.session.store.get(names.HEADER))[2]
        if first != self.session.log.record(0):
            raise DamagedData("the vault's object ends in another record 0", object=names.HEADER)

    def _beyond_head(self) -> None:
        """Look for records above a gap: what follows a lost record is out of sight."""
        listed = [entry.key for entry in self.session.store.list(names.LEDGER)]
        self.session.log.refresh()
        head = names.record_name(self.session.log.state.size)
        beyond = [name for name in listed if name > head]
        if beyond:
            raise DamagedData(
                f"a ledger record is missing, and there are {len(beyond)} after it",
                kind="missing_record",
                object=head,
            )

    def _keys(self) -> None:
        store, state = self.session.store, self.state
        self._guard("keys", partial(read_root, store, state))
        for slot_id, _kind, digest in state.slots:
            self._guard("keys", partial(read_slot, store, state.epoch, slot_id, digest))
        for number in sorted(state.shards):
            self._guard("keys", partial(self.session.keyring.check_shard, number))

    def _list(self) -> None:
        for entry in self.session.store.list(names.PACKS):
            self.sizes[entry.key] = entry.size_bytes

    def _index_object(self, short: bytes) -> None:
        name = names.index_name(short[1:])
        if names.content_hash(self.session.store.get(name)) != short[1:]:
            raise DamagedData("an index object's bytes do not fit its name", object=name)

    def _index(self) -> None:
        """Look at every row: its pack must be there and long enough."""
        packs: set[bytes] = set()
        for domain in self._domains(tell=True):
            try:
                self.session.index.mend(domain, self.state)
            except DamagedData as exc:
                self._problem(exc, what="index")
        for reader in self.session.index.segments(self.state):
            if reader.rebuilt:
                self.report.problems.append(
                    Problem(
                        "index_rebuilt",
                        "an index object is missing or damaged; its packs' directories "
                        "stand in for it, and the next prune writes it anew",
                        object=names.index_name(reader.short[1:]),
                    )
                )
            elif self.share > 0 and reader.short[:1] == b"i":
                self._guard("index", partial(self._index_object, reader.short))
            for lost in reader.lost:
                self._problem(lost, what="index")
            packs.update(pack.name for pack in reader.packs)
        packs -= self.state.condemned.keys()
        self.report.packs = len(packs)
        for domain in self._domains():
            for reader in self.session.index.segments(self.state):
                with contextlib.suppress(DamagedData):
                    for blob, members in reader.rows(domain):
                        self._row(domain, blob, members)
        for pack in sorted(packs):
            name = names.pack_name(pack[1:])
            if name not in self.sizes:
                self.report.problems.append(Problem("missing", "a pack is missing", object=name))

    def _domains(self, *, tell: bool = False) -> Iterator[Domain]:
        """Yield the domains whose keys are there; *tell* of those whose keys are damaged."""
        for domain_id in self.session.index.domain_ids(self.state):
            try:
                yield self.session.keyring.by_id(domain_id)
            except NotFoundError:
                continue
            except DamagedData as exc:
                if tell:
                    self._problem(exc, what="keys")

    def _row(self, domain: Domain, blob: Blob, members: bytes) -> None:
        self.report.chunks += 1
        if blob.pack in self.state.condemned:
            return
        end = blob.offset + blob.length
        self.used[blob.pack] = max(self.used[blob.pack], end)
        size = self.sizes.get(names.pack_name(blob.pack[1:]), 0)
        if end > size:
            why = "its pack is missing" if size == 0 else "its pack is cut short"
            self._spoil(domain, blob, members, why)

    def _spoil(self, domain: Domain, blob: Blob, members: bytes, why: str) -> None:
        for chunk_id, _place in places_of(blob, members):
            if not self._elsewhere(domain, chunk_id, blob.pack):
                self.bad[domain.id, chunk_id] = f"{why} ({names.pack_name(blob.pack[1:])})"

    def _elsewhere(self, domain: Domain, chunk_id: bytes, pack: bytes) -> bool:
        place = self.session.index.find(domain, chunk_id, self.state)
        return place is not None and place.blob.pack != pack

    # ---- bytes

    def _data(self) -> None:
        """Read whole packs, and open every blob in them."""
        packs = sorted(p for p in self.used if names.pack_name(p[1:]) in self.sizes)
        if self.share < 1:
            count = max(1, round(len(packs) * self.share)) if packs else 0
            packs = random.sample(packs, count)
        chosen = set(packs)
        rows: dict[bytes, list[tuple[Domain, Blob, bytes]]] = defaultdict(list)
        for domain in self._domains():
            for reader in self.session.index.segments(self.state):
                with contextlib.suppress(DamagedData):
                    for blob, members in reader.rows(domain):
                        if blob.pack in chosen:
                            rows[blob.pack].append((domain, blob, members))
        list(self.session.executor.map(lambda p: self._pack(p, rows[p]), packs))

    def _pack(self, pack: bytes, rows: list[tuple[Domain, Blob, bytes]]) -> None:
        name = names.pack_name(pack[1:])
        try:
            data = self.session.store.get(name)
        except LoopbackupError as exc:
            self._problem(exc, what="pack")
            return
        self.report.read_bytes += len(data)
        if names.content_hash(data) != pack[1:]:
            self.report.problems.append(
                Problem("damaged", "a pack's bytes do not fit its name", object=name)
            )
        view = memoryview(data)
        for domain, blob, members in rows:
            try:
                _verify(domain, blob, members, view[blob.offset : blob.offset + blob.length])
            except DamagedData as exc:
                self._spoil(domain, blob, members, str(exc))

    # ---- snapshots

    def _snapshot(self, record: SnapshotRecord) -> None:
        short = record.id.hex()
        try:
            describe(self.session, record)
        except NotFoundError:
            self._keys_gone(short)
            return
        except LoopbackupError as exc:
            self._problem(exc, what="snapshot", snapshots=(short,))
            return
        try:
            root = read_snapshot_root(self.session, record)
            table = TableReader(self.session.keyring.meta, root, self.session.reader)
            for number in range(len(table.chunks)):
                for row in table.rows(number):
                    self._domain(short, row)
        except LoopbackupError as exc:
            self._problem(exc, what="snapshot", snapshots=(short,))

    def _keys_gone(self, short: str) -> None:
        self.report.problems.append(
            Problem(
                "missing_keys",
                "the keys of entries that a snapshot names are gone",
                snapshots=(short,),
            )
        )

    def _domain(self, short: str, row: Any) -> None:
        try:
            domain = self.session.keyring.by_id(row.domain)
        except NotFoundError:
            self._keys_gone(short)
            return
        except DamagedData as exc:
            self._problem(exc, what="entries", snapshots=(short,))
            return
        try:
            stream = StreamReader(domain, row, self.session.reader)
        except LoopbackupError as exc:
            self._problem(exc, what="entries", snapshots=(short,))
            return
        for number in range(len(stream.chunks)):
            try:
                nodes = stream.nodes(number)
            except LoopbackupError as exc:
                self._problem(exc, what="entries", snapshots=(short,))
                continue
            for node in nodes:
                self._entry(short, domain, node)

    def _entry(self, short: str, domain: Domain, node: Node) -> None:
        path = node.path
        try:
            ids = list(content_ids(node, domain, self.session.reader))
        except DamagedData:
            # The chunks that hold the ids are among those without a good place.
            ids = node.chunk_ids()
        for chunk_id in ids:
            why = self.bad.get((domain.id, chunk_id))
            if why is None and self.session.index.find(domain, chunk_id, self.state) is None:
                why = "no pack holds a part of it"
            if why is not None and len(self.report.problems) < MAX_ENTRIES_NAMED:
                self.report.problems.append(
                    Problem("damaged", f"an entry cannot be restored: {why}", path, None, (short,))
                )
                return


def _verify(domain: Domain, blob: Blob, members: bytes, data: memoryview) -> None:
    payload = domain.decrypt(
        data, generation=blob.generation, chunk_id=blob.id, codec=blob.codec, plain=blob.plain
    )
    plain = memoryview(decompress(blob.codec, payload, blob.plain))
    if domain.chunk_id(plain, CONTENT_KINDS[blob.kind]) != blob.id:
        raise DamagedData("a blob's content does not fit its id")
    for chunk_id, place in places_of(blob, members):
        if members and domain.chunk_id(plain[place.start : place.start + place.length]) != chunk_id:
            raise DamagedData("a chunk's content does not fit its id")
