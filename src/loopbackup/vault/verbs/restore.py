"""Restoring: entries in tree order, content in parallel, every byte verified."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, Final

from attrs import define, field, frozen

from ...errors import DamagedData, IncompleteRestore, InputError, NotFoundError, StoreError
from ...logs import get_logger
from ...progress import Reporter
from ...terms import Action, Actor, Facts, Problem, SubjectKey
from ..content.streams import StreamReader, TableReader, content_ids
from ..format import record as rec
from ..format.entries import DIRECTORY, FILE, ITEM, PROBLEM, Node
from ..format.snapshot import TableRow
from ..keys.domains import Domain
from ..ledger.log import Draft
from ..source.patterns import Patterns
from ..target import NotRestored, Overwrite, Target, open_target
from .look import Described, read_table, require_live
from .session import Session

__all__ = ["RestoreJob", "Restored", "run_restore", "stream_of", "streams_of"]

BATCH_BYTES: Final = 2 << 20
BATCH_ENTRIES: Final = 256
_POINTLESS: Final = ("full", "read_only")
_HARMLESS: Final = ("owner", "mode", "times", "metadata")


@frozen(kw_only=True)
class RestoreJob:
    """What to restore, and where to."""

    snapshot: Described
    to: str | os.PathLike[str]
    actor: Actor
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    subject: SubjectKey | None = None
    overwrite: Overwrite = "never"
    options: Mapping[str, Any] | None = None
    dry_run: bool = False


@define
class Restored:
    """
    Counts of a restore.

    ``files`` counts entries of every kind, ``skipped`` those that stood there
    already; ``problems`` has what cost content and what only cost an owner.
    """

    files: int = 0
    bytes_written: int = 0
    skipped: int = 0
    problems: list[Problem] = field(factory=list)

    def __str__(self) -> str:
        text = f"{self.files:,} entries, {self.bytes_written / 1e6:,.1f} MB restored"
        text += f", {self.skipped:,} left as they were" if self.skipped else ""
        return text + (f", {len(self.problems):,} problems" if self.problems else "")


def streams_of(
    session: Session,
    snapshot: Described,
    subject: SubjectKey | None = None,
    *,
    on_damage: Callable[[DamagedData], None] | None = None,
) -> Iterator[tuple[Domain, StreamReader]]:
    """
    Yield the streams of a snapshot, nobody's first, for it holds the folders above.

    With *subject* only that subject's; a tenant's own covers its children.
    With *on_damage* a stream that cannot be opened is told and left out.

    Raises:
        NotFoundError: The subject has nothing in this snapshot.
        DamagedData: Without *on_damage*: a stream cannot be opened
            (``missing_keys``: nobody has its keys any more).
    """
    found = False

    def tell(exc: DamagedData) -> None:
        nonlocal found
        if on_damage is None:
            raise exc
        # What was asked for may have been in what cannot be read.
        found = True
        on_damage(exc)

    table = read_table(session, snapshot.record)
    for domain, row in _domains_of(session, table, subject, tell):
        try:
            stream = StreamReader(domain, row, session.reader)
        except DamagedData as exc:
            tell(exc)
            continue
        found = True
        yield domain, stream
    if subject is not None and not found:
        raise NotFoundError("the snapshot holds nothing of that subject", kind="subject")


def _domains_of(
    session: Session,
    table: TableReader,
    subject: SubjectKey | None,
    tell: Callable[[DamagedData], None],
) -> Iterator[tuple[Domain, TableRow]]:
    """Yield the domains that are asked for: the subject's own or nobody's, then the others."""
    first: bytes | None = session.log.state.none_domain
    if subject is not None:
        try:
            own = session.keyring.find(subject)
        except DamagedData as exc:
            tell(exc)
            own = None
        first = None if own is None else own.id
    row = None if first is None else table.find(first)
    domain = None if row is None else _domain(session, row, tell)
    if row is not None and domain is not None:
        yield domain, row
    if subject is not None and len(subject) == 2:
        return
    for row in table:
        domain = None if row.domain == first else _domain(session, row, tell)
        if domain is not None and (subject is None or _is_child(domain, subject)):
            yield domain, row


def _domain(session: Session, row: TableRow, tell: Callable[[DamagedData], None]) -> Domain | None:
    try:
        return session.keyring.by_id(row.domain)
    except NotFoundError:
        tell(DamagedData("the keys of a part of the snapshot are gone", kind="missing_keys"))
    except DamagedData as exc:
        tell(exc)
    return None


def _is_child(domain: Domain, tenant: SubjectKey) -> bool:
    return domain.subject is not None and domain.subject[:-1] == tenant


def stream_of(session: Session, snapshot: Described, domain: Domain) -> StreamReader | None:
    """Give one domain's stream in a snapshot, or None."""
    row = read_table(session, snapshot.record).find(domain.id)
    return None if row is None else StreamReader(domain, row, session.reader)


