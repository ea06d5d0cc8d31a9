"""The fold of policies: which record set the one that binds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from attrs import frozen

from ..format import record as rec
from ..format.policyfacts import NO_POLICY
from ..format.record import BodyRef, Record
from .verdicts import Void

__all__ = ["PolicedState", "SetPolicy", "plan_policy", "policy_of"]


@frozen
class SetPolicy:
    """The policy that binds, as its record says it."""

    index: int
    """Number of the record."""
    ref: BodyRef | None
    """None where the record has none, which nobody who keeps to the format writes."""
    body: bytes | None
    """None for one that is lost."""


class PolicedState(Protocol):
    """What of the fold such records are held against, and change."""

    policy: SetPolicy | None

    @property
    def size(self) -> int:
        """How many records are folded."""
        ...


def policy_of(record: Record) -> SetPolicy:
    """Give the policy that a record sets: its first body under ``meta``."""
    for ref, body in zip(record.frame.bodies, record.bodies, strict=True):
        if ref.key == "meta":
            return SetPolicy(record.frame.index, ref, body)
    return SetPolicy(record.frame.index, None, None)


def plan_policy(state: PolicedState, record: Record, facts: Any) -> Callable[[], None] | None:
    """
    Check what a record about policies needs; give the change, which cannot fail.

    None for a record of any other kind.

    Raises:
        Void: It does not hold.
    """
    if isinstance(facts, rec.Overridden):
        return lambda: None
    if not isinstance(facts, rec.PolicySet):
        return None
    current = NO_POLICY if state.policy is None else state.policy.index
    if facts.base != current:
        raise Void("it replaces a policy that is no longer the one that binds")
    found = policy_of(record)
    return lambda: setattr(state, "policy", found)
