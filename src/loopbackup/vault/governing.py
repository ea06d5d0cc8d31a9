"""The part of a vault's handle that has to do with its policy."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from attrs import evolve

from ..terms import History, Subject, subject_key
from .ledgerview import Ledger, past_of
from .looking import Looking

if TYPE_CHECKING:
    from ..terms import Gate, RetentionPlan, StoredGate
    from .verbs.retention import Applied

__all__ = ["Governing"]


class Governing(Looking):
    """What :class:`Vault` can say and change about the rules that bind it."""

    @property
    def policy(self) -> Gate | None:
        """
        The policy that the vault has, as it was folded last; None where it has none.

        Raises:
            PolicyError: Kind "not_installed" or "lost_policy": nobody can tell what it says.
        """
        return self._session.gates.stored(self._session)

    def set_policy(self, policy: StoredGate, *, reason: str) -> None:
        """
        Let another policy bind from here on, in every process: the one that binds decides.

        Args:
            policy: The new one: a :class:`loopbackup.policy.Policy`.
            reason: Why; it stands in the ledger.

        Raises:
            PolicyError: Refused; or under the new policy this very vault could not be
                opened, where it lies; kind "not_installed": it could not be loaded again.
            InputError: It is no policy, or there is no reason.

        Cost: one record.
        """
        from .verbs.policies import run_set_policy

        run_set_policy(self._session, self._actor, policy, reason)

    def plan_retention(self, *, requests: Sequence[Subject] = ()) -> RetentionPlan:
        """
        Say which snapshots the policy lets go, and why each stays or goes; nothing is changed.

        Args:
            requests: Subjects whose requests for access are open: what they asked for is
                not deleted before they have it (34 CFR 99.10(e)).

        Raises:
            PolicyError: Refused.

        Cost: the descriptions of all snapshots. Of those that should go also what marks have to
        be held against, as for :meth:`Vault.forget`.
        """
        from .verbs.retention import run_plan_retention

        keys = [subject_key(subject) for subject in requests]
        return run_plan_retention(self._session, self._actor, keys)

    def history(self) -> History:
        """
        Tell what happened, for ``policy.simulate`` to ask what would change under other rules.

        Raises:
            PolicyError: Refused.

        Cost: as :meth:`Ledger.entries`, and the descriptions of all snapshots; while marks
        stand, what these need to be held against.
        """
        from .verbs.held import blockers_of
        from .verbs.retention import live_infos

        now = self._session.log.now()
        place = self._session.place()
        events = tuple(
            past_of(entry, place)
            for entry in Ledger(self._session, self._actor).entries()
            if entry.action and entry.at is not None
        )
        state = self._session.log.state
        blocked = {
            record.id.hex(): blockers
            for record, blockers in blockers_of(self._session, state, state.snapshots.values())
        }
        snapshots = tuple(
            evolve(info, blockers=blocked.get(info.id, ())) for info in live_infos(self._session)
        )
        return History(events, snapshots, now)

    def apply(self, plan: RetentionPlan) -> Applied:
        """
        Forget what a plan lets go, but for what was held, restricted or refused since.

        Raises:
            ConflictError: The plan was made under another policy; nothing was forgotten.
            InputError: It is no plan.

        Cost: one record for each 1,024 snapshots.
        """
        from .verbs.retention import run_apply

        return run_apply(self._session, self._actor, plan)

    def alerts(self) -> tuple[str, ...]:
        """
        Say what somebody has to look at, one sentence each.

        Holds whose review is due, ledger records without effect, and a place that is not as
        declared, or not as the policy wants it any more.

        Raises:
            PolicyError: Refused.
        """
        from .verbs.alerts import run_alerts

        return run_alerts(self._session, self._actor)

    def now(self) -> datetime:
        """Read the vault's clock; aware UTC."""
        return self._session.log.now()

    def check_writable(self) -> None:
        """
        Refuse a handle that cannot change the vault.

        Raises:
            InputError: It is closed, or open for reading only.
        """
        self._session.check_open()
        self._session.check_writable()
