"""
Replicating: bring a copy of the vault in another store to the head of the ledger.

Keys first, then all that is live, then the records from the last one down.
Killed anywhere, the replica is a valid vault at its old head or the new one, and
the next run goes on where this one was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final

from attrs import define, evolve, field

from ...errors import (
    AlreadyExistsError,
    ConflictError,
    DamagedData,
    NotFoundError,
)
from ...receipts import Receipt
from ...show import text
from ...terms import Action, Actor, AllowAll, Facts, Location, Place, Problem
from ..format import names
from ..format import record as rec
from ..format.bounds import MAX_LIST_BYTES, MAX_RECORD_BYTES, MAX_SUMMARY_BYTES
from ..ledger.replicas import Replica
from ..ledger.state import State, object_name
from ..store.protocol import Store, StoredObject
from ..store.registry import redact_url
from ..store.seam import MAX_OBJECT_BYTES, StoreSeam
from .complete import complete_erasures, is_done_at_replicas
from .locate import declared_text
from .replica_content import (
    condemned_content,
    content_in,
    keys_due,
    live_content,
    settled,
    sweep_due,
)
from .replica_copy import Copied, Wanted, copy_all, copy_one
from .replica_keys import BuriedKeys, delete_keys, renew_keys
from .replica_note import Progress, note
from .replica_place import ReplicaPlace, make_replica
from .replica_records import NewRecords, fork_at, install, read_records
from .replica_sweep import SweptThere, sweep_replica
from .replicas import list_replicas
from .session import Session
from .sweep import Swept

__all__ = ["Replicated", "run_replicate"]

MAX_FOLDS: Final = 16
FEW: Final = 4
"""So many records are looked at one by one before anything is listed."""
KEEP_SUMMARIES: Final = 2
_NOTES: Final = ("replica", "replicated", "summary", "receipt")


@define
class Replicated:
    """What a replication did, and how far the replica has come."""

    url: str
    """Without credentials."""
    size: int = 0
    """Ledger records that the replica holds."""
    behind: int = 0
    """Records that were committed meanwhile."""
    records: int = 0
    """Of these how many are new."""
    objects: int = 0
    """Packs, index objects, lists and keys copied."""
    bytes: int = 0
    swept: int = 0
    """Objects deleted that were condemned."""
    freed_bytes: int = 0
    kept: int = 0
    """Objects that the store refused to delete."""
    keys_left: list[tuple[str, datetime | None]] = field(factory=list)
    """Old key objects that the store keeps, and until when if it says so."""
    receipts: list[Receipt] = field(factory=list)
    """Of erasures that are complete since now: nothing with their bytes is left on any store."""
    problems: list[Problem] = field(factory=list)

    @property
    def ok(self) -> bool:
        """
        Whether the replica holds all that the vault does, and nothing that it should not.

        As far as the ledger knows: what earlier replications have put there is not looked at.
        ``check`` on the opened replica does that.
        """
        return not (self.problems or self.keys_left or self.kept)

    def __str__(self) -> str:
        parts = [
            text.count(self.objects, "object"),
            f"{self.bytes / 1e6:,.1f} MB and {text.count(self.records, 'record')} copied",
        ]
        if self.swept:
            parts.append(f"{self.swept:,} objects deleted, {self.freed_bytes / 1e6:,.1f} MB freed")
        if self.kept or self.keys_left:
            parts.append(f"{self.kept + len(self.keys_left):,} could not be deleted yet")
        if self.receipts:
            parts.append(f"{text.count(len(self.receipts), 'erasure')} completed")
        if self.problems:
            parts.append(text.count(len(self.problems), "problem"))
        state = f"{self.behind:,} records behind" if self.behind else "up to date"
        return f"{self.url}: {', '.join(parts)}; {state}"


def run_replicate(
    session: Session,
    actor: Actor,
    url: str,
    open_: Callable[[], Store],
    location: str | Location | None,
) -> Replicated:
    """
    Replicate once; see the module.

    Raises:
        PolicyError: Refused; nothing was asked of the replica's store.
        InputError, AlreadyExistsError: What stands there is no replica of this vault.
        RollbackDetected: Kind "fork": somebody has written to the replica.
        DamagedData: Some objects of the vault are damaged or missing; all else is
            on the replica (``.report``). Or one without which nobody could open it.
        StoreError: A store failed; run it again.
    """
    where, said = redact_url(url), declared_text(location)
    seam = StoreSeam(open_())
    try:

        def facts() -> Facts:
            return Facts(
                actor=actor,
                location=location if isinstance(location, Location) else None,
                places=_places_of(session, seam, where, said),
                more={"replica": where, "location": said},
            )

        session.begin(Action.REPLICATE, actor, facts)
        place = make_replica(session, where, seam, actor, said)
        job = _Job(session, actor, place, Replicated(where))
        job.go()
    finally:
        seam.close()
    if job.result.problems:
        count = len(job.result.problems)
        raise DamagedData(
            f"{text.count(count, 'object')} of the vault could not be replicated; all else is. "
            "Run check(data=True) on the vault (.problems names them)",
            kind="replica",
            problems=tuple(job.result.problems),
            report=job.result,
        )
    return job.result


def _places_of(session: Session, seam: StoreSeam, url: str, said: str | None) -> tuple[Place, ...]:
    """Ask the provider of a replica where it lies, before anything of it is looked at."""
    if type(session.gate) is AllowAll:
        return ()
    found = seam.describe().location
    if found is None or found.region is None:
        known = (one for one in list_replicas(session) if one.url == url and not one.is_lost)
        declared = said or next((one.location for one in known if one.location), None)
        return (Place("replica", declared, url=url),)
    return (Place("replica", said, found, session.log.now(), url),)


@define(eq=False)
class _Job:
    """One replication."""

    session: Session
    actor: Actor
    place: ReplicaPlace
    result: Replicated
    copied: Copied = field(factory=Copied)
    keys: BuriedKeys = field(init=False)
    before: Replica = field(init=False)
    """The replica as the ledger had it at the beginning; of size 0 where that is not true."""
    there: dict[bytes, int] = field(factory=dict)
    """Content that stood there before anything was copied: short name -> length."""

    @property
    def replica(self) -> Replica:
        return self.session.log.state.replicas[self.place.store]

    @property
    def target(self) -> StoreSeam:
        return self.place.seam

    def go(self) -> None:
        """Do what is due."""
        session, result = self.session, self.result
        if self._is_up_to_date():
            result.size = session.log.state.size
            return
        began_at = session.log.now()
        present = {index for index in map(_index, self.target.list(names.LEDGER)) if index >= 0}
        before = known = self.before = self.replica
        if sum(index < before.size for index in present) < before.size:
            # Somebody has put an old copy of it back, say: nothing is taken for granted.
            before = self.before = evolve(before, size=0, peaks=())
        self._renew_keys()
        state = self._copy()
        new = read_records(session, state, before)
        result.records = install(session, new, self.target, present)
        result.size = state.size
        self._drop_shards(state)
        swept = sweep_replica(session, state, known, self.target, self.there)
        result.swept, result.freed_bytes = swept.objects, swept.freed_bytes
        result.kept = len(swept.kept)
        self._copy_summary(state)
        if session.log.state.epoch != self.keys.state.epoch:
            # Whoever erased meanwhile may have buried keys before they were put.
            self._renew_keys()
        # What was condemned when this run began is gone for good if it had settled by then.
        upto = settled(state, known.size, began_at) if swept.is_whole else 0
        if self._is_news(state, known, new, swept, upto):
            self._note(state, upto, swept)
            if is_done_at_replicas(session):
                result.receipts, _ = complete_erasures(session, self.actor, Swept())
            self._install_notes()
        result.behind = session.log.state.size - result.size
        result.problems += self.copied.problems
        result.objects += self.copied.objects
        result.bytes += self.copied.bytes

    # ---- nothing to do

    def _is_up_to_date(self) -> bool:
        """
        Tell by a few requests whether the replica has everything, as far as the ledger says.

        Its content is not looked at: what was lost there since is for ``check`` to find.
        """
        session, state, replica = self.session, self.session.log.state, self.replica
        missing = range(replica.size, state.size)
        if not replica.size or len(missing) > FEW or keys_due(state, replica):
            return False
        if sweep_due(state, replica):
            return False
        for index in reversed(missing):
            try:
                there = self.target.get_whole(names.record_name(index), MAX_RECORD_BYTES)
            except NotFoundError:
                return False
            if there != session.log.record(index):
                raise fork_at(index)
        return True

    # ---- keys

    def _renew_keys(self) -> None:
        self.keys = keys = renew_keys(self.session, self.before, self.target)
        self._remember_left()
        self.result.objects += keys.copied.objects
        self.result.bytes += keys.copied.bytes
        self.result.keys_left = keys.left

    def _remember_left(self) -> None:
        """Keep in mind what was left of old keys: no listing shows it to the next look at them."""
        self.before = evolve(self.before, left=self.before.left | self.keys.kept)

    def _drop_shards(self, state: State) -> None:
        """Delete the shards that readers needed until the records came that were put just now."""
        keys = self.keys
        gone = [name for name, index in keys.needed.items() if index < state.size]
        if gone:
            for name in gone:
                del keys.needed[name]
            delete_keys(self.target, gone, keys)
            self._remember_left()

    # ---- what is live

    def _copy(self) -> State:
        """Copy what is live at the head, folding on until all of it was found; give that state."""
        session, copied = self.session, self.copied
        self.there = there = content_in(self.target)
        sizes = content_in(session.store) if there else {}
        done = {short for short, size in there.items() if size == sizes.get(short, size)}
        for _ in range(MAX_FOLDS):
            state = session.log.state
            if (state.epoch, state.shards) != (self.keys.state.epoch, self.keys.state.shards):
                self._renew_keys()
                state = self.keys.state
            live = live_content(session, state)
            missing = copy_all(
                session,
                self._wanted(live - done, there),
                self.target,
                largest=session.header.pack_size,
                done=copied,
            )
            session.log.refresh()
            if not missing or session.log.state.condemned is state.condemned:
                copied.problems += [_missing(one) for one in missing]
                alive = {object_name(short) for short in live}
                copied.problems = [p for p in copied.problems if p.object in alive]
                return state
            done |= live - {one.short for one in missing}
        raise ConflictError("the vault was pruned again and again meanwhile; replicate later")

    def _wanted(self, shorts: Iterable[bytes], there: Mapping[bytes, int]) -> Iterator[Wanted]:
        bounds = {b"p": self.session.header.pack_size, b"l": MAX_LIST_BYTES}
        for short in sorted(shorts):
            yield Wanted(
                object_name(short),
                short[1:],
                bounds.get(short[:1], MAX_OBJECT_BYTES),
                replace=short in there,
                needed=short[:1] == b"l",
                short=short,
            )

    def _copy_summary(self, state: State) -> None:
        """Put the newest summary there, so that the replica opens quickly; it is a cache."""
        if not state.last_summary:
            return
        wanted = names.summary_name(state.last_summary, b"")
        there = sorted(entry.key for entry in self.target.list(names.SUMMARY))
        if any(name.startswith(wanted) for name in there):
            return
        for entry in self.session.store.list(names.SUMMARY):
            if not entry.key.startswith(wanted) or names.summary_size(entry.key) is None:
                continue
            digest = bytes.fromhex(entry.key.removeprefix(wanted))
            with contextlib.suppress(NotFoundError, DamagedData, AlreadyExistsError):
                one = Wanted(entry.key, digest, MAX_SUMMARY_BYTES)
                copy_one(self.session, one, self.target)
        for name in there[: 1 - KEEP_SUMMARIES]:
            self.target.delete(name)

    # ---- saying so

    def _is_news(
        self, state: State, known: Replica, new: NewRecords, swept: SweptThere, upto: int
    ) -> bool:
        """Tell whether the ledger has to be told how far the replica has come."""
        return (
            new.noteworthy
            or len(new.hashes) > FEW
            or not self.before.size
            or keys_due(state, known)
            or bool(self.keys.left)
            or swept.kept != known.kept
            or swept.objects > 0
            or any(i < upto and known.may_hold(i, name) for name, i in condemned_content(state))
        )

    def _note(self, state: State, upto: int, swept: SweptThere) -> None:
        # With a problem, not all that is live is there.
        reached = self.before if self.copied.problems else state
        peaks = self.before.peaks if self.copied.problems else state.tree.peaks
        done = Progress(reached.size, peaks, upto, swept.kept, swept.gone)
        note(self.session, self.actor, self.place.store, self.keys, done)

    def _install_notes(self) -> None:
        """Put what was recorded of this run there too, if nothing else came in between."""
        session, state = self.session, self.session.log.state
        first = self.result.size
        if not first < state.size <= first + FEW:
            return
        records = [(index, session.log.record(index)) for index in range(first, state.size)]
        if all(_kind(index, data) in _NOTES for index, data in records):
            for index, data in reversed(records):
                self.target.put(names.record_name(index), data)
            self.result.size = state.size


def _index(entry: StoredObject) -> int:
    index = names.record_index(entry.key)
    return -1 if index is None else index


def _kind(index: int, data: bytes) -> str:
    return rec.parse_record(data, index).frame.kind


def _missing(one: Wanted) -> Problem:
    return Problem("missing", f"{one.name} is missing", object=one.name)
