"""Setting the policy of a vault, and going without it once."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import Final

from attrs import define, field

from ...errors import PolicyError
from ...terms import Action, Actor, Facts, Gate, Place, StoredGate, check_reason
from ..format import codec, names, seal
from ..format import record as rec
from ..format.policyfacts import NO_POLICY, PolicyBody
from ..format.seal import Kind
from ..keys.keyring import meta_body_key
from ..keys.root import Root
from ..ledger.log import Draft, Fresh, Rebuild
from ..ledger.state import State
from .gates import body_of
from .session import Session, whereabouts_of

__all__ = ["ask_create", "run_override", "run_set_policy", "seal_policy"]


OVERRIDE: Final = timedelta(hours=1)
"""Whoever needs longer breaks the glass again, and it is told again."""


def policy_ref(generation: int) -> bytes:
    """Say which key seals a policy: with a word that tells it from other bodies."""
    return b"policy" + generation.to_bytes(4, "little")


def seal_policy(
    root: Root, policy: PolicyBody | None
) -> tuple[list[rec.BodyRef], tuple[bytes, ...]]:
    """Seal the policy of a vault that is being made, for its first record."""
    if policy is None:
        return [], ()
    ref = policy_ref(root.generation)
    body = seal.seal(
        meta_body_key(root, ref), Kind.BODY, root.vault_id, codec.encode(policy), pad=256
    )
    return [rec.BodyRef("meta", ref, names.content_hash(body))], (body,)


def ask_create(
    policy: Gate, actor: Actor | None, credential: object, place: Place, now: datetime
) -> None:
    """
    Ask whether a vault may be made at a place.

    Raises:
        PolicyError: It may not. Nothing is recorded, for there is no ledger.
    """
    facts = Facts(actor=actor, places=(place,), more=whereabouts_of(actor, credential))
    decision = policy.decide(Action.CREATE, facts, at=now)
    if not decision.allowed:
        raise PolicyError(f"create {decision}", decision=decision, action=str(Action.CREATE))


def _index(state: State) -> int:
    return NO_POLICY if state.policy is None else state.policy.index


@define
class _Set:
    session: Session
    actor: Actor
    reason: str
    body: bytes
    facts: Facts
    asked: int
    """The record of the policy that has allowed it."""
    commit_id: bytes = field(factory=lambda: os.urandom(16))

    def validate(self, state: State) -> Draft | Rebuild:
        """Set it, unless another one was set since the one that was asked."""
        if _index(state) != self.asked:
            return Rebuild(self._ask)
        session = self.session
        bodies = [
            session.body("meta", policy_ref(session.keyring.root.generation), self.body),
            session.audit(self.actor, Action.POLICY, reason=self.reason),
        ]
        return Draft("policy", rec.PolicySet(self.asked), bodies)

    def _ask(self, state: State) -> None:
        self.session.ask(Action.POLICY, self.actor, self.facts)
        self.asked = _index(state)


def run_set_policy(session: Session, actor: Actor, policy: StoredGate, reason: str) -> None:
    """
    Let another policy bind from here on.

    Raises:
        InputError: It is no policy that can be kept, or the reason is none.
        PolicyError: The policy that binds refuses; or the new one would refuse this very vault,
            where it lies; kind "role": this process signs without the role admin; kind
            "not_installed": it could not be loaded again.
    """
    check_reason(reason)
    session.check_open()
    session.check_writable()
    body = body_of(policy)
    facts = Facts(actor=actor, reason=reason, more={"policy": body.digest})
    session.begin(Action.POLICY, actor, facts)
    if session.log.signer is None or "admin" not in session.log.signer.roles:
        raise PolicyError("policy needs a credential with the role admin", kind="role")
    _refuse_lockout(session, actor, policy)
    intent = _Set(session, actor, reason, codec.encode(body), facts, _index(session.log.state))
    session.log.commit(intent)


def _refuse_lockout(session: Session, actor: Actor, policy: Gate) -> None:
    """Refuse a policy under which nobody could open this vault any more."""
    facts = session.completed(Facts(actor=actor), actor)
    decision = policy.decide(Action.OPEN, facts, at=session.log.now())
    if not decision.allowed:
        raise PolicyError(
            f"policy refused: under the new one this vault could not be opened. {decision}",
            decision=decision,
            action=str(Action.POLICY),
        )


def run_override(session: Session, actor: Actor, reason: str) -> None:
    """
    Record that the vault's policy is not asked, and then do not ask it for an hour.

    Of a vault that is open for reading only nothing can be recorded.

    Raises:
        InputError: The reason is none.
        StoreError: It cannot be recorded; the vault stays closed.
    """
    check_reason(reason)
    session.gates.override_until = session.log.now() + OVERRIDE
    if not session.read_only:

        def draft(state: State) -> Draft:
            audit = session.audit(actor, Action.OPEN, reason=reason)
            return Draft("override", rec.Overridden(_index(state)), [audit])

        session.log.commit(Fresh(draft))
