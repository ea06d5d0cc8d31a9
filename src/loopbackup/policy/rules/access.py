"""Who may do what: roles of the actor, and of those who agree, against the action."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, ClassVar, Final

from attrs import field, frozen

from ...errors import InputError
from ...terms import Action, Actor, Facts
from ..tables import Tables
from .base import PASS, Deny, Missing, Verdict, described, named, options_of, texts
from .where import Labelled, check_where, selects

__all__ = ["Access", "check_action"]

MAX_APPROVALS: Final = 17
"""Who acts, and sixteen more."""
_ATTRIBUTES: Final = frozenset({"purpose", "ip", "device"})
OF_SNAPSHOTS: Final = frozenset(
    {Action.BACKUP, Action.READ, Action.RESTORE, Action.FORGET, Action.ERASE}
)
"""Only of these the vault says which snapshots they are about."""
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


def _requires(value: object) -> dict[str, int]:
    if not isinstance(value, Mapping):
        raise InputError('requires maps actions to a number of people: {"erase": 2}')
    found = {}
    for action, count in value.items():
        name = check_action("requires", action)
        if type(count) is not int or not 1 <= count <= MAX_APPROVALS:
            raise InputError(f"requires: {name} needs 1 to {MAX_APPROVALS} people, not {count!r}")
        found[name] = count
    return found


def _needs(value: object) -> frozenset[str]:
    found = texts("needs", value)
    if not found <= _ATTRIBUTES:
        raise InputError(f"needs takes {', '.join(sorted(_ATTRIBUTES))}")
    return found


@frozen
class Access:
    """
    Let roles do what they are granted, and nobody anything else.

    Roles are asserted by the host, which authenticates people.

    Args:
        grants: By action the roles of which an actor needs one.
        others: The same for every action that *grants* does not name.
        requires: By action how many people have to agree: who acts, and those of his
            ``approved_by`` who have a role for it too. Nobody counts twice: ids that differ in
            case, in spaces around them or in how Unicode writes them are one.
        needs: What every actor has to say of himself: ``purpose``, ``ip``, ``device``.
        where: Only for actions on these snapshots: by ``name``, ``category`` and
            ``"tag:<tag>"``, as for :class:`Retention`. An action that touches several,
            such as an erasure, is under the rule if one of them fits. What is not about
            any snapshot is not under such a rule, listing them included.
        id: Names the rule in decisions; default as it is written.

    ``create`` and ``open`` are asked of rules of place only.

    Raises:
        InputError: No such action, or roles that are no texts.
    """

    version: ClassVar[str] = "1"
    grants: Mapping[str, Collection[str]] = field(converter=_grants)
    others: Collection[str] = field(default=frozenset(), converter=_others, kw_only=True)
    requires: Mapping[str, int] = field(factory=dict, converter=_requires, kw_only=True)
    needs: Collection[str] = field(default=frozenset(), converter=_needs, kw_only=True)
    where: Mapping[str, str] = field(factory=dict, converter=check_where, kw_only=True)
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
        """Say whether the actor has a role that may, and whether enough others agree."""
        about: tuple[Labelled, ...] = (facts, *facts.snapshots)
        if action in _OF_PLACE:
            return PASS
        if not any(selects(self.where, what) for what in about):
            if action in OF_SNAPSHOTS and "snapshots" in facts.unknown:
                return Missing("which snapshots it is about", f"to be asked of {self._meant()}")
            return PASS
        allowed = frozenset(self.grants.get(action, self.others))
        roles = ", ".join(sorted(allowed))
        required = f"an actor with the role {roles}" if allowed else "somebody who is granted it"
        nearest = f"an actor with the role {min(allowed)}" if allowed else None
        if facts.actor is None:
            return Missing("the actor", required, nearest)
        if facts.actor.roles.isdisjoint(allowed):
            has = ", ".join(sorted(facts.actor.roles))
            actual = f"the actor has the role {has}" if has else "the actor has no role"
            return Deny(required, actual, nearest)
        for name in sorted(self.needs):
            if not getattr(facts.actor, name):
                return Missing(f"the actor's {name}", f"every actor to say it: Actor({name}=...)")
        return self._enough(action, facts, facts.actor, allowed)

    def _meant(self) -> str:
        return ", ".join(f"{key}={value}" for key, value in sorted(self.where.items()))

    def _enough(self, action: str, facts: Facts, actor: Actor, allowed: frozenset[str]) -> Verdict:
        needed = self.requires.get(action, 1)
        agreed = {_person(actor)} | {
            _person(other) for other in actor.approved_by if not other.roles.isdisjoint(allowed)
        }
        if len(agreed) >= needed:
            return PASS
        roles = ", ".join(sorted(allowed))
        required = f"{needed} people with the role {roles} to agree"
        if "approved_by" in facts.unknown:
            return Missing("which roles those had who agreed", required)
        return Deny(
            required,
            f"{len(agreed)} with it acts or has agreed",
            "Actor(approved_by=[...]) with somebody else who has the role",
        )


def _person(actor: Actor) -> str:
    """Give what tells people apart, however an id is typed; Unicode TR 15."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", actor.id).casefold()).strip()
