"""Retention: what the gate would let go, what stands against that, and doing it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from attrs import define, evolve, field

from ...errors import ConflictError, HoldActive, InputError, PolicyError
from ...show import text
from ...terms import (
    Action,
    Actor,
    Blocker,
    Fate,
    RetentionPlan,
    SnapshotInfo,
    SubjectKey,
)
from ..ledger.state import SnapshotRecord, State
from .forget import commit_forget, forget_facts
from .held import blockers_of, domain_ids
from .look import Described, describe_all, info_of, is_described
from .marking import holds_in_force
from .session import Session

__all__ = ["Applied", "infos_with", "live_infos", "run_apply", "run_plan_retention"]

BATCH: Final = 1024
"""Snapshots forgotten by one record, whose audit says of each why."""


@define
class Applied:
    """What applying a plan did."""

    forgotten: int = 0
    blocked: tuple[Fate, ...] = ()
    """What should go, and may not: held, restricted, or under a request."""
    refused: tuple[Fate, ...] = ()
    """What the policy did not let this actor forget."""
    gone: int = 0
    """What somebody else had forgotten already."""
    problems: list[str] = field(factory=list)

    @property
    def ok(self) -> bool:
        """Whether all went that may."""
        return not self.refused

    def __str__(self) -> str:
        parts = [f"{text.count(self.forgotten, 'snapshot')} forgotten"]
        parts += [f"{len(self.blocked):,} blocked"] if self.blocked else []
        parts += [f"{len(self.refused):,} refused"] if self.refused else []
        parts += [f"{self.gone:,} gone before"] if self.gone else []
        return ", ".join(parts)


def run_plan_retention(
    session: Session, actor: Actor, requests: Sequence[SubjectKey] = ()
) -> RetentionPlan:
    """
    Ask the policy which snapshots should go, and find out what stands against it.

    Raises:
        PolicyError: Refused.

    Cost: the descriptions of all snapshots; of those that should go what marks need to be held
    against: nothing while there are none.
    """
    session.begin(Action.READ, actor)
    state = session.log.state
    described = describe_all(session)
    infos: Sequence[SnapshotInfo] = live_infos(session)
    lost = [info_of(found) for found in described if not is_described(found)]
    holds = holds_in_force(session)
    now = session.log.now()
    plan = session.gate.plan_retention(infos, holds, at=now)
    records = {found.id: found.record for found in described}
    blockers = _blockers(session, state, plan.expire, records, requests)
    if blockers:
        infos = [evolve(info, blockers=blockers.get(info.id, ())) for info in infos]
        plan = session.gate.plan_retention(infos, holds, at=now)
    if lost:
        # Nobody knows which rule they are under.
        kept = tuple(Fate(info, ("its description is lost",)) for info in lost)
        plan = evolve(plan, keep=plan.keep + kept)
    return evolve(plan, policy=session.gate.digest)


def _blockers(
    session: Session,
    state: State,
    fates: Iterable[Fate],
    records: Mapping[str, SnapshotRecord],
    requests: Sequence[SubjectKey],
) -> dict[str, tuple[Blocker, ...]]:
    wanted = [records[fate.snapshot.id] for fate in fates]
    return {
        record.id.hex(): found
        for record, found in blockers_of(session, state, wanted, requests)
        if found
    }


def run_apply(session: Session, actor: Actor, plan: RetentionPlan) -> Applied:
    """
    Forget what a plan lets go, but for what a mark or the policy has come to protect since.

    Raises:
        ConflictError: The plan was made under another policy; nothing was forgotten.
        InputError: It is no plan.
    """
    if not isinstance(plan, RetentionPlan):
        raise InputError(f"a plan is what plan_retention gives, not {type(plan).__name__}")
    session.check_open()
    session.check_writable()
    session.catch_up()
    if plan.policy != session.gate.digest:
        raise ConflictError(
            "the plan was made under another policy than the one that binds now; nothing was "
            "forgotten. Plan again"
        )
    result = Applied(blocked=plan.blocked)
    live = {found.id: found for found in describe_all(session)}
    going: list[tuple[Fate, Described]] = []
    for fate in plan.expire:
        found = live.get(fate.snapshot.id)
        if found is None or found.record.index != fate.snapshot.index:
            result.gone += 1
        elif _may(session, actor, found):
            going.append((fate, found))
        else:
            result.refused += (fate,)
    for start in range(0, len(going), BATCH):
        _forget(session, actor, going[start : start + BATCH], result)
    for fate in plan.blocked:
        session.note_refusal(actor, Action.FORGET, fate.why)
    return result


def _may(session: Session, actor: Actor, found: Described) -> bool:
    try:
        session.ask(Action.FORGET, actor, forget_facts(actor, found, "retention"))
    except PolicyError:
        return False
    return True


def _forget(
    session: Session, actor: Actor, going: list[tuple[Fate, Described]], result: Applied
) -> None:
    """Forget a batch; what turns out to be held or restricted meanwhile is left out of it."""
    while going:
        why = {found.id: fate.why for fate, found in going}
        count = text.count(len(going), "snapshot")
        try:
            commit_forget(
                session, [found for _, found in going], actor, f"retention: {count}", details=why
            )
        except PolicyError as exc:
            kept = exc.context.get("snapshot")
            blocked = [fate for fate, found in going if found.id == kept]
            if not blocked:
                raise
            kind = "hold" if isinstance(exc, HoldActive) else "restriction"
            result.blocked += tuple(evolve(fate, blocked_by=(kind,)) for fate in blocked)
            going = [pair for pair in going if pair[1].id != kept]
        else:
            result.forgotten += len(going)
            return


def live_infos(session: Session) -> tuple[SnapshotInfo, ...]:
    """Give what is known of all live snapshots, but for those whose description is lost."""
    return tuple(info_of(found) for found in describe_all(session) if is_described(found))


def infos_with(session: Session, domains: Iterable[bytes]) -> dict[bytes, list[SnapshotInfo]]:
    """Give for each of some domains the live snapshots that have anything of it."""
    wanted, found = set(domains), defaultdict[bytes, list[SnapshotInfo]](list)
    for snapshot in describe_all(session):
        info = info_of(snapshot)
        for domain in wanted.intersection(domain_ids(session, snapshot.record)):
            found[domain].append(info)
    return found
