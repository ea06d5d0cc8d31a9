"""A vault, its processes, and what must hold whatever they do to each other."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from attrs import define, field, frozen
from tests.stateful.processes import Process, Shared

from loopbackup import Item
from loopbackup.errors import (
    ConflictError,
    DamagedData,
    IncompleteBackup,
    LoopbackupError,
    NotFoundError,
    StoreError,
)
from loopbackup.testing.faults import Crashed, Method
from loopbackup.vault.format import record as rec
from loopbackup.vault.keys.domains import Domain
from loopbackup.vault.ledger.core import state_digest
from loopbackup.vault.ledger.state import SnapshotRecord, object_name
from loopbackup.vault.snapshot import Snapshot
from loopbackup.vault.vault import Vault
from loopbackup.vault.verbs.look import describe, read_table
from loopbackup.vault.verbs.mark import live_chunks, mark
from loopbackup.vault.verbs.session import Session

__all__ = ["Content", "Run", "Violation", "World", "content"]

Content = Mapping[str, tuple[bytes, str | None]]
"""Path -> (bytes, subject)."""


class Violation(AssertionError):
    """Something that must always hold does not."""


@frozen
class Chunk:
    """A chunk that a snapshot needs."""

    domain: Domain
    id: bytes


@define
class Run:
    """A backup that was begun, and what its caller was told."""

    tag: str
    content: Content
    outcome: str = "running"
    """running, committed, unknown or failed."""
    snapshot: str = ""


def content(seed: int, size: int) -> bytes:
    """Give bytes that do not compress, the same for the same arguments."""
    return hashlib.shake_128(seed.to_bytes(8, "little")).digest(size)


@define(eq=False)
class World:
    """
    A shared vault with an onlooker who folds every record and checks every state.

    The onlooker reads the store directly: no fault strikes him.
    """

    shared: Shared
    processes: list[Process] = field(factory=list)
    runs: dict[str, Run] = field(factory=dict)
    forgotten: set[str] = field(factory=set)
    """Ids of snapshots whose forgetting was confirmed."""
    committed: Counter[str] = field(factory=Counter)
    """How many records commit the run of a tag."""
    tags: dict[str, str] = field(factory=dict)
    """Snapshot id -> tag."""
    vanished: set[str] = field(factory=set)
    """Names of packs that the store lost, so that they are rightly not there."""
    torn: bool = False
    """A record was torn, so that a check rightly speaks of a void one."""
    _onlooker: Session | None = None
    _seen: int = 0
    _needs: dict[bytes, list[Chunk]] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self._onlooker = self.shared.open(self.shared.store, read_only=True)

    @property
    def onlooker(self) -> Session:
        """The session of nobody that sees everything."""
        assert self._onlooker is not None
        return self._onlooker

    def process(self, **options: Any) -> Process:
        """Start a process."""
        process = Process(self.shared, **options)
        process.after_call = self._after_call
        self.processes.append(process)
        return process

    def close(self) -> None:
        """End every process, whatever it is doing."""
        for process in self.processes:
            process.after_call = lambda _method, _key: None
            process.kill()

    # ---- verbs that remember what they were told

    def backup(self, series: str, items: Content, **options: Any) -> Callable[[Vault], Any]:
        """Give a verb that backs up *items* and notes how that went."""
        run = Run(f"run-{len(self.runs)}", dict(items))
        self.runs[run.tag] = run

        def verb(vault: Vault) -> Any:
            source = [
                Item(path, data=data, subject=subject, version=hashlib.sha256(data).hexdigest())
                for path, (data, subject) in sorted(items.items())
            ]
            try:
                snapshot = vault.backup(source, name=series, tags={"run": run.tag}, **options)
            except IncompleteBackup as exc:
                snapshot = exc.snapshot
            except Crashed:
                run.outcome = "unknown"
                raise
            except StoreError as exc:
                run.outcome = "unknown" if exc.kind == "outcome_unknown" else "failed"
                raise
            except LoopbackupError as exc:
                run.outcome = "failed"
                if not isinstance(exc, ConflictError):
                    raise Violation(f"a backup failed for no reason: {exc!r}") from exc
                raise
            assert isinstance(snapshot, Snapshot)
            run.outcome, run.snapshot = "committed", snapshot.id
            return snapshot

        return verb

    def forget(self, snapshot: str) -> Callable[[Vault], Any]:
        """Give a verb that forgets a snapshot."""

        def verb(vault: Vault) -> None:
            try:
                vault.forget(snapshot, reason="no longer wanted")
            except NotFoundError:
                if snapshot in self.live():
                    raise Violation("a live snapshot was not found") from None
                return
            self.forgotten.add(snapshot)

        return verb

    def read(self, snapshot: str) -> Callable[[Vault], Any]:
        """Give a verb that reads a snapshot in full and compares it."""

        def verb(vault: Vault) -> None:
            try:
                found = read_all(vault.snapshot(snapshot))
            except (NotFoundError, DamagedData) as exc:
                # Those who read what is being forgotten may find it gone.
                if snapshot in self.live():
                    raise Violation(f"a live snapshot cannot be read: {exc}") from exc
                return
            self._compare(snapshot, found)

        return verb

    @staticmethod
    def prune(vault: Vault) -> Any:
        """Prune."""
        try:
            return vault.prune()
        except (DamagedData, NotFoundError) as exc:
            raise Violation(f"a prune took the vault for damaged: {exc}") from exc

    def vanish(self, name: str) -> None:
        """Let the store lose a pack, behind everybody's back."""
        self.vanished.add(name)
        self.shared.store.delete(name)

    # ---- at every state

    def _after_call(self, method: Method, key: str) -> None:
        if method == "delete" or (method == "put" and key.startswith("ledger/")):
            self.check_state()

    def _look(self) -> None:
        """Fold what is new, and note whose commits it holds."""
        log = self.onlooker.log
        log.refresh()
        void = {alarm.index for alarm in log.state.alarms}
        for index in range(self._seen, log.state.size):
            if index not in void:
                self._note(index, rec.parse_record(log.record(index), index))
        self._seen = log.state.size

    def _note(self, index: int, record: rec.Record) -> None:
        facts = record.facts()
        if not isinstance(facts, rec.SnapshotCommitted):
            return
        bodies = tuple(zip(record.frame.bodies, record.bodies, strict=True))
        found = SnapshotRecord(facts.snapshot, index, 0, facts.root, b"", b"", bodies)
        tag = describe(self.onlooker, found).body.tags["run"]
        self.committed[tag] += 1
        self.tags[found.id.hex()] = tag

    def live(self) -> list[str]:
        """Give the ids of the live snapshots, oldest first."""
        self._look()
        records = self.onlooker.log.state.snapshots.values()
        return [record.id.hex() for record in sorted(records, key=lambda r: r.index)]

    def check_state(self) -> None:
        """
        Check what must hold between any two calls of anybody.

        Raises:
            Violation: It does not.
        """
        self._look()
        session, state = self.onlooker, self.onlooker.log.state
        for tag, times in self.committed.items():
            if times > 1:
                raise Violation(f"{tag} was committed {times} times")
            if self.runs[tag].outcome == "failed":
                raise Violation(f"{tag} is committed, and its caller was told that it failed")
        for record in state.snapshots.values():
            if record.id.hex() in self.forgotten:
                raise Violation("a forgotten snapshot is live")
            for chunk in self._needed(record):
                places = session.index.places(chunk.domain, chunk.id, state)
                if not places:
                    raise Violation("no pack that counts holds a chunk of a live snapshot")
                packs = {object_name(place.blob.pack) for place in places}
                if packs - self.shared.store._objects.keys() - self.vanished:
                    raise Violation("the pack of a live chunk is gone")

    def _needed(self, record: SnapshotRecord) -> list[Chunk]:
        """Work out once which chunks a snapshot needs."""
        known = self._needs.get(record.id)
        if known is None:
            session = self.onlooker
            try:
                marks = mark(session, [record])
                domains = [session.keyring.by_id(row.domain) for row in read_table(session, record)]
                known = [Chunk(session.keyring.meta, chunk_id) for chunk_id in marks.meta]
                for domain in domains:
                    known += [Chunk(domain, i) for i in live_chunks(session, marks, domain)]
            except (DamagedData, NotFoundError) as exc:
                raise Violation(f"a committed snapshot cannot be read: {exc}") from exc
            if marks.pinned:
                raise Violation(f"a committed snapshot cannot be read: {marks.problems}")
            self._needs[record.id] = known
        return known

    # ---- when all is quiet

    def check_quiet(self) -> None:
        """
        Open the vault anew and check everything; no verb may be under way.

        Raises:
            Violation: Something does not hold.
        """
        self.check_state()
        for run in self.runs.values():
            if run.outcome == "committed" and self.committed[run.tag] != 1:
                raise Violation(f"{run.tag} was told that it is committed, and is not")
        session = self.shared.open(self.shared.store)
        vault = Vault(session, None)
        if session.log.state.tree.head() != self.onlooker.log.state.tree.head():
            raise Violation("who opens the vault now sees another history")
        if state_digest(session.log.state) != state_digest(self.onlooker.log.state):
            raise Violation("who opens the vault now folds another state")
        vault.ledger.verify()
        for snapshot in vault.snapshots():
            try:
                found = read_all(snapshot)
            except LoopbackupError as exc:
                raise Violation(f"a live snapshot cannot be read: {exc!r}") from exc
            self._compare(snapshot.id, found)
        problems = [
            problem
            for problem in vault.check(data=True).problems
            if not (self.torn and problem.kind == "void_record")
        ]
        if problems:
            raise Violation(f"a check finds {problems}")

    def _compare(self, snapshot: str, found: Mapping[str, bytes | None]) -> None:
        """Compare with what was given; None stands for what a prune was admitted to have taken."""
        wanted = self.runs[self.tags[snapshot]].content
        if found.keys() != wanted.keys():
            raise Violation(f"entries differ: {sorted(found.keys() ^ wanted.keys())}")
        for path, data in found.items():
            if data is not None and data != wanted[path][0]:
                raise Violation(f"the content of {path} is not what was backed up")


def read_all(snapshot: Snapshot) -> dict[str, bytes | None]:
    """Read every entry; None where the snapshot says that the content was lost."""
    found: dict[str, bytes | None] = {}
    reader = snapshot._session.reader
    for domain, node in snapshot._nodes():
        lost = node.extra is not None and node.extra.problem == "lost"
        data = b"".join(bytes(reader.read(domain, i)) for i in node.chunk_ids())
        found[node.path.decode()] = None if lost else data
    return found
