"""A vault, its replica, the processes of both, and what must hold of the replica at any call."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from attrs import define, field
from tests.stateful.processes import Inline, Process, Shared, Turnstile
from tests.stateful.world import Content, Violation, read_all

from loopbackup import Item
from loopbackup.errors import ErasureIncomplete, IncompleteBackup, LoopbackupError
from loopbackup.testing.faults import FaultStore
from loopbackup.vault.format import names
from loopbackup.vault.format.tombstone import is_tombstone
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.store.protocol import Data, Remains, Store
from loopbackup.vault.store.wrappers import WrapperStore
from loopbackup.vault.vault import Vault
from loopbackup.vault.verbs.opening import open_vault
from loopbackup.vault.verbs.replicate import run_replicate

__all__ = ["Copies", "CopyingProcess"]

URL = "memory://copy"
PREFIX = "copy/"


class Watched(WrapperStore):
    """The replica's store; tells whether anything in it has changed."""

    def __init__(self, inner: MemoryStore) -> None:
        super().__init__(inner)
        self.memory = inner
        self.changed = True

    def put(self, key: str, data: Data, *, if_absent: bool) -> None:
        """Store, and note it."""
        super().put(key, data, if_absent=if_absent)
        self.changed = True

    def delete(self, key: str) -> Remains:
        """Delete, and note it."""
        self.changed = True
        return super().delete(key)


class CopyingProcess(Process):
    """A process that has the replica's store at hand too; its calls there are steps as well."""

    def __init__(self, copies: Copies) -> None:
        super().__init__(copies.shared)
        self.copy_handle = FaultStore(copies.store, self._take_fault)
        self.copy: Store = Turnstile(
            self.copy_handle, lambda method, key, _kind: self._wait(method, PREFIX + key, "")
        )


