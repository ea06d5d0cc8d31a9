"""The part of a vault's handle that has to do with its policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .looking import Looking

if TYPE_CHECKING:
    from ..terms import Gate, StoredGate

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
