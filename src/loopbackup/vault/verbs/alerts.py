"""What somebody has to look at: nothing is changed, and nothing is asked that costs much."""

from __future__ import annotations

from collections.abc import Iterator

from ...show import text
from ...terms import Action, Actor, AllowAll, Facts
from .locate import whereabouts
from .marking import holds_in_force
from .session import Session

__all__ = ["run_alerts"]


def run_alerts(session: Session, actor: Actor) -> tuple[str, ...]:
    """Give the alerts, one sentence each; ids and counts only."""
    session.begin(Action.READ, actor)
    return tuple(_alerts(session, actor))


def _alerts(session: Session, actor: Actor) -> Iterator[str]:
    state, now = session.log.state, session.log.now()
    due = [hold for hold in holds_in_force(session) if hold.review_at <= now]
    if due:
        ids = ", ".join(hold.id[:8] for hold in due[:8])
        yield f"{text.count(len(due), 'hold')} should be reviewed by now: {ids}"
    if state.alarms:
        last = state.alarms[-1]
        yield (
            f"{text.count(len(state.alarms), 'ledger record')} without effect; the last is "
            f"{last.index}: {last.reason}"
        )
    found = whereabouts(state)
    if not found.agree:
        yield f"the vault lies elsewhere than declared: {found}"
    gate = session.gate
    if type(gate) is not AllowAll:
        facts = session.completed(Facts(actor=actor), actor)
        decision = gate.decide(Action.OPEN, facts, at=now)
        if not decision.allowed:
            yield f"the policy would not let this vault be opened where it lies: {decision}"