def run_restore(session: Session, job: RestoreJob, reporter: Reporter) -> Restored:
    """
    Restore a snapshot, or a part of it.

    Raises:
        PolicyError: Refused; nothing was written.
        NotFoundError: The snapshot was forgotten.
        DamagedData: Some content is damaged; the rest is restored.
        IncompleteRestore: Some entries could not be written; the rest is restored.
    """
    facts = Facts(actor=job.actor, subject=job.subject, name=job.snapshot.body.name)
    session.begin(Action.RESTORE, job.actor, facts)
    require_live(session, job.snapshot)
    if not job.dry_run:
        _record(session, job)
    run = _Run(session, job, reporter)
    if job.dry_run:
        run.count()
        return run.result
    run.go()
    reporter.finish()
    _raise_if_incomplete(run.result)
    return run.result


def _record(session: Session, job: RestoreJob) -> None:
    """Record the restore before its first byte, where the store can be written to."""
    if session.read_only:
        return
    facts = rec.Looked(job.snapshot.record.id)
    try:
        session.log.commit_draft(
            Draft("restore", facts, [session.audit(job.actor, Action.RESTORE)])
        )
    except StoreError as exc:
        if exc.kind not in ("denied", "read_only"):
            raise
        get_logger().warning("the restore could not be recorded", kind=exc.kind)


def _raise_if_incomplete(result: Restored) -> None:
    damaged = [p for p in result.problems if p.kind == "damaged"]
    if damaged:
        raise DamagedData(
            f"{len(damaged)} entries could not be restored because their data are damaged; "
            f"{result.files:,} others are restored (.problems names what is missing)",
            problems=tuple(result.problems),
            report=result,
        )
    failed = [p for p in result.problems if p.kind not in _HARMLESS]
    if failed:
        raise IncompleteRestore(
            f"{len(failed)} entries could not be restored; {result.files:,} others are "
            "(.problems names what is missing)",
            problems=tuple(failed),
            report=result,
        )


def _refuse_own_folder(to: str | os.PathLike[str], own: frozenset[tuple[int, int]]) -> None:
    """Refuse to restore into the vault itself: it would overwrite what it reads."""
    place = Path(os.fsdecode(to).removeprefix("file://")).absolute()
    for folder in (place, *place.parents):
        try:
            status = folder.stat()
        except OSError:
            continue
        if (status.st_dev, status.st_ino) in own:
            raise InputError("the target lies in the vault's own folder; restore elsewhere")


