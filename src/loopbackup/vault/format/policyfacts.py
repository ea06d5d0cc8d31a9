"""Facts of records about the vault's policy, and what is sealed beside them."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from .facts import Facts

__all__ = ["MAX_POLICY_CHARS", "NO_POLICY", "Overridden", "PolicyBody", "PolicySet"]

MAX_POLICY_CHARS: Final = 1 << 20
NO_POLICY: Final = -1
"""Stands for the number of a record where none sets a policy."""

PolicyIndex = Annotated[int, Meta(ge=NO_POLICY, lt=1 << 62)]


class PolicySet(Facts):
    """Another policy binds from here on; what it says is sealed."""

    base: PolicyIndex
    """The record that set the one that it replaces: whoever decided looked at no other."""


class Overridden(Facts):
    """Somebody opened the vault without asking its policy; who and why is sealed."""

    policy: PolicyIndex


class PolicyBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """A policy as text, and what makes it of the text."""

    gate: Annotated[str, Meta(min_length=1, max_length=64)]
    """Entry point of the group ``loopbackup.gates``."""
    digest: Annotated[str, Meta(min_length=1, max_length=128)]
    text: Annotated[str, Meta(max_length=MAX_POLICY_CHARS)]
