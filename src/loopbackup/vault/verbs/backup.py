"""
Backing up: collect, upload, commit; and what to do when others were faster.

The ledger record comes last. Before it nothing of the run counts; at it, all
that the run has put or relies on is held against what was condemned since.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Final

from attrs import define, evolve, field, frozen

from ...errors import ConflictError, DamagedData, InputError, LoopbackupError
from ...logs import get_logger
from ...progress import Reporter
from ...terms import Action, Actor, Facts, Problem, check_text
from ..content.streams import TableWriter
from ..content.upload import Upload, Uploaded
from ..format import codec, seal
from ..format import record as rec
from ..format.snapshot import Report, SnapshotBody
from ..ledger.fences import names_fenced
from ..ledger.log import Draft, Rebuild, inline_or_list
from ..ledger.state import SnapshotRecord, State, join_fronts
from ..source.base import Source
from .claims import Claimer, series_tag, stale_runs, take_over
from .collect import Collected, Collector, Parent
from .look import Described, describe, latest
from .relocate import Relocator
from .session import Session

__all__ = ["BackupJob", "Done", "run_backup"]

INLINE_BYTES: Final = 16 << 10
MAX_RUNS_ENDED: Final = 64
MAX_RESTARTS: Final = 3
MAX_IDEMPOTENCY_CHARS: Final = 4096


@frozen(kw_only=True)
class BackupJob:
    """What to back up, and as what."""

    source: Source
    name: str
    actor: Actor
    tags: Mapping[str, str] = field(factory=dict)
    category: str | None = None
    solid: bool = True
    dynamic: bool = False
    """Subjects are worked out per path."""
    reopen: Callable[[], Source] | None = None
    """Gives the source from its beginning again; None where it can be read once only."""
    idempotency_key: str | None = None
    dry_run: bool = False
    executor: Executor | None = None

    def __attrs_post_init__(self) -> None:
        """Refuse what would show only after the upload."""
        if self.idempotency_key is not None:
            # An empty one would be shared by everything that forgot to fill it.
            check_text("an idempotency key", self.idempotency_key, max_chars=MAX_IDEMPOTENCY_CHARS)
        executor: object = self.executor
        fits = not isinstance(executor, type) and hasattr(executor, "submit")
        if executor is not None and not fits:
            raise InputError(
                "executor is an open concurrent.futures.Executor, or None for the vault's threads"
            )


@frozen
class Done:
    """A committed backup, or with ``dry_run`` what it would have been."""

    described: Described
    problems: tuple[Problem, ...]


def run_backup(session: Session, job: BackupJob, reporter: Reporter) -> Done:
    """
    Back up and commit one snapshot.

    Raises:
        PolicyError: Refused; nothing was read.
        StoreError: The store failed; what was uploaded is reused by the next run.
        ConflictError: A concurrent prune took what this run cannot read again.
    """
    if job.executor is not None and not job.dry_run:
        _check_threads(job.executor)
    facts = Facts(actor=job.actor, name=job.name, tags=dict(job.tags), category=job.category)
    session.begin(Action.BACKUP, job.actor, facts)
    snapshot = _snapshot_id(session, job.idempotency_key)
    known = session.log.state.snapshots.get(snapshot)
    if known is not None:
        return Done(describe(session, known), ())
    return _Run(session, job, snapshot, reporter).go()


def _check_threads(executor: Executor) -> None:
    """Refuse an executor of processes: a run's buffers, locks and keys are in this one."""
    from pickle import PicklingError

    ran = []
    try:
        # What cannot be pickled fails in most of them; what can runs elsewhere, and is not seen.
        executor.submit(lambda: ran.append(True)).result()
    except (PicklingError, TypeError, AttributeError) as exc:
        raise InputError("executor works in other processes; give one of threads") from exc
    if not ran:
        raise InputError("executor works in other processes; give one of threads")


