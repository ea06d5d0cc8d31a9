"""Who acts: an actor set for a block of code, as middleware does for a request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from .terms import Actor, check_actor

__all__ = ["acting_as", "current_actor"]

_actor: ContextVar[Actor | None] = ContextVar("loopbackup_actor", default=None)


@contextmanager
def acting_as(actor: Actor) -> Iterator[None]:
    """
    Act as *actor* within a ``with`` block of this thread or task.

    A verb resolves the actor once, at its entry: the vault's own
    (``open(actor=)``, ``vault.acting_as``) comes second to this one.

    Raises:
        InputError: It is no actor.
    """
    token = _actor.set(check_actor(actor))
    try:
        yield
    finally:
        _actor.reset(token)


def current_actor() -> Actor | None:
    """Give the actor of the innermost block, if any."""
    return _actor.get()
