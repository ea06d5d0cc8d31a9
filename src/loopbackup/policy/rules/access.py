"""Who may do what: roles of the actor against the action."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, ClassVar

from attrs import field, frozen

from ...errors import InputError
from ...terms import Action, Facts
from ..tables import Tables
from .base import PASS, Deny, Missing, Verdict, described, named, options_of, texts

__all__ = ["Access", "check_action"]

_OF_PLACE = (Action.CREATE, Action.OPEN)


def check_action(what: str, name: object) -> str:
    """Give the name of an action; InputError, with the nearest name, where there is none."""
    if name in tuple(Action):
        return str(name)
    close = difflib.get_close_matches(str(name), [str(action) for action in Action], n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise InputError(f"{what}: there is no action {name!r}{hint}")


def _grants(value: object) -> dict[str, frozenset[str]]:
    if not isinstance(value, Mapping):
        raise InputError('grants map actions to roles: {"restore": {"support"}}')
    return {
        check_action("grants", action): texts(f"the roles for {action}", roles)
        for action, roles in value.items()
    }


def _others(value: object) -> frozenset[str]:
    return texts("others", value)


@frozen
class Access:
    """
    Let roles do what they are granted, and nobody anything else.

    Roles are asserted by the host, which authenticates people.

    Args:
        grants: By action the roles of which an actor needs one.
        others: The same for every action that *grants* does not name.
        id: Names the rule in decisions; default as it is written.

    ``create`` and ``open`` are asked of rules of place only.

    Raises:
        InputError: No such action, or roles that are no texts.
    """

    version: ClassVar[str] = "1"
    grants: Mapping[str, Collection[str]] = field(converter=_grants)
    others: Collection[str] = field(default=frozenset(), converter=_others, kw_only=True)
    id: str = field(default="", kw_only=True)
    has_own_id: bool = field(init=False, default=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        named(self)

    def options(self) -> dict[str, Any]:
        """Give what makes the same rule again."""
        return options_of(self)

    def __str__(self) -> str:
        return described(self)

    def evaluate(self, action: str, facts: Facts, *, at: datetime, tables: Tables) -> Verdict:
        """Say whether the actor has a role that may."""
        if action in _OF_PLACE:
            return PASS
        allowed = self.grants.get(action, self.others)
        shown = ", ".join(sorted(allowed))
        required = f"an actor with the role {shown}" if allowed else "somebody who is granted it"
        nearest = f"an actor with the role {min(allowed)}" if allowed else None
        if facts.actor is None:
            return Missing("the actor", required, nearest)
        if facts.actor.roles.isdisjoint(allowed):
            has = ", ".join(sorted(facts.actor.roles))
            actual = f"the actor has the role {has}" if has else "the actor has no role"
            return Deny(required, actual, nearest)
        return PASS
