"""Forgetting snapshots: gone for every reader at once; the bytes go with the next prune."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from attrs import define, field

from ...errors import NotFoundError
from ...terms import Action, Actor, Facts, check_reason
from ..format import record as rec
from ..ledger.log import Draft, Rebuild
from ..ledger.state import Mark, State
from .held import refuse_kept
from .look import Described, info_of
from .session import Session

__all__ = ["commit_forget", "forget_facts", "run_forget"]


@define
class _Forget:
    session: Session
    snapshots: Sequence[Described]
    actor: Actor
    reason: str
    details: Mapping[str, str] = field(factory=dict)
    judged: dict[bytes, Mark] | None = None
    """The marks that were found not to stand against it."""
    commit_id: bytes = field(factory=lambda: os.urandom(16))

    def validate(self, state: State) -> Draft | Rebuild | None:
        """Forget what is still there, unless a mark was set since all were looked at."""
        live = [s.record.id for s in self.snapshots if s.record.id in state.snapshots]
        if not live:
            return None
        if state.marks and state.marks is not self.judged:
            return Rebuild(self._judge)
        audit = self.session.audit(self.actor, Action.FORGET, reason=self.reason, **self.details)
        return Draft("forget", rec.Forgotten(live), [audit])

    def _judge(self, state: State) -> None:
        """Hold the snapshots against all marks; outside the lock, for it may read their streams."""
        refuse_kept(self.session, state, [snapshot.record for snapshot in self.snapshots])
        self.judged = state.marks


def run_forget(session: Session, snapshots: Sequence[Described], actor: Actor, reason: str) -> None:
    """
    Forget snapshots.

    Raises:
        InputError: The reason is empty, no text or over 16,384 characters.
        PolicyError: Refused for one of them; none is forgotten. Kind
            "restricted": it has data of a restricted subject.
        HoldActive: One of them has data under a hold.
        NotFoundError: One is not there (any more).
    """
    check_reason(reason)
    for snapshot in snapshots:
        session.begin(Action.FORGET, actor, forget_facts(actor, snapshot, reason))
        if snapshot.record.id not in session.log.state.snapshots:
            raise NotFoundError(f"snapshot {snapshot.id[:8]} is not in the vault", kind="snapshot")
    commit_forget(session, snapshots, actor, reason)


def forget_facts(actor: Actor, snapshot: Described, reason: str) -> Facts:
    """Say what a gate has to know of a snapshot that shall be forgotten."""
    info = info_of(snapshot)
    return Facts(
        actor=actor,
        name=info.name,
        tags=info.tags,
        category=info.category,
        reason=reason,
        snapshots=(info,),
    )


def commit_forget(
    session: Session,
    snapshots: Sequence[Described],
    actor: Actor,
    reason: str,
    details: Mapping[str, str] | None = None,
) -> None:
    """
    Forget snapshots that the gate lets go, by one record; *details* say of each why.

    Raises:
        PolicyError, HoldActive: As :func:`run_forget`; none is forgotten.
    """
    session.log.commit(_Forget(session, snapshots, actor, reason, details or {}))
