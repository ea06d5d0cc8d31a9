"""Restoring: entries in tree order, content in parallel, every byte verified."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

from attrs import define, field, frozen
from blake3 import blake3

from ...errors import DamagedData, IncompleteRestore, InputError, StoreError
from ...logs import get_logger
from ...progress import INTERVAL_S, Reporter
from ...terms import Action, Actor, Facts, Location, Problem, SubjectKey
from ..format import codec
from ..format import record as rec
from ..format.entries import DIRECTORY, FILE, ITEM, Node
from ..format.snapshot import TableRow
from ..keys.domains import Domain
from ..ledger.log import Draft
from ..source.patterns import Patterns
from ..source.urls import disk_path, place_text
from ..target import (
    Answer,
    NotRestored,
    Overwrite,
    Planner,
    Target,
    data_size,
    open_plan,
    open_target,
)
from .look import Described, require_live
from .restore_content import ERASED, POINTLESS, ContentWriter, Written, is_long
from .selection import Selection
from .session import Session
from .shown import refuse_restricted
from .target_place import target_places

__all__ = ["RestoreJob", "Restored", "run_restore"]

BATCH_BYTES: Final = 2 << 20
BATCH_ENTRIES: Final = 256
MAX_BATCHES: Final = 4
ENTRY_BYTES: Final = 1024
EXPECT_BYTES: Final = 8 << 20
"""Batches of so much content together are asked for at once, in few requests."""
_HARMLESS: Final = ("owner", "mode", "xattrs", "times", "links", "special", "metadata")


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
    location: str | Location | None = None

    def __attrs_post_init__(self) -> None:
        """Refuse an empty path, which would be taken for the current folder."""
        to: object = self.to
        if not isinstance(to, str | bytes | os.PathLike) or not os.fspath(to):
            raise InputError("a restore needs a folder or a URL to write to")


@define
class Restored:
    """
    Counts of a restore.

    ``files`` counts entries of every kind that were made, ``skipped`` those
    that stood there already and stay as they are, ``repaired`` those of which
    only metadata were set right. ``bytes_written`` is content: a hard link to
    a file that was just written costs none, nor do holes. ``restricted`` counts
    the entries of restricted subjects, which are left out whatever was selected.
    ``problems`` has what cost content and what only cost an owner.
    """

    files: int = 0
    bytes_written: int = 0
    skipped: int = 0
    repaired: int = 0
    problems: list[Problem] = field(factory=list)
    restricted: int = 0

    def __str__(self) -> str:
        text = f"{self.files:,} entries, {self.bytes_written / 1e6:,.1f} MB restored"
        text += f", {self.skipped:,} left as they were" if self.skipped else ""
        text += f", metadata of {self.repaired:,} set right" if self.repaired else ""
        text += f", {self.restricted:,} left out as restricted" if self.restricted else ""
        return text + (f", {len(self.problems):,} problems" if self.problems else "")


def run_restore(session: Session, job: RestoreJob, reporter: Reporter) -> Restored:
    """
    Restore a snapshot, or a part of it; a dry run counts and reports what would be.

    Raises:
        PolicyError: Refused; nothing was written. Kind "restricted": the subject
            asked for is.
        NotFoundError: The snapshot was forgotten.
        DamagedData: Some content is damaged; the rest is restored.
        IncompleteRestore: Some entries could not be written; the rest is restored.
    """
    body = job.snapshot.body

    def facts() -> Facts:
        return Facts(
            actor=job.actor,
            subject=job.subject,
            name=body.name,
            tags=body.tags,
            category=body.category,
            places=target_places(session, job.to, job.options, job.location),
        )

    session.begin(Action.RESTORE, job.actor, facts)
    require_live(session, job.snapshot)
    refuse_restricted(session, job.subject)
    if not job.dry_run:
        _record(session, job)
    _refuse_own_folder(job.to, session.own_folder)
    run = _Run(session, job, reporter)
    if job.dry_run:
        run.plan()
        return run.result
    run.go()
    reporter.finish()
    _raise_if_incomplete(run.result, job)
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


def _raise_if_incomplete(result: Restored, job: RestoreJob) -> None:
    damaged = [p for p in result.problems if p.kind == "damaged"]
    if damaged:
        raise DamagedData(
            f"{len(damaged)} entries could not be restored because their data are damaged; "
            f"{result.files:,} others are restored (.problems names what is missing)",
            problems=tuple(result.problems),
            report=result,
        )
    # Of a whole snapshot erased people are left out; who asked for one is told.
    harmless = _HARMLESS if job.subject is not None else (*_HARMLESS, "erased")
    failed = [p for p in result.problems if p.kind not in harmless]
    if failed:
        ended = next((p for p in failed if p.kind in POINTLESS), None)
        how = f"the restore stopped, {ended}" if ended else f"{len(failed)} could not be restored"
        raise IncompleteRestore(
            f"not all entries are restored: {how}; {result.files:,} are "
            "(.problems names what is missing)",
            problems=tuple(failed),
            report=result,
        )


def _refuse_own_folder(to: str | os.PathLike[str], own: frozenset[tuple[int, int]]) -> None:
    """Refuse to restore into the vault itself: it would overwrite what it reads."""
    path = disk_path(place_text(to))
    if path is None:
        return
    place = Path(path).absolute()
    for folder in (place, *place.parents):
        try:
            status = folder.stat()
        except OSError:
            continue
        if (status.st_dev, status.st_ino) in own:
            raise InputError("the target lies in the vault's own folder; restore elsewhere")


@define
class _Batch:
    """Files that are written together, each with its domain."""

    files: list[tuple[Domain, Node]] = field(factory=list)
    size_bytes: int = 0
    weight: int = 0
    """What counts of it while it waits: empty files take room, too."""

    def add(self, domain: Domain, node: Node) -> None:
        """Add a file."""
        self.files.append((domain, node))
        self.size_bytes += data_size(node)
        self.weight += data_size(node) + ENTRY_BYTES

    @property
    def is_full(self) -> bool:
        """Whether it is time to write them."""
        return self.size_bytes >= BATCH_BYTES or len(self.files) >= BATCH_ENTRIES


@define(eq=False)
class _Run:
    session: Session
    job: RestoreJob
    reporter: Reporter
    result: Restored = field(factory=Restored)
    _pending: deque[Future[Written]] = field(factory=deque)
    _coming: deque[_Batch] = field(factory=deque)
    """What the store was asked for, and no worker was set to yet."""
    _unasked: list[_Batch] = field(factory=list)
    _batch: _Batch = field(factory=_Batch)
    _writer: ContentWriter = field(init=False)
    _paths: dict[bytes, bytes] = field(factory=dict)
    """By a hash of the path: the id of the domain that has restored it."""
    _told: int = 0

    def __attrs_post_init__(self) -> None:
        self._writer = ContentWriter(self.session, self.job.overwrite, self.reporter)

    def plan(self) -> None:
        """Count what would be done, touching nothing."""
        job = self.job
        planner = open_plan(job.to, overwrite=job.overwrite, options=job.options)
        try:
            for domain, node in self._selection():
                if self._answer(planner, domain, node) == "write":
                    self.result.bytes_written += data_size(node)
        finally:
            planner.close()

    def go(self) -> None:
        """Restore everything that can be."""
        job = self.job
        target = open_target(job.to, overwrite=job.overwrite, options=job.options)
        try:
            selection = self._selection()
            with self.session.reader.ahead():
                self._walk(target, selection)
            self._describe_folders(target, selection)
            self._describe_root(target)
            self.result.problems += target.finish()
        except BaseException:
            self._stop_workers()
            # What stands there shall be as far as it can, and another restore can go on.
            with suppress(Exception):
                target.finish(early=True)
            raise
        finally:
            self.session.reader.forget_expected()
            target.close()

    def _stop_workers(self) -> None:
        """Leave what has not begun, and wait for what runs."""
        self._writer.stopped = True
        for future in self._pending:
            future.cancel()
        for future in self._pending:
            if not future.cancelled():
                future.exception()

    def _selection(self) -> Selection:
        job = self.job
        patterns = Patterns(job.include, job.exclude)
        return Selection(
            self.session,
            job.snapshot,
            patterns,
            job.subject,
            self._list_lost,
            self._count_restricted,
        )

    def _count_restricted(self, _domain: Domain, row: TableRow) -> None:
        self.result.restricted += row.entries

    def _list_lost(self, exc: DamagedData) -> None:
        if exc.kind == "erased":
            self._failed(Problem("erased", ERASED))
            return
        found = exc.context.get("object")
        self._failed(Problem("damaged", f"a list of entries is lost: {exc}", object=found))

    def _answer(self, planner: Planner, domain: Domain, node: Node) -> Answer:
        """Ask what is to be done with an entry, and count that; "skip" if it cannot be."""
        try:
            self._refuse_twin(domain, node)
            answer = planner.prepare(node)
        except NotRestored as exc:
            self._failed(exc.problem)
            return "skip"
        self.result.skipped += answer == "skip"
        self.result.repaired += answer == "repair"
        if self.job.dry_run:
            self.result.files += answer in ("write", "link")
        return answer

    def _refuse_twin(self, domain: Domain, node: Node) -> None:
        """
        Report a path that another subject of this snapshot has restored already.

        Cost: about 100 bytes an entry, in snapshots of more than one subject.
        """
        record = self.job.snapshot.record
        if not record.domains_list and len(record.domains) <= 16:
            return
        key = blake3(node.path).digest(16)
        first = self._paths.setdefault(key, domain.id)
        if first != domain.id:
            raise NotRestored(
                Problem(
                    "same_path",
                    "another subject has an entry of that path; restore with subject=",
                    node.path,
                )
            )

    def _walk(self, target: Target, selection: Iterable[tuple[Domain, Node]]) -> None:
        for domain, node in selection:
            if self._writer.stopped:
                break
            answer = self._answer(target, domain, node)
            if answer not in ("skip", "repair") and node.kind in (FILE, ITEM):
                self._batch.add(domain, node)
            else:
                if answer == "repair":
                    self._without_content(target.repair, node, made=0)
                elif answer != "skip":
                    self._without_content(target.make, node, made=1)
                # Those with content are told when it is written.
                self.reporter.advance(files=1)
            if self._batch.is_full:
                self._send(target)
        self._send(target)
        self._expect()
        while self._coming:
            self._start(target, self._coming.popleft())
        while self._pending:
            self._reap()

    def _without_content(self, action: Callable[[Node], None], node: Node, *, made: int) -> None:
        try:
            action(node)
        except NotRestored as exc:
            self._failed(exc.problem)
        else:
            self.result.files += made

    def _describe_folders(self, target: Target, selection: Selection) -> None:
        """Give the folders on the way the metadata that the snapshot has of them."""
        try:
            for node in selection.folders(target.unnamed_folders()):
                self._without_content(target.make, node, made=0)
        except DamagedData as exc:
            message = f"the metadata of folders above is lost: {exc}"
            self._failed(Problem("metadata", message, object=exc.context.get("object")))

    def _describe_root(self, target: Target) -> None:
        """Give the target what the root of the tree had; one person's share has no root."""
        root = self.job.snapshot.body.source.get("root")
        if root is None or self.job.subject is not None:
            return
        with suppress(DamagedData, ValueError):
            node = codec.decode(bytes.fromhex(root), Node)
            if node.kind == DIRECTORY and not node.path:
                target.describe_root(node)

    def _send(self, target: Target) -> None:
        """Set a worker to the batch that waits, or, of a distant store, to one from a while ago."""
        batch, self._batch = self._batch, _Batch()
        window = self.session.reader.window_bytes
        if not window:
            self._start(target, batch)
            return
        self._unasked.append(batch)
        if sum(one.weight for one in self._unasked) >= EXPECT_BYTES:
            self._expect()
        while sum(one.weight for one in self._coming) > window:
            self._start(target, self._coming.popleft())

    def _expect(self) -> None:
        """Let the store begin to give what lies in the next batches."""
        for domain, files in groupby(
            (file for batch in self._unasked for file in batch.files), key=itemgetter(0)
        ):
            # Of long files whoever writes them looks ahead; lists of chunks are in the way.
            self.session.reader.expect(
                domain,
                (
                    node.chunks[at : at + 32]
                    for _, node in files
                    if not is_long(node)
                    for at in range(0, len(node.chunks), 32)
                ),
            )
        self._coming += self._unasked
        self._unasked.clear()

    def _start(self, target: Target, batch: _Batch) -> None:
        """Set a worker to a batch."""
        while len(self._pending) >= MAX_BATCHES:
            self._reap()
        if batch.files:
            self._pending.append(
                self.session.executor.submit(self._writer.write, target, batch.files)
            )
        self._tell()

    def _reap(self) -> None:
        """Wait for the oldest batch, and count what came of it."""
        future = self._pending[0]
        if self._writer.stopped and future.cancel():
            self._pending.popleft()
            return
        while not wait([future], timeout=INTERVAL_S).done:
            self._tell()
        done = future.result()
        self._pending.popleft()
        self.result.files += done.files
        self.result.bytes_written += done.bytes_written
        self._tell(files=done.files)
        for problem in done.problems:
            self._failed(problem)

    def _tell(self, *, files: int = 0) -> None:
        """Show how far the workers are, within long files too."""
        flowed, self._told = self._writer.flowed - self._told, self._writer.flowed
        self.reporter.advance(files=files, size_bytes=flowed)

    def _failed(self, problem: Problem) -> None:
        self.result.problems.append(problem)
        if problem.kind in POINTLESS:
            self._writer.stopped = True
