"""The half of a vault's handle that looks; nothing here changes a vault."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from ..context import current_actor
from ..errors import InputError, NotFoundError
from ..terms import Action, Actor, Facts, Subject, subject_key
from .entry import raw_path, state_of, to_entry
from .snapshot import Snapshot, Version
from .verbs.look import Described, describe_all
from .verbs.session import UNNAMED, Session

if TYPE_CHECKING:
    from ..receipts import Receipt
    from .verbs.holdings import Holdings
    from .verbs.info import Info
    from .verbs.locate import Whereabouts

__all__ = ["Looking"]


class Looking:
    """What :class:`Vault` can find again."""

    def __init__(self, session: Session, actor: Actor | None) -> None:
        self._session = session
        self._actor_given = actor

    @property
    def _actor(self) -> Actor:
        return current_actor() or self._actor_given or UNNAMED

    def snapshots(
        self,
        *,
        name: str | None = None,
        tags: Mapping[str, str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[Snapshot]:
        """List live snapshots, newest first; *since* and *until* are aware and inclusive."""
        self._session.begin(Action.READ, self._actor)
        if tags is not None and not isinstance(tags, Mapping):
            raise InputError('tags map text to text: {"host": "db1"}')
        wanted = (tags or {}).items()
        return [
            snapshot
            for snapshot in map(self._show, describe_all(self._session))
            if (name is None or snapshot.name == name)
            and wanted <= snapshot.tags.items()
            and (since is None or snapshot.created_at >= _aware(since))
            and (until is None or snapshot.created_at <= _aware(until))
        ]

    def snapshot(
        self, ref: str = "latest", *, name: str | None = None, at: datetime | None = None
    ) -> Snapshot:
        """
        Give one snapshot: the latest, the latest not after *at*, or by its id.

        Args:
            ref: ``"latest"``, or the beginning of an id.
            name: The series; needed for ``"latest"`` where there are several.
            at: Aware instant.

        Raises:
            NotFoundError: There is none.
            InputError: Several fit.
        """
        if not _is_text(ref):
            raise InputError('a snapshot is named by "latest" or by what its id begins with')
        found = self.snapshots(name=name, until=at)
        if ref != "latest":
            found = [s for s in found if s.id.startswith(ref.lower())]
            if len(found) > 1:
                raise InputError(f"{len(found)} snapshots begin with {ref}; give more of the id")
        if not found:
            raise NotFoundError("there is no such snapshot", kind="snapshot")
        series = sorted({snapshot.name for snapshot in found})
        if ref == "latest" and len(series) > 1:
            # Names may be paths: they stand beside the text, not in it.
            text = (
                f"the vault holds {len(series)} series; give the name of one (.context names them)"
            )
            raise InputError(text, names=series)
        return found[0]

    def versions(
        self,
        path: str | bytes | os.PathLike[str],
        *,
        name: str | None = None,
        subject: Subject | None = None,
    ) -> list[Version]:
        """
        List the states that the entry at *path* went through, newest first.

        One for each distinct content and metadata, over all snapshots or those
        of the series *name*; empty when there is none. *subject* says whose
        entry, as for :meth:`Snapshot.entry`.

        Raises:
            InputError: Several subjects have that path; *subject* says whose.
            DamagedData: None was found, and something could not be read.

        Cost: the root of each snapshot, and the parts of tables and entry
        streams that cover the path, each once however many snapshots share it.
        """
        raw = raw_path(path)
        key = None if subject is None else subject_key(subject)
        self._session.begin(
            Action.READ, self._actor, Facts(actor=self._actor, subject=key, name=name)
        )
        from .verbs.versions import find_versions

        self._session.looked(self._actor)
        described = [
            found
            for found in describe_all(self._session)
            if name is None or found.body.name == name
        ]
        return [
            Version(
                self._show(version.snapshots[0]),
                to_entry(version.node, version.domain),
                self._show(version.snapshots[-1]),
                len(version.snapshots),
            )
            for version in find_versions(self._session, described, raw, key, state_of)
        ]

    def holdings(self, subject: Subject) -> Holdings:
        """
        Say what the vault holds of *subject*; a tenant's own covers its children.

        An inspection: what cannot be looked into is in ``.problems``, and a
        subject that the vault never heard of has nothing.

        Raises:
            InputError: *subject* is none.

        Cost: root and table of each snapshot that has anything of it, its part
        of the index; for a tenant all keyring shards.
        """
        from .verbs.holdings import run_holdings

        return run_holdings(self._session, subject_key(subject), self._actor)

    def locate(self) -> Whereabouts:
        """
        Ask the provider anew where the vault lies, and record what he says.

        A read-only vault records nothing. What comes back may differ from what was
        declared: look at ``.agree``.

        Raises:
            PolicyError: Refused.
            StoreError: The store failed.

        Cost: five requests on S3, and one record.
        """
        from .verbs.locate import run_locate

        return run_locate(self._session, self._actor)

    def receipts(self) -> list[Receipt]:
        """
        Give the newest receipt of each erasure, the newest erasure first.

        That is the completed one once there is one: the prune that finds nothing
        left of the encrypted bytes signs it. It is about the same bound names as the
        receipt that it completes, so the requester's opening fits both. Openings are
        kept nowhere.

        Raises:
            PolicyError: Refused.
            DamagedData: A receipt cannot be opened.

        Cost: one request an erasure.
        """
        from .verbs.complete import kept_receipts

        self._session.begin(Action.AUDIT, self._actor)
        return kept_receipts(self._session)

    def info(self) -> Info:
        """
        Say what this vault is: format, place, series, ledger, credentials, sizes.

        Cost: one LIST of the whole store, and the directories of the index.
        """
        from .verbs.info import run_info

        return run_info(self._session, self._actor)

    def _show(self, described: Described) -> Snapshot:
        return Snapshot(self._session, described, self._actor)

    def _described(self, snapshot: Snapshot | str) -> Described:
        if isinstance(snapshot, str):
            snapshot = self.snapshot(snapshot)
        if not isinstance(snapshot, Snapshot):
            raise InputError(f"a snapshot or its id is needed, not {type(snapshot).__name__}")
        if snapshot._session is not self._session:
            raise InputError("the snapshot is of another open vault; give its id instead")
        return snapshot._described


def _aware(moment: datetime) -> datetime:
    if getattr(moment, "tzinfo", None) is None:
        raise InputError("a time needs a zone: datetime(..., tzinfo=UTC)")
    return moment


def _is_text(ref: object) -> bool:
    return isinstance(ref, str) and bool(ref)