@define(eq=False)
class _Run:
    session: Session
    job: RestoreJob
    reporter: Reporter
    result: Restored = field(factory=Restored)
    _pending: deque[Future[list[Problem]]] = field(factory=deque)
    _batch: list[Node] = field(factory=list)
    _batch_bytes: int = 0
    _paths: set[int] = field(factory=set)
    _first: bytes | None = None
    _several: bool = False

    def count(self) -> None:
        """Say what would be restored, touching nothing."""
        for _domain, node in self._selected():
            if node.kind != PROBLEM:
                self.result.files += 1
                self.result.bytes_written += node.size

    def _selected(self) -> Iterator[tuple[Domain, Node]]:
        patterns = Patterns(self.job.include, self.job.exclude)
        streams = streams_of(
            self.session, self.job.snapshot, self.job.subject, on_damage=self._list_lost
        )
        for domain, stream in streams:
            for number in range(len(stream.chunks)):
                try:
                    nodes = stream.nodes(number)
                except DamagedData as exc:
                    # What it names is unknown; everything else can be restored.
                    self._list_lost(exc)
                    continue
                for node in nodes:
                    if not patterns or patterns.matches(node.path, is_dir=node.kind == DIRECTORY):
                        yield domain, node

    def _list_lost(self, exc: DamagedData) -> None:
        found = exc.context.get("object")
        self._failed(Problem("damaged", f"a list of entries is lost: {exc}", object=found))

    def go(self) -> None:
        job = self.job
        _refuse_own_folder(job.to, self.session.own_folder)
        target = open_target(job.to, overwrite=job.overwrite, options=job.options)
        try:
            self._walk(target)
            self.result.problems += target.finish()
        finally:
            for future in self._pending:
                future.cancel()
            for future in self._pending:
                if not future.cancelled():
                    future.exception()
            target.close()

    def _walk(self, target: Target) -> None:
        executor = self.session.executor
        last: Domain | None = None
        for domain, node in self._selected():
            if last is not None and domain.id != last.id:
                self._send(executor, target, last)
            last = domain
            try:
                self._refuse_twin(domain, node)
                if target.prepare(node) == "skip":
                    self.result.skipped += 1
                    continue
                if node.kind not in (FILE, ITEM):
                    target.make(node)
                    self.result.files += 1
                    continue
            except NotRestored as exc:
                self._failed(exc.problem)
                continue
            self._batch.append(node)
            self._batch_bytes += node.size
            if self._batch_bytes >= BATCH_BYTES or len(self._batch) >= BATCH_ENTRIES:
                self._send(executor, target, domain)
        if last is not None:
            self._send(executor, target, last)
        while self._pending:
            self._reap()

    def _refuse_twin(self, domain: Domain, node: Node) -> None:
        """
        Report a path that another subject of this snapshot has restored already.

        Cost: about 60 bytes an entry, in snapshots of more than one subject.
        """
        if domain.id != self._first and self._first is not None:
            self._several = True
        self._first = self._first or domain.id
        key = hash(node.path)
        if self._several and key in self._paths:
            raise NotRestored(
                Problem(
                    "same_path",
                    "another subject has an entry of that path; restore with subject=",
                    node.path,
                )
            )
        self._paths.add(key)

    def _send(self, executor: Executor, target: Target, domain: Domain) -> None:
        if not self._batch:
            return
        while len(self._pending) >= 4:
            self._reap()
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        self._pending.append(executor.submit(self._write, target, domain, batch))
        self.result.files += len(batch)
        self.result.bytes_written += sum(node.size for node in batch)
        self.reporter.advance(files=len(batch), size_bytes=sum(node.size for node in batch))

    def _reap(self) -> None:
        for problem in self._pending.popleft().result():
            self.result.files -= 1
            self._failed(problem)

    def _failed(self, problem: Problem) -> None:
        self.result.problems.append(problem)
        if problem.kind in _POINTLESS:
            _raise_if_incomplete(self.result)

    def _write(self, target: Target, domain: Domain, batch: list[Node]) -> list[Problem]:
        """Write files; runs in a worker."""
        problems = []
        for node in batch:
            try:
                target.write(node, self._pieces(domain, node))
            except NotRestored as exc:
                problems.append(exc.problem)
            except DamagedData as exc:
                found = exc.context.get("object")
                problems.append(Problem("damaged", str(exc), node.path, found))
        return problems

    def _pieces(self, domain: Domain, node: Node) -> Iterator[bytes | memoryview]:
        for chunk_id in content_ids(node, domain, self.session.reader):
            self.reporter.check()
            yield self.session.reader.read(domain, chunk_id)
