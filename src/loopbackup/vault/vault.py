"""
The handle of an open vault: acts; each method a few lines over a verb.

Verbs are imported when first used: a process that backs up has no use for the
code of a restore, and starts in two thirds of the time without it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from ..errors import ErasedSubject, IncompleteBackup, InputError
from ..progress import CancelLike, ProgressLike, Reporter
from ..show import html, text
from ..terms import Actor, Location, StoredGate, Subject, check_actor, subject_key
from .format.snapshot import check_labels
from .governing import Governing
from .keys.credentials import Credential
from .keys.kms import Kms
from .keysview import Keys
from .ledgerview import Ledger
from .marking import Marking
from .replicating import Replicating
from .snapshot import Snapshot
from .store.protocol import Store
from .store.registry import open_store, redact_url
from .verbs.creation import create_vault
from .verbs.hosting import default_state_dir, system_clock
from .verbs.locate import declared_text
from .verbs.look import latest
from .verbs.opening import open_vault
from .verbs.session import Session, to_datetime

if TYPE_CHECKING:
    from ..receipts import Receipt, Scope
    from .source import Item
    from .source.subjects import SubjectRule
    from .target import Overwrite
    from .verbs.check import CheckReport
    from .verbs.prune import Pruned
    from .verbs.restore import Restored

__all__ = ["Vault"]

StateDir = str | os.PathLike[str] | None


class _Default:
    """Marks an argument that was not given, where None means something."""

    def __repr__(self) -> str:
        return "<the user's state directory>"


_DEFAULT: Any = _Default()


def _state_folder(state_dir: Any) -> Path | None:
    if state_dir is _DEFAULT:
        return default_state_dir()
    if state_dir is None:
        return None
    if not isinstance(state_dir, str | os.PathLike) or not os.fspath(state_dir):
        raise InputError("state_dir is the path of a folder, or None to remember nothing")
    return Path(state_dir)


def _replica_stores(
    replicas: Mapping[str, Mapping[str, Any] | None] | None, *, loopback: bool
) -> dict[str, Callable[[], Store]]:
    if replicas is None:
        return {}
    if not isinstance(replicas, Mapping):
        raise InputError("replicas maps URLs to storage options: {url: {}}")
    for url in replicas:
        redact_url(url)
    opened = partial(open_store, allow_insecure_loopback=loopback)
    return {url: partial(opened, url, options) for url, options in replicas.items()}


class Vault(Marking, Replicating, Governing):
    """
    An open vault. Thread-safe; a context manager; not picklable.

    Made by :meth:`create` and :meth:`open` only. After a fork the child gets
    an error and opens again.
    """

    def __init__(self, session: Session, actor: Actor | None, *, owner: bool = True) -> None:
        super().__init__(session, actor)
        self._owner = owner

    # ---- opening and closing

    @classmethod
    def create(
        cls,
        url: str | os.PathLike[str],
        key: Credential | Kms,
        *,
        storage_options: Mapping[str, Any] | None = None,
        location: str | Location | None = None,
        policy: StoredGate | None = None,
        grace_s: int = 86_400,
        single_writer: bool = False,
        actor: Actor | None = None,
        clock: Callable[[], datetime] = system_clock,
        state_dir: StateDir = _DEFAULT,
        allow_insecure_loopback: bool = False,
    ) -> Self:
        """
        Make a new vault in an empty place, and open it.

        Args:
            url: A path, ``file:///path``, ``s3://bucket/prefix``, ``memory://name``,
                or a plugin's.
            key: What will open it. Whoever loses it loses the vault.
            storage_options: For the store.
            location: Where the bytes lie, as you declare it: the region, where
                there are regions. Recorded beside what the provider says. AWS is
                asked, and has to say the same; of any other server over a network
                nobody can be asked, and you have to declare it.
            policy: The rules that bind the vault from here on, in every process: a
                :class:`loopbackup.policy.Policy`. It is kept in the ledger, and decides
                first whether the vault may be made here at all.
            grace_s: Seconds between condemning an object and deleting it;
                longer than any backup takes. 0 is for tests.
            single_writer: Take on the duty that only one process writes at a
                time, on stores that cannot create exclusively.
            actor: Who acts, as for :meth:`open`.
            clock: Gives aware datetimes; for tests and demonstrations.
            state_dir: As for :meth:`open`.
            allow_insecure_loopback: As for :meth:`open`.

        Raises:
            PolicyError: *policy* refuses the place; nothing was asked but its provider. Kind
                "not_installed": the policy could not be loaded again.
            AlreadyExistsError: The place is not empty.
            InputError: The store does not keep to exclusive create, or an
                argument is out of bounds; kind "location": it lies elsewhere than
                declared, or nobody can be asked where.
            InsecureTransport: The connection would not be protected; nothing was sent.
            StoreError: The place may not be written to.
        """
        if actor is not None:
            check_actor(actor)  # Before there is a vault to open.
        create_vault(
            url,
            key,
            storage_options=storage_options,
            location=declared_text(location),
            policy=policy,
            actor=actor,
            grace_s=grace_s,
            single_writer=single_writer,
            clock=clock,
            state_dir=_state_folder(state_dir),
            allow_insecure_loopback=allow_insecure_loopback,
        )
        return cls.open(
            url,
            key,
            storage_options=storage_options,
            actor=actor,
            clock=clock,
            state_dir=state_dir,
            allow_insecure_loopback=allow_insecure_loopback,
        )

    @classmethod
    def open(
        cls,
        url: str | os.PathLike[str],
        key: Credential | Kms,
        *,
        storage_options: Mapping[str, Any] | None = None,
        actor: Actor | None = None,
        read_only: bool = False,
        replicas: Mapping[str, Mapping[str, Any] | None] | None = None,
        head: str | None = None,
        public_key: str | None = None,
        override: str | None = None,
        clock: Callable[[], datetime] = system_clock,
        state_dir: StateDir = _DEFAULT,
        allow_insecure_loopback: bool = False,
    ) -> Self:
        """
        Open a vault.

        Args:
            url: As for :meth:`create`.
            key: Any credential that has a slot, or a key service.
            storage_options: For the store.
            actor: Who acts through this handle.
            read_only: Write nothing, not even that somebody looked. A replica is
                opened in no other way.
            replicas: By URL, the storage options of the replicas that erasures have to
                reach: credentials stand in no ledger. They are asked for when needed.
            head: The last head that you have kept (:attr:`head`); the store
                must not be behind it.
            public_key: The authority that you have kept (:attr:`public_key`);
                a vault of another is refused before the credential is used.
            override: Break glass: why the vault's policy is not asked for an hour from
                now on. It is recorded in the ledger before anything else is
                done; of a vault that is opened *read_only*, nobody but this process knows.
            clock: Gives aware datetimes; for tests and demonstrations.
            state_dir: Where this host remembers the heads that it has seen,
                and which vault it met where. None remembers nothing beyond this
                process.
            allow_insecure_loopback: Let a server on this very machine be reached
                without TLS, or with a certificate that nobody checks; for tests.

        Raises:
            PolicyError: The vault's policy refuses; kind "not_installed": a plug-in that it
                needs is not installed here; kind "lost_policy": it cannot be read.
            InsecureTransport: The connection would not be protected; nothing was sent.
            FormatError: There is no vault, or none of this library;
                NewerFormat when it is of a newer one.
            CredentialError: The key opens no slot; kind "forged_vault": another
                vault stands there than the key or *public_key* is for; kind
                "unvouched": the slot was made for a :class:`Recipient`, and this
                host has not met the vault yet: give *public_key*. ``transient``
                when a key service cannot be asked now.
            RollbackDetected: The store shows less, or another history, than
                was seen before; kind "another_vault": quite another vault.
            DamagedData: The ledger or a key object was altered or is missing.

        Cost: about 5 requests with local state, else 10 and up to 64 small
        ones; for a passphrase one Argon2id (0.1 s, 64 MiB).
        """
        session = open_vault(
            url,
            key,
            storage_options=storage_options,
            actor=actor,
            read_only=read_only,
            head=head,
            clock=clock,
            state_dir=_state_folder(state_dir),
            public_key=public_key,
            override=override,
            allow_insecure_loopback=allow_insecure_loopback,
            replicas=_replica_stores(replicas, loopback=allow_insecure_loopback),
        )
        return cls(session, actor)

    def close(self) -> None:
        """Record what was gathered and free threads. Views from ``acting_as`` close nothing."""
        if self._owner:
            self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            self.close()
        except Exception:
            # Never hide why the block was left.
            if kind is None:
                raise

    def __reduce__(self) -> Any:
        raise InputError("a vault cannot be pickled; send its URL and open it there")

    def __repr__(self) -> str:
        state = self._session.log.state
        found = text.count(len(state.snapshots), "snapshot")
        return f"<Vault {self.id[:8]} at {self.url}, {found}>"

    def _repr_html_(self) -> str:
        # What is in memory: showing a vault asks nobody.
        state = self._session.log.state
        facts = [
            ("id", self.id),
            ("url", self.url),
            ("snapshots", f"{len(state.snapshots):,}"),
            ("ledger", f"{text.count(state.size, 'record')}, {self.freshness}"),
            ("newest record", text.moment(to_datetime(state.at_us))),
        ]
        return html.card(f"Vault {self.id[:8]}", facts)

    def acting_as(self, actor: Actor) -> Self:
        """Give a view of the same open vault in which *actor* acts."""
        return type(self)(self._session, check_actor(actor), owner=False)

    # ---- what it is

    @property
    def id(self) -> str:
        """Thirty-two hex digits, fixed at creation."""
        return self._session.header.vault_id.hex()

    @property
    def actor(self) -> Actor:
        """Who acts through this handle now: as ``loopbackup.acting_as`` says, else as given."""
        return self._actor

    @property
    def url(self) -> str:
        """Where it lies, without any credentials."""
        return self._session.url

    @property
    def public_key(self) -> str:
        """The authority that certifies every writer: Ed25519, as hex."""
        return self._session.header.authority.hex()

    @property
    def head(self) -> str:
        """The ledger's size and Merkle tree head, to be kept elsewhere and given to ``open``."""
        return self._session.log.head

    @property
    def freshness(self) -> Literal["fresh", "behind", "unknown"]:
        """
        Whether the opening was held against a head seen before.

        ``"behind"``: a replica lacked records that this host has seen, but no change of keys.
        """
        if self._session.log.behind:
            return "behind"
        return "fresh" if self._session.log.fresh else "unknown"

    @property
    def ledger(self) -> Ledger:
        """Every change of state, in one total order."""
        return Ledger(self._session, self._actor)

    @property
    def keys(self) -> Keys:
        """What opens the vault: add, remove, change."""
        return Keys(self._session, self._actor)

    # ---- acting

    def backup(
        self,
        source: str | os.PathLike[str] | Iterable[Item],
        *,
        name: str | None = None,
        subject: SubjectRule = None,
        tags: Mapping[str, str] | None = None,
        category: str | None = None,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        solid: bool = True,
        idempotency_key: str | None = None,
        source_options: Mapping[str, Any] | None = None,
        errors: Literal["raise", "report"] = "raise",
        dry_run: bool = False,
        progress: ProgressLike = False,
        cancel: CancelLike | None = None,
        executor: Executor | None = None,
    ) -> Snapshot:
        """
        Back up a path, an fsspec URL, or items; one snapshot, committed at the end.

        Args:
            source: What to back up.
            name: The series; default the source as given, required for items.
            subject: Whom it is about: one for all, a function of the path, or
                :func:`loopbackup.subject_from_path`.
            tags: Small texts to find the snapshot by.
            category: What retention rules may select by.
            include: gitignore patterns; with any, nothing else is taken.
            exclude: gitignore patterns of what to leave out.
            solid: Store small files together, which is smaller.
            idempotency_key: A retry with the same key finds the first commit.
            source_options: For the file system of a URL; for a path
                ``one_file_system``, ``exclude_if_present`` and
                ``exclude_caches``, all off by default.
            errors: What to do when something is missing: raise after the
                commit, or return with ``snapshot.report.problems``.
            dry_run: Read and count, store nothing.
            progress: True for a line on stderr, a function of a
                :class:`loopbackup.Progress`, a tqdm bar or class, a rich
                ``Progress``, an fsspec ``Callback``. What it raises ends the
                run and comes out as it is; nothing is committed then.
            cancel: A :class:`loopbackup.Cancel` or a ``threading.Event``; once
                it is set the run stops at the next entry, or within a long file.
            executor: Of threads; runs compression and uploads instead of this
                vault's own.

        Raises:
            IncompleteBackup: The snapshot is committed (``.snapshot``) without
                some entries (``.problems``).
            InputError: No such source, items without a name, or a name, tags
                or category that are not text or too long.
            PolicyError: Refused; nothing was read.
            StoreError: The store failed; nothing is committed, and the next
                run takes over what was uploaded.
            Cancelled: *cancel* was set; nothing is committed, as above.
            ConflictError: Run it again; nothing is lost.

        Memory: flat in the size of the source.
        """
        from .source import open_source
        from .verbs.backup import BackupJob, run_backup

        self._session.check_open()
        self._session.check_writable()
        if errors not in ("raise", "report"):
            raise InputError('errors is "raise" or "report"')
        tags = {} if tags is None else tags
        reopen = partial(
            open_source,
            source,
            subject=subject,
            include=include,
            exclude=exclude,
            forbidden=self._session.own_folder,
            secrets=self._session.own_secrets(),
            options=source_options,
        )
        # Whatever ends the call before the source is read, nothing stays open.
        with closing(reopen()) as opened:
            series = name if name is not None else opened.name
            if not series:
                raise InputError('items need a name: backup(items, name="mail")')
            check_labels(series, tags, category)
            job = BackupJob(
                source=opened,
                name=series,
                actor=self._actor,
                tags=dict(tags),
                category=category,
                solid=solid,
                dynamic=callable(subject),
                # Only what is known to begin anew: a cursor or a generator may be spent.
                reopen=reopen if isinstance(source, str | os.PathLike | list | tuple) else None,
                idempotency_key=idempotency_key,
                dry_run=dry_run,
                executor=executor,
            )
            with Reporter("backup", progress, cancel) as reporter:
                self._expect(reporter, series)
                done = run_backup(self._session, job, reporter)
        snapshot = Snapshot(self._session, done.described, self._actor, done.problems)
        if errors == "raise" and not snapshot.report.ok:
            erased = sum(problem.kind == "erased" for problem in done.problems)
            kind, told = IncompleteBackup, _incomplete(snapshot)
            if erased:
                kind = ErasedSubject
                told += (
                    f"; {erased:,} of them belong to erased subjects. Remove them from the "
                    "source, or vault.readmit(subject, reason=...)"
                )
            raise kind(told, snapshot=snapshot, problems=done.problems)
        return snapshot

    def restore(
        self,
        snapshot: Snapshot | str,
        to: str | os.PathLike[str],
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        subject: Subject | None = None,
        target_options: Mapping[str, Any] | None = None,
        target_location: str | Location | None = None,
        overwrite: Overwrite = "never",
        dry_run: bool = False,
        progress: ProgressLike = False,
        cancel: CancelLike | None = None,
    ) -> Restored:
        """
        Restore a snapshot, or a part of it, into a folder or an fsspec URL.

        Args:
            snapshot: The snapshot, its id, or the beginning of its id.
            to: Where to; what lies there stays, but for *overwrite*.
            include: gitignore patterns; with any, nothing else is restored.
            exclude: gitignore patterns of what to leave out.
            subject: Only what is about this subject.
            target_options: For the target's file system.
            target_location: Where the target lies, as you declare it. AWS is asked; of
                another URL this counts, where the policy says where data may lie.
            overwrite: What happens to entries that exist: ``"never"`` touched,
                replaced if ``"changed"`` (and otherwise given the right
                metadata), or ``"always"``.
            dry_run: Count and report what would be done, write nothing.
            progress: As for :meth:`backup`.
            cancel: As for :meth:`backup`; what is written by then stays.

        Returns:
            Counts, and problems that cost no content (such as owners that only
            root may set).

        Raises:
            DamagedData: Some content is damaged; everything else is restored.
            IncompleteRestore: Some entries could not be written.
            Cancelled: *cancel* was set.
            NotFoundError: No such snapshot, or nothing of *subject* in it.
            PolicyError: Refused; kind "restricted": *subject* is. Of a whole
                snapshot such entries are left out and counted (``.restricted``).
        """
        from .verbs.restore import RestoreJob, run_restore

        job = RestoreJob(
            snapshot=self._described(snapshot),
            to=to,
            actor=self._actor,
            include=include,
            exclude=exclude,
            subject=None if subject is None else subject_key(subject),
            overwrite=overwrite,
            options=target_options,
            location=target_location,
            dry_run=dry_run,
        )
        with Reporter("restore", progress, cancel) as reporter:
            if not (include or exclude or subject):
                body = job.snapshot.body
                # A description that is lost is stood in for by one of nothing.
                reporter.expect(files=body.entries or None, size_bytes=body.size or None)
            return run_restore(self._session, job, reporter)

    def _expect(self, reporter: Reporter, series: str) -> None:
        """Guess what a backup has to do from the last snapshot of its series, if anybody looks."""
        last = latest(self._session, series) if reporter.wants_totals else None
        if last is not None:
            reporter.expect(files=last.body.entries, estimated=True)

    def forget(self, snapshot: Snapshot | str, *, reason: str) -> None:
        """
        Forget a snapshot: gone for every reader now, its bytes with the next prunes.

        Raises:
            InputError: The reason is empty or over 16,384 characters.
            NotFoundError: No such snapshot.
            HoldActive: It has data under a hold (``.hold``); nothing was changed.
            PolicyError: Refused; kind "restricted": it has data of a restricted
                subject, which must be neither used nor deleted.
        """
        self._session.check_writable()
        from .verbs.forget import run_forget

        run_forget(self._session, [self._described(snapshot)], self._actor, reason)

    def erase_subjects(
        self, subjects: Sequence[Subject], *, reason: str, scope: Scope = "data"
    ) -> Receipt:
        """
        Erase subjects from all snapshots, at once: their keys are destroyed.

        A tenant's own subject takes all its children along. What comes later
        about an erased subject is left out of backups until :meth:`readmit`.
        The encrypted bytes themselves go with the next prunes.

        Args:
            subjects: At most 100,000. Those who were erased before stay so, and the
                receipt covers them too.
            scope: ``"data"`` is what was backed up. What registers say about them
                (consents, requests, disclosures) stays, under keys of its own, for a
                controller has to be able to show what he did (Art. 5(2), 17(3)(b) and
                (e)), until ``"records"`` erases that: when its own time is over.
                ``"all"`` erases both.
            reason: Why, such as the number of the request; it stands in the
                ledger, sealed, and in the receipt, so it names nobody.

        Returns:
            The signed receipt. Its ``openings`` are for the requesters alone.

        Raises:
            NotFoundError: The vault knows nothing of some of them; nothing was changed.
            PolicyError: Refused; nothing was changed. :class:`HoldActive` where a
                hold stands against it.
            ErasureIncomplete: It holds, and ``.receipt`` says so, but a store keeps old
                key objects, or a replica is out of reach (``.remaining``). Erase again
                when that is mended, with every replica given to :meth:`open`.
            InputError: No subjects, too many, or no reason.

        Cost: reads the keyring shards in which they may stand (for a tenant all)
        and writes those that change, under 1 MB for one; and their part of the index.
        Source: GDPR Art. 17; NIST SP 800-88r2 on cryptographic erase.
        """
        from .verbs.erase import run_erase

        self._session.check_open()
        self._session.check_writable()
        return run_erase(self._session, self._actor, subjects, reason, scope)

    def readmit(self, subject: Subject, *, reason: str) -> None:
        """
        Let an erased subject be backed up again, under new keys; nothing of before comes back.

        Raises:
            NotFoundError: It was not erased.
            PolicyError: Refused.
            InputError: The reason is empty.
        """
        from .verbs.readmit import run_readmit

        self._session.check_open()
        self._session.check_writable()
        run_readmit(self._session, self._actor, subject_key(subject), reason)

    def prune(self) -> Pruned:
        """
        Condemn what nothing needs, and delete what was condemned longer ago than the grace.

        Safe beside running backups, restores and other prunes.

        Cost: reads the entry streams of all live snapshots, and rewrites packs
        of which more than 5 % is waste.
        """
        self._session.check_open()
        self._session.check_writable()
        from .verbs.prune import run_prune

        return run_prune(self._session, self._actor)

    def check(self, *, data: bool | float = False) -> CheckReport:
        """
        Verify the vault; damage is located, and the rest stays restorable.

        Args:
            data: False checks the ledger, keys, index, entries and that every
                chunk has a place; True also reads and verifies every byte; a
                number from 0 to 1 that share of the packs, chosen at random.

        Returns:
            A report; ``.ok`` and ``.problems``. It raises only when nothing
            can be read at all.
        """
        self._session.check_open()
        from .verbs.check import run_check

        return run_check(self._session, self._actor, data=data)


def _incomplete(snapshot: Snapshot) -> str:
    report = snapshot.report
    parts = []
    if report.missing:
        parts.append(f"without {report.missing:,} of {report.files + report.missing:,} entries")
    if report.without_subject:
        parts.append(f"with {report.without_subject:,} files that have no subject")
    return f"snapshot {snapshot.id[:8]} is committed {' and '.join(parts)} (.problems names them)"
