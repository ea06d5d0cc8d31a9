"""
The fold: what a vault is after its first n records.

Every client that folds the same bytes comes to the same state, void records
included: a record that is malformed, badly signed, beyond its writer's role
or built on something that no longer holds has no effect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import Factory, define, evolve

from ...errors import DamagedData, NewerFormat
from ..format import record as rec
from ..format.names import content_hash
from ..format.record import Certificate, Record
from .fences import Erasure, cleared_at, names_fenced
from .keyfold import plan_keys
from .marks import Mark, kept_domains, mark_of, needed, objection, without
from .policies import SetPolicy, plan_policy
from .replicas import Replica, plan_replicas
from .tree import Tree
from .values import (
    Alarm,
    Claim,
    Front,
    Segment,
    SnapshotRecord,
    epoch_short,
    join_fronts,
    join_names,
    object_name,
    split_fronts,
    split_names,
)
from .verdicts import FetchList, ListLost, Void, listed

__all__ = [
    "Alarm",
    "Claim",
    "Front",
    "Mark",
    "Segment",
    "SnapshotRecord",
    "State",
    "epoch_short",
    "join_fronts",
    "join_names",
    "object_name",
    "split_fronts",
    "split_names",
]

Admitted = tuple[Record, frozenset[str]]
"""A record whose signature is good, and the roles of its writer."""


@define
class State:
    """
    The state after ``size`` records. Changed by :meth:`apply` alone.

    Collections are replaced, never mutated, so that :meth:`copy` is cheap;
    ``condemned`` only ever grows while a process lives.
    """

    vault_id: bytes
    authority: bytes
    tree: Tree = Factory(Tree)
    epoch: bytes = b""
    epoch_index: int = 0
    """The record that began the epoch."""
    root: bytes = b""
    salt: bytes = b""
    none_domain: bytes = b""
    location: str | None = None
    observed: tuple[rec.Observed, int] | None = None
    """Where the provider said that the store lies, and when he was last asked."""
    policy: SetPolicy | None = None
    """The one that binds."""
    at_us: int = 0
    slots: tuple[tuple[bytes, str, bytes], ...] = ()
    """(id, kind, hash) of every key slot of the epoch."""
    writers: dict[bytes, Certificate] = Factory(dict)
    house: bytes = b""
    """Writer id of the epoch's house key."""
    shards: dict[int, bytes] = Factory(dict)
    snapshots: dict[bytes, SnapshotRecord] = Factory(dict)
    segments: tuple[Segment, ...] = ()
    condemned: dict[bytes, tuple[int, int]] = Factory(dict)
    """Short name -> (record, time in microseconds) of its condemnation."""
    swept: dict[bytes, tuple[int, frozenset[bytes]]] = Factory(dict)
    """Store id -> (swept up to this record, names that stayed)."""
    claims: dict[bytes, Claim] = Factory(dict)
    lists: frozenset[bytes] = frozenset()
    """Hashes of list objects that records name."""
    distrusted: frozenset[bytes] = frozenset()
    """Short names of packs that checks found missing or damaged, and none found well since."""
    marks: dict[bytes, Mark] = Factory(dict)
    """Holds, restrictions and overlays that stand, by id, in the order of their records."""
    fenced: dict[bytes, int] = Factory(dict)
    """Ids of erased domains -> the record that erased them; nothing may name them again."""
    erasures: dict[bytes, Erasure] = Factory(dict)
    replicas: dict[bytes, Replica] = Factory(dict)
    """By store id; those given up included, for they may not come back."""
    last_summary: int = 0
    alarms: tuple[Alarm, ...] = ()
    commits: dict[bytes, int] = Factory(dict)
    """Commit ids folded by this process -> record number; all copies share it."""
    torn: tuple[int, ...] = ()
    """Numbers of the records folded by this process of which a body is lost."""

    @property
    def size(self) -> int:
        """How many records are folded."""
        return self.tree.size

    def copy(self) -> State:
        """Give a state to fold on from, while others go on reading this one."""
        return evolve(self, tree=self.tree.copy())

    def apply(
        self, data: bytes, fetch_list: FetchList, admitted: Admitted | None = None
    ) -> Record | None:
        """
        Fold the next record; give it, or None when it is void.

        Args:
            data: The record.
            fetch_list: Reads the lists that it names.
            admitted: What :meth:`admits` gave for *data*, to verify it once only.

        Raises:
            NewerFormat: A valid record of a kind that this library does not know.
            DamagedData: A record signed with full rights does not follow from
                the records before it: the store shows an altered history. Or
                a list that a record names cannot be read.
        """
        try:
            record, roles = admitted or self._admit(data)
            effect = self._judge(record, roles, fetch_list)
        except Void as exc:
            self.tree.append(exc.leaf or data)
            self.alarms = (*self.alarms, Alarm(self.size - 1, str(exc), self.tree.last))
            return None
        except _Altered as exc:
            raise DamagedData(str(exc), kind="altered_ledger", index=self.size) from None
        except ListLost as exc:
            # The record may well be valid: clients that can read the list fold it.
            raise exc.error from None
        effect()
        if not record.whole:
            self.torn = (*self.torn, self.size)
        self.at_us = max(self.at_us, record.frame.at_us)
        self.commits[record.frame.commit] = self.size
        self.tree.append(record.leaf)
        return record

    def admits(self, data: bytes) -> Admitted | None:
        """Give *data* opened if it is a signed record, whole, that follows from this state."""
        try:
            record, roles = self._admit(data)
        except (Void, _Altered, DamagedData, NewerFormat):
            return None
        follows = record.whole and record.frame.tree == self.tree.head()
        return (record, roles) if follows else None

    def _admit(self, data: bytes) -> Admitted:
        """
        Open a record whose signature is good; give it with its writer's roles.

        What is void here has its whole bytes as its leaf, so that whoever
        alters a record cannot make it void without breaking the tree.
        """
        try:
            signed = rec.take_apart(data)
        except DamagedData as exc:
            raise Void(str(exc)) from None
        if signed.envelope.index != self.size:
            raise Void("it stands at another number")
        certificate = self._writer(signed)
        if not rec.verify_record(signed, vault_id=self.vault_id, public_key=certificate.key):
            raise Void("the signature does not verify")
        try:
            return signed.open(), frozenset(certificate.roles)
        except DamagedData as exc:
            raise Void(str(exc)) from None

    def _writer(self, signed: rec.Signed) -> Certificate:
        """Find who signs; record 0 brings its own certificate, signed by the authority."""
        if self.size:
            certificate = self.writers.get(signed.envelope.writer)
            if certificate is None:
                raise Void("signed by nobody who is enrolled")
            return certificate
        record = signed.open()
        if record.frame.kind != "created":
            raise _Altered("the first ledger record is not the vault's creation")
        house: Certificate = record.facts().house
        if house.writer != signed.envelope.writer or not rec.verify_certificate(
            house, vault_id=self.vault_id, authority=self.authority
        ):
            raise _Altered("the vault's first record is not signed by its authority")
        return house

    def _judge(
        self, record: Record, roles: frozenset[str], fetch_list: FetchList
    ) -> Callable[[], None]:
        """Ask whether the writer may say this here; give the change, which cannot fail."""
        frame = record.frame
        if frame.tree != self.tree.head():
            if "admin" in roles:
                raise _Altered(
                    f"ledger record {self.size} does not follow from the records before it: "
                    "one of them was altered or replaced. Restore the ledger from a replica"
                )
            raise Void("it does not follow from the records before it", record.leaf)
        if frame.kind not in rec.ROLES:
            raise NewerFormat(f"ledger record {self.size} is of a newer kind; update loopbackup")
        role = rec.ROLES[frame.kind]
        if role != "reader" and role not in roles:
            raise Void(f"its writer lacks the role {role}", record.leaf)
        if (frame.kind == "created") != (self.size == 0):
            raise Void("a vault is created once", record.leaf)
        if self.size and (frame.epoch != self.epoch or frame.root != self.root):
            raise Void("it was built on keys that are no longer current", record.leaf)
        try:
            return self._plan(record, record.facts(), fetch_list)
        except Void as exc:
            raise Void(str(exc), record.leaf) from None
        except DamagedData as exc:
            raise Void(str(exc), record.leaf) from None

    def _plan(self, record: Record, facts: Any, fetch_list: FetchList) -> Callable[[], None]:
        """Check the preconditions; give the change, which cannot fail."""
        # Before anything is read: a condemned list may be swept, and nobody could fold on.
        self._refuse_condemned(_lists(facts))
        match facts:
            case rec.SnapshotCommitted():
                return self._commit_snapshot(record, facts, fetch_list)
            case rec.Forgotten():
                return self._forget(record, facts, fetch_list)
            case rec.Pruned():
                return self._prune(record, facts, fetch_list)
            case rec.Swept():
                return self._sweep(facts)
            case rec.Summarised():
                return self._summarise(facts)
            case rec.Checked():
                return self._check(facts, fetch_list)
            case rec.Claimed():
                return self._claim(record, facts)
            case rec.Located():
                return lambda: setattr(self, "observed", (facts.observed, record.frame.at_us))
            case rec.RunEnded():
                return lambda: self._end_claim(facts.run)
            case _:
                change = plan_keys(self, record, facts, fetch_list)
                change = plan_replicas(self, record, facts) if change is None else change
                change = plan_policy(self, record, facts) if change is None else change
                return self._plan_mark(record, facts, fetch_list) if change is None else change

    def _refuse_condemned(self, lists: list[bytes]) -> None:
        if any(b"l" + digest in self.condemned for digest in lists):
            raise Void("it names a list that is condemned")

    def _summarise(self, facts: rec.Summarised) -> Callable[[], None]:
        if not self.last_summary <= facts.size <= self.size:
            raise Void("it names a summary of records that are not there")
        return lambda: setattr(self, "last_summary", facts.size)

    def _commit_snapshot(
        self, record: Record, facts: rec.SnapshotCommitted, fetch_list: FetchList
    ) -> Callable[[], None]:
        segments = split_fronts(facts.segments)
        if facts.snapshot in self.snapshots:
            raise Void("a snapshot of that id exists")
        self._refuse_condemned_packs(segments, facts, fetch_list)
        domains = facts.domains
        if facts.domains_list and self.fenced:
            domains = listed(facts.domains_list, fetch_list)
        if names_fenced(self, domains):
            raise Void("it names a domain that was erased")

        def effect() -> None:
            snapshot = SnapshotRecord(
                facts.snapshot,
                self.size,
                record.frame.at_us,
                facts.root,
                facts.domains,
                facts.domains_list,
                tuple(zip(record.frame.bodies, record.bodies, strict=True)),
                b"" if record.frame.writer == self.house else record.frame.writer,
            )
            self.snapshots = {**self.snapshots, facts.snapshot: snapshot}
            self.segments += self._added(record, segments)
            self.keep_list(facts.packs_list)
            self.keep_list(facts.domains_list)
            for at in range(0, len(facts.runs), 16):
                self._end_claim(facts.runs[at : at + 16])

        return effect

    def _refuse_condemned_packs(
        self,
        segments: list[Front],
        facts: rec.SnapshotCommitted | rec.Overlaid,
        fetch_list: FetchList,
    ) -> None:
        packs = facts.packs
        if facts.packs_list and self.condemned:
            packs = listed(facts.packs_list, fetch_list)
        if any(front.name in self.condemned for front in (*segments, *split_fronts(packs))):
            raise Void("it names an object that is condemned")

    def _forget(
        self, record: Record, facts: rec.Forgotten, fetch_list: FetchList
    ) -> Callable[[], None]:
        gone = set(facts.snapshots)
        kept = kept_domains(self.marks, record.frame.at_us)
        for snapshot in self.snapshots.values() if kept else ():
            if snapshot.id in gone and not kept.isdisjoint(_domains_of(snapshot, fetch_list)):
                raise Void("it forgets a snapshot with data that are held or restricted")

        def effect() -> None:
            self.snapshots = {k: v for k, v in self.snapshots.items() if k not in gone}
            self.marks = needed(self.marks, self.snapshots.values())

        return effect

    def _plan_mark(self, record: Record, facts: Any, fetch_list: FetchList) -> Callable[[], None]:
        if isinstance(facts, rec.Released | rec.Lifted):
            return lambda: self.set_marks(without(self.marks, facts))
        if not isinstance(facts, rec.Held | rec.Restricted | rec.Overlaid):
            return lambda: None
        mark = mark_of(record, facts)
        why = objection(self.marks, mark)
        if names_fenced(self, mark.domain):
            why = "it is about a domain that was erased"
        if why is not None:
            raise Void(why)
        segments, listed = [], b""
        if isinstance(facts, rec.Overlaid):
            segments, listed = split_fronts(facts.segments), facts.packs_list
            self._refuse_condemned_packs(segments, facts, fetch_list)

        def effect() -> None:
            # An overlay whose snapshots were forgotten before it changes nothing.
            self.set_marks(needed({**self.marks, mark.id: mark}, self.snapshots.values()))
            self.segments += self._added(record, segments)
            self.keep_list(listed)

        return effect

    def set_marks(self, marks: dict[bytes, Mark]) -> None:
        """Replace the marks that stand."""
        self.marks = marks

    def _prune(
        self, record: Record, facts: rec.Pruned, fetch_list: FetchList
    ) -> Callable[[], None]:
        condemned = split_names(facts.condemned or listed(facts.condemned_list, fetch_list))
        old = set(split_names(facts.old_segments or listed(facts.old_segments_list, fetch_list)))
        new = split_fronts(facts.new_segments)
        current = {epoch_short(self.epoch), *(b"s" + digest for digest in self.shards.values())}
        if not current.isdisjoint(condemned):
            raise Void("it condemns keys that are current")
        if not old <= {segment.name for segment in self.segments}:
            raise Void("it replaces an index segment that is no longer live")
        if any(front.name in self.condemned or front.name in condemned for front in new):
            raise Void("it names an object that is condemned")
        erasures = cleared_at(self, facts.cleared, self.size)
        if erasures is None:
            raise Void("it clears an erasure that is not there")

        def effect() -> None:
            self.erasures = erasures
            when = (self.size, record.frame.at_us)
            # The later one counts: a client that starts from a summary may not know of the
            # first, and all have to come to the same.
            self.condemned = self.condemned | dict.fromkeys(condemned, when)
            gone = old | set(condemned)
            self.distrusted -= gone
            kept = tuple(s for s in self.segments if s.name not in gone)
            self.segments = kept + self._added(record, new)
            for digest in (facts.condemned_list, facts.old_segments_list, facts.packs_list):
                self.keep_list(digest)

        return effect

    def _sweep(self, facts: rec.Swept) -> Callable[[], None]:
        if facts.upto >= self.size:
            raise Void("it sweeps what is not condemned yet")
        kept = frozenset(split_names(facts.kept))

        def effect() -> None:
            # A clock that is behind must not bring back names that summaries left out.
            if facts.upto >= self.swept.get(facts.store, (-1,))[0]:
                self.swept = {**self.swept, facts.store: (facts.upto, kept)}

        return effect

    def _claim(self, record: Record, facts: rec.Claimed) -> Callable[[], None]:
        packs, relies = split_fronts(facts.packs), split_names(facts.relies)

        def effect() -> None:
            before = self.claims.get(facts.run)
            claim = Claim(
                facts.run,
                facts.series,
                (*(before.packs if before else ()), *packs),
                (before.relies if before else frozenset()) | frozenset(relies),
                record.frame.at_us,
            )
            self.claims = {**self.claims, facts.run: claim}

        return effect

    def _check(self, facts: rec.Checked, fetch_list: FetchList) -> Callable[[], None]:
        joined = facts.distrusted or listed(facts.distrusted_list, fetch_list)
        distrusted = frozenset(split_names(joined))

        def effect() -> None:
            self.distrusted = distrusted - self.condemned.keys()
            self.keep_list(facts.distrusted_list)

        return effect

    def _end_claim(self, run: bytes) -> None:
        if run in self.claims:
            self.claims = {k: v for k, v in self.claims.items() if k != run}

    def claimed(self) -> set[bytes]:
        """Give the short names of all packs that unfinished runs need."""
        return {name for claim in self.claims.values() for name in claim.names}

    def _added(self, record: Record, fronts: list[Front]) -> tuple[Segment, ...]:
        leaf = content_hash(record.leaf)
        return tuple(Segment(*front, self.size, leaf) for front in fronts)

    def keep_list(self, digest: bytes) -> None:
        """Remember a list object that a record names."""
        if digest:
            self.lists = self.lists | {digest}

    # ---- summaries

    def needed_condemned(self, store: bytes) -> dict[bytes, tuple[int, int]]:
        """
        Give the condemned names that a later fold still has to know.

        A name may be dropped once it is swept from all stores and every index
        segment that could name it has been replaced, and no claim names it.
        """
        claimed = self.claimed()
        upto, kept = self.swept.get(store, (-1, frozenset()))
        oldest = min((segment.added for segment in self.segments), default=self.size)
        return {
            name: when
            for name, when in self.condemned.items()
            if when[0] > upto
            or name in kept
            or oldest <= when[0]
            or name in claimed
            or any(replica.may_hold(when[0], name) for replica in self.replicas.values())
        }


def _lists(facts: Any) -> list[bytes]:
    """Give the hashes of all list objects that a record names, whatever its kind."""
    fields = [name for name in facts.__struct_fields__ if name.endswith("_list")]
    return [digest for name in fields if (digest := getattr(facts, name))]


def _domains_of(snapshot: SnapshotRecord, fetch_list: FetchList) -> set[bytes]:
    """Give the ids of the domains that a snapshot holds something of."""
    ids = snapshot.domains or listed(snapshot.domains_list, fetch_list)
    return {ids[at : at + 16] for at in range(0, len(ids), 16)}


class _Altered(Exception):
    """The bytes before this record are not the ones its writer saw."""
