"""What a rule is, and what it can answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Protocol, TypeAlias, runtime_checkable

from attrs import NOTHING, Attribute, fields, frozen

from ...errors import InputError
from ...terms import Facts
from ..tables import Tables

__all__ = [
    "PASS",
    "Deny",
    "Missing",
    "Pass",
    "Rule",
    "Verdict",
    "described",
    "named",
    "options_of",
    "texts",
]


@frozen
class Pass:
    """The rule has nothing against it."""


@frozen
class Deny:
    """
    The rule is against it.

    Args:
        required: What would have to be: a clause after "needs".
        actual: What is: a sentence without its full stop, which names nobody.
        nearest: The closest change that the rule would let pass, if it knows one.
    """

    required: str
    actual: str
    nearest: str | None = None


@frozen
class Missing:
    """
    The rule cannot tell, for a fact is not known.

    Args:
        fact: Which: a noun phrase.
        required: What would have to be, as for :class:`Deny`.
        nearest: What to do about it, if the rule knows.
    """

    fact: str
    required: str
    nearest: str | None = None


PASS = Pass()
Verdict: TypeAlias = Pass | Deny | Missing


@runtime_checkable
class Rule(Protocol):
    """
    One rule of a policy: a value, which looks at facts and at nothing else.

    A class that shall be kept in vaults is named by an entry point of the group
    ``loopbackup.policies``, and has ``options()``: what to call the class with,
    by keyword, to get the same rule again. All of it must fit into TOML.
    """

    @property
    def id(self) -> str:
        """Names the rule in decisions; no two rules of a policy share one."""
        ...

    @property
    def version(self) -> str:
        """Another one where the same options would judge otherwise."""
        ...

    def evaluate(self, action: str, facts: Facts, *, at: datetime, tables: Tables) -> Verdict:
        """Say whether *action* may be done; pure, and without side effects."""
        ...


def options_of(rule: Any) -> dict[str, Any]:
    """Give the arguments of an attrs rule that differ from their defaults."""
    found = {}
    for attribute in fields(type(rule)):
        if not attribute.init:
            continue
        value = getattr(rule, attribute.name)
        if value != _default(attribute) and not (attribute.name == "id" and not rule.has_own_id):
            found[attribute.name] = value
    return {name: _plain(value) for name, value in found.items()}


def _default(attribute: Attribute[Any]) -> Any:
    default: Any = attribute.default
    if default is NOTHING:
        return NOTHING
    factory = getattr(default, "factory", None)
    return default if factory is None else factory()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(value[key]) for key in sorted(value)}
    if isinstance(value, Collection) and not isinstance(value, str):
        return sorted(_plain(part) for part in value)
    return value


def described(rule: Any) -> str:
    """
    Give a rule as somebody would write it: ``Residency(allow="EEA")``.

    It is the rule's id, unless it is given one.
    """
    options = {name: value for name, value in rule.options().items() if name != "id"}
    inner = ", ".join(f"{name}={_shown(value)}" for name, value in options.items())
    return f"{type(rule).__name__}({inner})"


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_shown(k)}: {_shown(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_shown, value)) + "]"
    return str(value)


def named(rule: Any) -> None:
    """Give a rule that was not given an id the one that says what it is."""
    if not isinstance(rule.id, str):
        raise InputError("the id of a rule is text")
    object.__setattr__(rule, "has_own_id", bool(rule.id))
    if not rule.id:
        object.__setattr__(rule, "id", described(rule))


def texts(what: str, value: object) -> frozenset[str]:
    """
    Give one text, or a collection of texts, as a set of them.

    Raises:
        InputError: It is neither, or one of them is empty.
    """
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, Collection) or isinstance(found, Mapping | bytes):
        raise InputError(f"{what} is text, or a collection of texts")
    if not all(isinstance(text, str) and text for text in found):
        raise InputError(f"{what} holds texts that are not empty")
    return frozenset(found)
