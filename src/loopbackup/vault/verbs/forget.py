"""Forgetting snapshots: gone for every reader at once; the bytes go with the next prune."""

from __future__ import annotations

import os
from collections.abc import Sequence

from attrs import define, field

from ...errors import NotFoundError
from ...terms import Action, Actor, Facts, check_reason
from ..format import record as rec
from ..ledger.log import Draft, Rebuild
from ..ledger.state import Mark, State
from .held import refuse_kept
from .look import Described
from .session import Session

__all__ = ["run_forget"]


@define
class _Forget:
    session: Session
    snapshots: Sequence[Described]
    actor: Actor
    reason: str
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
        audit = self.session.audit(self.actor, Action.FORGET, reason=self.reason)
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
        body = snapshot.body
        facts = Facts(
            actor=actor, name=body.name, tags=body.tags, category=body.category, reason=reason
        )
        session.begin(Action.FORGET, actor, facts)
        if snapshot.record.id not in session.log.state.snapshots:
            raise NotFoundError(f"snapshot {snapshot.id[:8]} is not in the vault", kind="snapshot")
    session.log.commit(_Forget(session, snapshots, actor, reason))
