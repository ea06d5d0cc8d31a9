"""Facts of records about where a vault lies."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from .facts import Facts

__all__ = ["Located", "Observed"]

Provider = Annotated[str, Meta(min_length=1, max_length=32)]
Region = Annotated[str, Meta(min_length=1, max_length=64)]


class Observed(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Where a provider said that the primary store lies."""

    provider: Provider
    region: Region


class Located(Facts):
    """The provider was asked anew."""

    observed: Observed
