"""Which rules there are: those of the library, and those that plug-ins name by entry points."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from ..errors import InputError, PolicyError
from .rules.access import Access
from .rules.base import Rule
from .rules.residency import Residency
from .rules.retention import Retention

__all__ = ["GROUP", "kind_of", "make_rule"]

GROUP: Final = "loopbackup.policies"
_OWN: Final[dict[str, Callable[..., Rule]]] = {
    "access": Access,
    "residency": Residency,
    "retention": Retention,
}


def kind_of(rule: Rule) -> str:
    """
    Give the name under which a rule's class is found again.

    Raises:
        InputError: No entry point names it.
    """
    for kind, cls in _OWN.items():
        if cls is type(rule):
            return kind
    for found in entry_points(group=GROUP):
        if found.value.partition(":")[2] == type(rule).__qualname__ and _load(found) is type(rule):
            return found.name
    raise InputError(
        f"the rule {type(rule).__name__} cannot be kept: no entry point of the group {GROUP} names "
        "it, so no other process would find it"
    )


def make_rule(kind: str, options: dict[str, Any], *, version: str | None = None) -> Rule:
    """
    Make a rule.

    Raises:
        PolicyError: Kind "not_installed": nothing here has rules of that kind, or another version.
        InputError: The options are none of that kind.
    """
    cls = _OWN.get(kind)
    if cls is None:
        named = [found for found in entry_points(group=GROUP) if found.name == kind]
        if not named:
            raise PolicyError(
                f"rules of the kind {kind!r} are not installed here. Install the plug-in that "
                f"brings them (entry point {kind!r} of the group {GROUP})",
                kind="not_installed",
            )
        cls = _load(named[0])
    try:
        rule = cls(**options)
    except TypeError as exc:
        raise InputError(_told(kind, str(exc))) from None
    if version is not None and rule.version != version:
        raise PolicyError(
            f"rules of the kind {kind!r} are of version {rule.version} here, and the policy was "
            f"written for {version}. Install that, or set the policy anew",
            kind="not_installed",
        )
    return rule


def _told(kind: str, message: str) -> str:
    """Say what Python says about arguments in the words of a policy."""
    name = message.rpartition(" ")[2]
    if "unexpected keyword argument" in message:
        return f"a rule of the kind {kind!r} has no {name}"
    if "missing" in message and "argument" in message:
        return f"a rule of the kind {kind!r} needs {name}"
    return f"a rule of the kind {kind!r} cannot be made of this: {message}"


def _load(found: EntryPoint) -> Callable[..., Rule]:
    try:
        loaded: Callable[..., Rule] = found.load()
    except Exception as exc:
        raise PolicyError(
            f"the plug-in for rules of the kind {found.name!r} cannot be loaded "
            f"({type(exc).__name__})",
            kind="not_installed",
        ) from exc
    return loaded
