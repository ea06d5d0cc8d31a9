"""
The gate of a vault: its policy, as the ledger has it, loaded by whoever has the vault open.

The vault knows no rules. A policy is text, and the name of an entry point that makes a gate of it.
"""

from __future__ import annotations

from datetime import datetime
from importlib.metadata import entry_points
from typing import Any, Final

from attrs import define, field, frozen

from ...errors import DamagedData, InputError, NotFoundError, PolicyError
from ...terms import AllowAll, Gate, StoredGate
from ..format import codec
from ..format.policyfacts import MAX_POLICY_CHARS, PolicyBody
from ..ledger.policies import SetPolicy

__all__ = ["GROUP", "Gates", "body_of", "load_gate"]

GROUP: Final = "loopbackup.gates"
MEANWHILE: Final = 'open(override="why") opens the vault without it, and says so in the ledger'


def body_of(gate: object) -> PolicyBody:
    """
    Give what is kept of a policy, once it is sure that it can be loaded again.

    Raises:
        InputError: It is none that can be kept: no gate, no text, or too long.
        PolicyError: Kind "not_installed": it could not be loaded again here.
    """
    if isinstance(gate, type) or not isinstance(gate, StoredGate):
        raise InputError(
            f"a policy is a Policy(...), or another gate with a loader and dumps(), "
            f"not {type(gate).__name__}"
        )
    text = gate.dumps()
    if len(text) > MAX_POLICY_CHARS:
        raise InputError(f"a policy is text of at most {MAX_POLICY_CHARS:,} characters")
    body = PolicyBody(gate=gate.loader, digest=gate.digest, text=text)
    load_gate(body)
    return body


def load_gate(body: PolicyBody) -> Gate:
    """
    Make the gate that a body tells of.

    Raises:
        PolicyError: Kind "not_installed": the plug-in is not here, or makes another policy of
            the text than the one that was set.
    """
    named = [found for found in entry_points(group=GROUP) if found.name == body.gate]
    if not named:
        raise _not_installed(
            f"the policy of this vault needs the plug-in {body.gate!r} (an entry point of the "
            f"group {GROUP}), which is not installed here"
        )
    try:
        gate: Gate = named[0].load()(body.text)
    except PolicyError as exc:
        raise _not_installed(f"the policy of this vault cannot be loaded here: {exc}") from exc
    except Exception as exc:
        raise _not_installed(
            f"the plug-in {body.gate!r} cannot load the policy of this vault "
            f"({type(exc).__name__}: {exc})"
        ) from exc
    if gate.digest != body.digest:
        raise _not_installed(
            f"the plug-in {body.gate!r} makes another policy ({gate.digest[:8]}) of the text that "
            f"was set as {body.digest[:8]}: it is of another version"
        )
    return gate


def _not_installed(message: str) -> PolicyError:
    return PolicyError(f"{message}. {MEANWHILE}", kind="not_installed")


@frozen
class _Loaded:
    index: int
    gate: Gate


@define(eq=False)
class Gates:
    """
    The gate that binds a session; follows the ledger.

    Args:
        given: One that binds instead of the vault's, for tests.
    """

    given: Gate | None = None
    override_until: datetime | None = None
    """Until then the policy is not asked; recorded before anything else was done."""
    _loaded: _Loaded | None = field(init=False, default=None)

    def current(self, session: Any) -> Gate:
        """
        Give the gate to be asked.

        Raises:
            PolicyError: Kind "not_installed", or "lost_policy": nobody can tell what it says.
        """
        if self._overrides(session):
            return AllowAll(digest=self.digest(session))
        if self.given is not None:
            return self.given
        return self.stored(session) or AllowAll()

    def stored(self, session: Any) -> Gate | None:
        """
        Give the policy that the vault has; None where it has none.

        Raises:
            PolicyError: As :meth:`current`.
        """
        policy: SetPolicy | None = session.log.state.policy
        if policy is None:
            return None
        loaded = self._loaded
        if loaded is None or loaded.index != policy.index:
            # Two threads may load it twice; what they come to is the same.
            loaded = self._loaded = _Loaded(policy.index, load_gate(open_policy(session, policy)))
        return loaded.gate

    def digest(self, session: Any) -> str:
        """Name the policy that binds, for the audit log; also where it cannot be loaded."""
        if self._overrides(session):
            return f"override of {self._stored_digest(session)}"
        return self._stored_digest(session) if self.given is None else self.given.digest

    def _overrides(self, session: Any) -> bool:
        return self.override_until is not None and session.log.now() < self.override_until

    def _stored_digest(self, session: Any) -> str:
        policy: SetPolicy | None = session.log.state.policy
        if policy is None:
            return "none"
        loaded = self._loaded
        if loaded is not None and loaded.index == policy.index:
            return loaded.gate.digest
        try:
            return open_policy(session, policy).digest
        except PolicyError:
            return "an unreadable policy"


def open_policy(session: Any, policy: SetPolicy) -> PolicyBody:
    """
    Open what a record says of a policy.

    Raises:
        PolicyError: Kind "lost_policy": it is lost, or altered.
    """
    try:
        if policy.ref is None or policy.body is None:
            raise DamagedData("a body of a ledger record is lost", index=policy.index)
        return codec.decode(session.open_body(policy.ref, policy.body), PolicyBody)
    except (DamagedData, NotFoundError) as exc:
        raise PolicyError(
            f"the policy of this vault, in ledger record {policy.index}, cannot be read ({exc}), "
            f"so nothing is allowed. {MEANWHILE}; then set it anew",
            kind="lost_policy",
            index=policy.index,
        ) from exc
