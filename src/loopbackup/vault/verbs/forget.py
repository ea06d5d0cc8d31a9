"""Forgetting snapshots: gone for every reader at once; the bytes go with the next prune."""

from __future__ import annotations

import os
from collections.abc import Sequence

from attrs import define, field

from ...errors import NotFoundError
from ...terms import Action, Actor, Facts, check_reason
from ..format import record as rec
from ..ledger.log import Draft
from ..ledger.state import State
from .look import Described
from .session import Session

__all__ = ["run_forget"]


@define
class _Forget:
    session: Session
    snapshots: Sequence[Described]
    actor: Actor
    reason: str
    commit_id: bytes = field(factory=lambda: os.urandom(16))

    def validate(self, state: State) -> Draft | None:
        """Forget what is still there."""
        live = [s.record.id for s in self.snapshots if s.record.id in state.snapshots]
        if not live:
            return None
        audit = self.session.audit(self.actor, Action.FORGET, reason=self.reason)
        return Draft("forget", rec.Forgotten(live), [audit])


def run_forget(session: Session, snapshots: Sequence[Described], actor: Actor, reason: str) -> None:
    """
    Forget snapshots.

    Raises:
        InputError: The reason is empty, no text or over 16,384 characters.
        PolicyError: Refused for one of them; none is forgotten.
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