@define(eq=False)
class Copies:
    """A shared vault and its replica, at which an onlooker looks after every change."""

    shared: Shared
    store: Watched = field(init=False)
    runs: dict[str, Content] = field(factory=dict)
    begun: set[str] = field(factory=set)
    """Subjects whose erasure was begun."""
    erased: set[str] = field(factory=set)
    """Subjects of whom a receipt says that their keys are gone from the replica too."""
    processes: list[CopyingProcess] = field(factory=list)
    looks: int = 0
    """How often the replica was opened and held against what it must be."""

    def __attrs_post_init__(self) -> None:
        self.store = Watched(MemoryStore(clock=self.shared.clock))

    def process(self) -> CopyingProcess:
        """Start a process."""
        process = CopyingProcess(self)
        process.after_call = lambda _method, _key: self.look()
        self.processes.append(process)
        return process

    def close(self) -> None:
        """End every process, whatever it is doing."""
        for process in self.processes:
            process.after_call = lambda _method, _key: None
            process.kill()

    # ---- verbs

    def backup(self, series: str, items: Content) -> Callable[[Vault], Any]:
        """Give a verb that backs up *items*."""
        tag = f"run-{len(self.runs)}"
        self.runs[tag] = dict(items)

        def verb(vault: Vault) -> None:
            source = [
                Item(path, data=data, subject=subject, version=hashlib.sha256(data).hexdigest())
                for path, (data, subject) in sorted(items.items())
            ]
            try:
                vault.backup(source, name=series, tags={"run": tag})
            except IncompleteBackup:
                return

        return verb

    @staticmethod
    def forget(number: int) -> Callable[[Vault], Any]:
        """Give a verb that forgets one of the snapshots."""

        def verb(vault: Vault) -> None:
            found = vault.snapshots()
            if found:
                vault.forget(found[number % len(found)].id, reason="no longer wanted")

        return verb

    def erase(
        self, process: CopyingProcess, subject: str, *, given: bool
    ) -> Callable[[Vault], Any]:
        """Give a verb that erases a subject, with the replica at hand or not."""
        process.session.replicas = {URL: lambda: process.copy} if given else {}

        def verb(vault: Vault) -> None:
            self.begun.add(subject)
            try:
                receipt = vault.erase_subjects([subject], reason="request 118")
            except ErasureIncomplete as exc:
                receipt = exc.receipt
            stages = [found["stage"] for found in receipt.facts["keys"]["destinations"]]
            if set(stages) == {"keys_destroyed"}:
                self.erased.add(subject)

        return verb

    @staticmethod
    def replicate(process: CopyingProcess) -> Callable[[Vault], Any]:
        """Give a verb that replicates."""

        def verb(vault: Vault) -> None:
            run_replicate(vault._session, vault._actor, URL, lambda: process.copy, None)

        return verb

    def visit(self, process: CopyingProcess) -> Callable[[Vault], Any]:
        """Give a verb that opens the replica, call by call, and reads all there is."""

        def verb(_vault: Vault) -> None:
            if names.record_name(0) not in self.store.memory._objects:
                return
            begun = set(self.begun)
            copy = self._open(process.copy)
            for snapshot in copy.snapshots():
                try:
                    found = read_all(snapshot)
                except LoopbackupError as exc:
                    # Whoever reads what is being forgotten or erased may find it gone.
                    live = {one.id for one in copy.snapshots()}
                    if snapshot.id in live and self.begun == begun:
                        raise Violation(f"a reader of the replica fails: {exc!r}") from exc
                    continue
                self._compare(snapshot.tags["run"], found)

        return verb

    # ---- what must hold

    def _open(self, store: Store) -> Vault:
        session = open_vault(
            URL,
            self.shared.seed,
            storage_options=None,
            actor=None,
            read_only=True,
            head=None,
            clock=self.shared.clock,
            state_dir=None,
            store=store,
        )
        session._executor = Inline(max_workers=1)
        return Vault(session, None)

    def still_copy(self) -> Vault | None:
        """Open the replica as it is at this moment; None while it is not filled."""
        objects = dict(self.store.memory._objects)
        if names.record_name(0) not in objects:
            return None
        frozen = MemoryStore(clock=self.shared.clock)
        frozen._objects = objects
        return self._open(frozen)

    def look(self) -> None:
        """
        Hold the replica, if it has changed, against what it must be between any two calls.

        Raises:
            Violation: It does not open, is no prefix of the vault, or a snapshot does
                not restore.
        """
        if not self.store.changed:
            return
        self.store.changed = False
        try:
            copy = self.still_copy()
            if copy is None:
                return
            self.looks += 1
            for index in range(len(copy.ledger)):
                name = names.record_name(index)
                if self.store.inner.get(name) != self.shared.store.get(name):
                    raise Violation(f"record {index} of the replica is not the vault's")
            for snapshot in copy.snapshots():
                self._compare(snapshot.tags["run"], read_all(snapshot))
        except LoopbackupError as exc:
            raise Violation(f"the replica is no valid vault: {exc!r}") from exc

    def _compare(self, tag: str, found: Mapping[str, bytes | None]) -> None:
        wanted = self.runs[tag]
        for path, data in found.items():
            if data is not None and data != wanted[path][0]:
                raise Violation(f"the content of {path} is not what was backed up")
            if wanted[path][1] in self.erased:
                raise Violation("somebody is there whose keys are gone, as a receipt says")
        for path in wanted.keys() - found.keys():
            if wanted[path][1] not in self.begun:
                raise Violation(f"{path} is missing in the replica")

    def check_quiet(self) -> None:
        """
        Replicate alone, and hold the replica against the vault; no verb may be under way.

        Raises:
            Violation: Something does not hold.
        """
        process = self.process()
        # So that there is something to say, and the replica is looked through.
        process.run(lambda vault: vault.check())
        for _ in range(2):
            process.run(self.replicate(process))
        self.look()
        vault, copy = process.vault, self.still_copy()
        assert copy is not None
        if len(copy.ledger) != len(vault.ledger):
            raise Violation("a replica that was just filled is behind")
        mine = {s.id: read_all(s) for s in vault.snapshots()}
        theirs = {s.id: read_all(s) for s in copy.snapshots()}
        if mine != theirs:
            raise Violation("the replica holds something else than the vault")
        problems = copy.check(data=True).problems
        if problems:
            raise Violation(f"a check of the replica finds {problems}")
        self._check_keys(process)
        self._check_erased(process, copy)

    def check_completed(self) -> None:
        """
        Let the grace pass twice with prunes and replications, and see all erasures completed.

        Raises:
            Violation: One is not, or something is left of it.
        """
        process = self.process()
        for _ in range(3):
            self.shared.clock.pass_time(31 * 3600)
            process.run(lambda vault: vault.prune())
            process.run(self.replicate(process))
        self.check_quiet()
        for name, erasure in process.session.log.state.erasures.items():
            if erasure.receipt >= 0 and erasure.completed < 0:
                waiting = process.vault.prune().waiting
                raise Violation(f"erasure {name.hex()} is never completed: {waiting}")

    def _check_erased(self, process: CopyingProcess, copy: Vault) -> None:
        """Hold what lies in the replica against the receipts that say what is gone."""
        state = process.session.log.state
        done = {one.record for one in state.erasures.values() if one.completed >= 0}
        gone = {domain for domain, record in state.fenced.items() if record in done}
        for letter, prefix in ((b"p", names.PACKS), (b"i", names.INDEX)):
            for name in self.store.memory._objects if gone else ():
                if name.startswith(prefix):
                    short = letter + bytes.fromhex(name[-64:])
                    if not gone.isdisjoint(copy._session.index.pack(short).domains()):
                        raise Violation(f"{name} has bytes that a receipt calls gone")

    def _check_keys(self, process: CopyingProcess) -> None:
        state = process.session.log.state
        for name, (data, _) in self.store.memory._objects.items():
            if name.endswith("/root") and names.epoch_of(name) != state.epoch:
                if not is_tombstone(data):
                    raise Violation("an old keyring root lies in the replica")
            elif name.startswith(names.KEYS) and name not in self.shared.store._objects:
                raise Violation("an old key object lies in the replica")