def _snapshot_id(session: Session, key: str | None) -> bytes:
    if key is None:
        return os.urandom(16)
    # Keyed, so that nobody without a credential can test a guessed key.
    context = session.header.vault_id + key.encode()
    return seal.derive(session.keyring.root.secrets.meta, "idempotency", context, 16)


@define(eq=False)
class _Run:
    """One run of a backup, from the first look at the source to its record."""

    session: Session
    job: BackupJob
    snapshot: bytes
    reporter: Reporter
    commit_id: bytes = field(factory=lambda: os.urandom(16))
    series: bytes = field(init=False)
    upload: Upload = field(init=False)
    claimer: Claimer = field(init=False)
    parent: Parent | None = None
    result: Collected = field(factory=Collected)
    table: TableWriter = field(init=False)
    root: bytes = b""
    uploaded: Uploaded = field(factory=lambda: Uploaded([], []))
    base: int = 0
    _own_runs: list[bytes] = field(factory=list)
    _restarts: int = 0

    def __attrs_post_init__(self) -> None:
        self.series = series_tag(self.session, self.job.name)
        self._begin()

    def _begin(self) -> None:
        """Start from what the vault is now, with nothing put and nothing relied on."""
        session, header = self.session, self.session.header
        self.base = session.log.state.size
        self.upload = Upload(
            session.store,
            session.log,
            session.keyring,
            session.index,
            executor=self.job.executor or session.executor,
            pack_size=header.pack_size,
            bundle_size=header.bundle_size,
            dry=self.job.dry_run,
        )
        self.claimer = Claimer(session, self.job.actor, self.upload, self.series)
        self.upload.on_pack = self.claimer.on_pack
        self._own_runs.append(self.claimer.run)

    def go(self) -> Done:
        """Collect, commit, report."""
        try:
            if self.job.dry_run:
                self._collect()
                self._finish_upload(self.session.log.state)
            else:
                executor = self.job.executor or self.session.executor
                take_over(self.session, self.upload, self.series, executor)
                self._collect_claimed()
                self.session.log.commit(self)
        except BaseException as exc:
            self._stop_early(exc)
            raise
        self.reporter.finish()
        return Done(self._described(), tuple(self.result.problems))

    def _collect_claimed(self) -> None:
        with self.claimer:
            self._collect()
            self._finish_upload(self.session.log.state)

    def _described(self) -> Described:
        record = self.session.log.state.snapshots.get(self.snapshot)
        if record is not None:
            return describe(self.session, record)
        # A dry run has no record, and another process may have forgotten this one by now.
        return Described(SnapshotRecord(self.snapshot, -1, 0, b"", b"", b"", ()), self._body())

    def _collect(self) -> None:
        described = latest(self.session, self.job.name)
        if described is not None:
            with contextlib.suppress(DamagedData):
                self.parent = Parent(self.session, described)
        collector = Collector(
            self.session,
            self.upload,
            self.job.source,
            parent=self.parent,
            solid=self.job.solid,
            dynamic=self.job.dynamic,
            dry_run=self.job.dry_run,
            reporter=self.reporter,
        )
        self.result = collector.run()
        self.table = collector.table

    def _finish_upload(self, state: State) -> None:
        self.root, _ = self.table.finish(self.snapshot, os.urandom(32))
        self.uploaded = self.upload.finish(state.condemned)

    # ---- the commit

    def validate(self, state: State) -> Draft | Rebuild | None:
        """Hold everything that the snapshot stands on against the state."""
        if self.snapshot in state.snapshots:
            return None
        put = (*self.uploaded.segments, *self.uploaded.packs)
        lost = self.upload.lost(state) or any(front.name in state.condemned for front in put)
        if lost:
            return Rebuild(self._rebuild)
        if names_fenced(state, self.table.domain_ids):
            return Rebuild(self._leave_out)
        return self._draft(state)

    def _leave_out(self, state: State) -> None:
        """Take out of the snapshot what is about those who were erased since it was read."""
        self.upload.flush()
        written = Relocator(self.session, self.upload, self.table, self.base)
        table = TableWriter(self.session.keyring.meta, self.upload)
        for row in self.table.rows_again(written):
            if row.domain in state.fenced:
                message = f"{row.entries:,} entries are about a subject that was just erased"
                self.result.problems.append(Problem("erased", message))
                self.result.leave_out(row.domain, row.entries)
            else:
                table.add(row)
        self.table = table
        self._finish_upload(self.session.log.state)

    def _rebuild(self, state: State) -> None:
        """
        Put again what has no place left; read the source again for what is gone.

        What neither has is marked in the snapshot and reported.
        """
        get_logger().info("a prune was faster; looking for what it took")
        relocator = Relocator(self.session, self.upload, self.table, self.base)
        try:
            self.table = relocator.run(state)
        except ConflictError:
            if not self._start_over():
                raise
        else:
            if relocator.problems and self._start_over():
                return
            self.result.problems += relocator.problems
            self.parent = None
            self._finish_upload(self.session.log.state)

    def _start_over(self) -> bool:
        """Read the source from its beginning once more, if it has one; False if not."""
        self._restarts += 1
        if self.job.reopen is None or self._restarts > MAX_RESTARTS:
            return False
        get_logger().warning("a prune took what cannot be found again; reading the source again")
        self.upload.abandon()
        before = self.result.seen
        self.job = evolve(self.job, source=self.job.reopen())
        self.parent = None
        # A new run to others: the packs of the first pass stay claimed by the old.
        self._begin()
        self._collect_claimed()
        if self.result.seen < before and self.job.source.opens_later:
            raise ConflictError(
                "a prune was faster, and the items cannot be read a second time; "
                "nothing is lost, run the backup again",
                kind="run_again",
            )
        return True

    def _draft(self, state: State) -> Draft:
        store = self.session.store
        packs, packs_list = inline_or_list(store, join_fronts(self.uploaded.packs), INLINE_BYTES)
        domains = self.table.domain_ids
        inline, listed = inline_or_list(store, domains, INLINE_BYTES)
        ended = [*self._own_runs, *stale_runs(self.session, state, self.series)]
        facts = rec.SnapshotCommitted(
            self.snapshot,
            self.root,
            self.base,
            join_fronts(self.uploaded.segments),
            packs,
            packs_list,
            inline,
            listed,
            b"".join(ended[:MAX_RUNS_ENDED]),
        )
        key, ref = "meta", self.session.keyring.generation_ref
        if self.table.rows == 1 and domains != self.session.log.state.none_domain:
            key, ref = "domain", domains
        bodies = [
            self.session.body(key, ref, codec.encode(self._body())),
            self.session.audit(self.job.actor, Action.BACKUP),
        ]
        return Draft("snapshot", facts, bodies)

    def _body(self) -> SnapshotBody:
        job = self.job
        return SnapshotBody(
            name=job.name,
            created_us=int(self.session.log.now().timestamp() * 1_000_000),
            tags=dict(job.tags),
            category=job.category,
            source=job.source.description,
            report=self._report(),
            entries=self.table.entries,
            size=self.table.size,
        )

    def _report(self) -> Report:
        result = self.result
        subjects = self.table.rows - self.table.has_domain(self.session.log.state.none_domain)
        return Report(
            result.files,
            result.bytes_read,
            self.upload.added_bytes,
            subjects,
            result.without_subject,
            result.unchanged,
            len(result.problems),
            round(self.reporter.seconds, 3),
        )

    def _stop_early(self, exc: BaseException) -> None:
        """Leave what was uploaded to the next run; never hide *exc*."""
        self.upload.abandon()
        if self.job.dry_run or isinstance(exc, InputError):
            return
        with contextlib.suppress(LoopbackupError):
            self.upload.flush()
        with contextlib.suppress(LoopbackupError):
            self.claimer.last()
