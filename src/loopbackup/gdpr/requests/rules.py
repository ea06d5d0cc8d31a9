"""
What may happen to a request: one function per event.

The functions are pure. They decide when an event is written and again whenever it
is read, so that no program can bring a request into a state that the rules
do not allow. Days on which an answer is due were computed when the event was
written: reading needs no calendar, and gives the same days everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, timedelta
from typing import Any, Final, Literal, TypeAlias

from attrs import evolve, frozen

from ...errors import InputError
from ..registers.event import checked
from ..registers.records import Id, Short, Text
from .regimes import Wait, regime_of
from .request import AT_WORK, OPEN, UNDECIDED, Refusal, Request, State, Violation

__all__ = ["LATEST", "RULES", "advanced"]


@frozen(kw_only=True)
class _On:
    on: date


@frozen(kw_only=True)
class _Asked(_On):
    what: Literal["identity", "fee", "clarification"]
    due_on: date
    first_due_on: date


@frozen(kw_only=True)
class _Verified(_On):
    method: Short
    due_on: date
    first_due_on: date


@frozen(kw_only=True)
class _Accepted(_On):
    ground: Short | None = None


@frozen(kw_only=True)
class _Extended(_On):
    due_on: date


@frozen(kw_only=True)
class _Awaits(_On):
    awaits: Text


@frozen(kw_only=True)
class _Refused(_On):
    refusal: Refusal


@frozen(kw_only=True)
class _Duplicate(_On):
    of: Id


Rule: TypeAlias = Callable[[Request, Any, str | None, str | None], Request]
"""Of a request, a body, the reason and the actor makes the next request; InputError if not."""


def _acknowledge(old: Request, body: _On, *_: Any) -> Request:
    return evolve(old, state="acknowledged", acknowledged_on=body.on)


def _ask(old: Request, body: _Asked, *_: Any) -> Request:
    if any(wait.what == body.what and wait.came_on is None for wait in old.waits):
        raise InputError(f"the {body.what} was asked for, and has not come yet")
    waits = (*old.waits, Wait(body.what, asked_on=body.on))
    new = evolve(old, waits=waits, due_on=body.due_on, first_due_on=body.first_due_on)
    if body.what != "identity":
        return new
    if old.identity == "verified":
        raise InputError("the identity is verified already")
    state = "identity_pending" if old.state in UNDECIDED else old.state
    return evolve(new, identity="asked", state=state)


def _came(old: Request, body: _Asked, *_: Any) -> Request:
    if body.what == "identity":
        raise InputError("that an identity was shown is recorded by verify_identity")
    waits = _answered(old, body.what, body.on)
    if waits == old.waits:
        raise InputError(f"no {body.what} was asked for")
    return evolve(old, waits=waits, due_on=body.due_on, first_due_on=body.first_due_on)


def _verify(old: Request, body: _Verified, *_: Any) -> Request:
    if old.identity == "verified":
        raise InputError("the identity is verified already")
    return evolve(
        old,
        identity="verified",
        identity_method=body.method,
        verified_on=body.on,
        waits=_answered(old, "identity", body.on),
        state="acknowledged" if old.state == "identity_pending" else old.state,
        due_on=body.due_on,
        first_due_on=body.first_due_on,
    )


def _answered(old: Request, what: str, on: date) -> tuple[Wait, ...]:
    for wait in old.waits:
        if wait.what == what and wait.came_on is None and on < wait.asked_on:
            raise InputError(f"the {what} came before it was asked for")
    return tuple(
        evolve(wait, came_on=on) if wait.what == what and wait.came_on is None else wait
        for wait in old.waits
    )


def _fail_identity(old: Request, _body: _On, reason: str | None, *_: Any) -> Request:
    if reason is None:
        raise InputError("say why the identity could not be verified")
    if old.identity == "verified":
        raise InputError("the identity is verified already")
    return evolve(old, identity="failed")


def _accept(old: Request, body: _Accepted, *_: Any) -> Request:
    _needs_identity(old)
    return evolve(old, state="accepted", ground=body.ground)


def _needs_identity(old: Request) -> None:
    if old.identity != "verified":
        raise InputError(
            "the identity is not verified: verify_identity(request, method=...) comes first"
        )


def _extend(old: Request, body: _Extended, reason: str | None, *_: Any) -> Request:
    regime = regime_of(old.regime)
    if not regime.may_extend:
        raise InputError(f"{regime.name} knows no extension ({regime.source})")
    if old.extension_reason is not None:
        raise InputError("a period is extended once, and was")
    if reason is None:
        raise InputError("an extension says why, and the person is told (Art. 12(3))")
    if body.due_on < old.due_on:
        raise InputError("an extension does not shorten the period")
    new = evolve(old, extension_reason=reason, extension_told_on=body.on)
    if old.is_late(body.on, old.first_due_on):
        return _violated(new, "extension_late")
    return evolve(new, due_on=body.due_on)


def _start(old: Request, _body: _On, *_: Any) -> Request:
    return evolve(old, state="in_progress", closed_on=None, awaits=None)


def _await(old: Request, body: _Awaits, *_: Any) -> Request:
    return evolve(old, state="awaiting_external", awaits=body.awaits)


def _refuse(old: Request, body: _Refused, *_: Any) -> Request:
    return _declined(old, body, "rejected")


def _fulfil_partly(old: Request, body: _Refused, *_: Any) -> Request:
    return _declined(old, body, "partially_fulfilled")


def _fail(old: Request, body: _Refused, *_: Any) -> Request:
    return _declined(old, body, "unfulfilled")


def _declined(old: Request, body: _Refused, state: State) -> Request:
    told = body.refusal.told_on
    if told != body.on:
        raise InputError("a refusal is of the day on which the person is told")
    new = evolve(old, state=state, refusal=body.refusal, closed_on=told, awaits=None)
    last = old.first_due_on if state == "rejected" else old.due_on
    if not old.is_late(told, last):
        return new
    return _violated(new, "refusal_late" if state == "rejected" else "answer_late")


def _fulfil(old: Request, body: _On, *_: Any) -> Request:
    new = evolve(old, state="fulfilled", closed_on=body.on, awaits=None)
    return _violated(new, "answer_late") if old.is_late(body.on, old.due_on) else new


def _withdraw(old: Request, body: _On, *_: Any) -> Request:
    return evolve(old, state="withdrawn", closed_on=body.on)


def _mark_duplicate(old: Request, body: _Duplicate, *_: Any) -> Request:
    _needs_identity(old)
    if body.of == old.id:
        raise InputError("a request is no duplicate of itself")
    return evolve(old, state="duplicate", duplicate_of=body.of, closed_on=body.on)


def _approve(old: Request, _body: _On, _reason: str | None, actor: str | None) -> Request:
    _needs_identity(old)
    if actor is None:
        raise InputError("an approval is by somebody")
    subject = old.subject or ()
    if actor == old.requester_id or actor in subject[-1:]:
        raise InputError("nobody approves a request of their own")
    if actor in old.approvals:
        raise InputError("the same actor has approved it before")
    return evolve(old, approvals=(*old.approvals, actor))


def _violated(request: Request, what: Violation) -> Request:
    return evolve(request, violations=(*request.violations, what))


RULES: Final[Mapping[str, tuple[frozenset[str], Any, Rule]]] = {
    "acknowledge": (frozenset({"received"}), _On, _acknowledge),
    "ask": (OPEN, _Asked, _ask),
    "come": (OPEN, _Asked, _came),
    "verify_identity": (UNDECIDED, _Verified, _verify),
    "fail_identity": (UNDECIDED, _On, _fail_identity),
    "accept": (UNDECIDED, _Accepted, _accept),
    "extend": (OPEN, _Extended, _extend),
    "start": (
        frozenset({"accepted", "awaiting_external", "partially_fulfilled"}),
        _On,
        _start,
    ),
    "await": (frozenset({"accepted", "in_progress"}), _Awaits, _await),
    "approve": (AT_WORK, _On, _approve),
    "refuse": (UNDECIDED | {"accepted"}, _Refused, _refuse),
    "fulfil": (AT_WORK, _On, _fulfil),
    "fulfil_partly": (AT_WORK, _Refused, _fulfil_partly),
    "fail": (AT_WORK, _Refused, _fail),
    "withdraw": (OPEN, _On, _withdraw),
    "mark_duplicate": (UNDECIDED, _Duplicate, _mark_duplicate),
}
"""By event: the states in which it may happen, its body, and what it does."""

LATEST: Final = timedelta(days=366 * 5)


def advanced(
    old: Request, op: str, fields: dict[str, Any], reason: str | None, actor: str | None
) -> Request:
    """
    Give what an event makes of a request.

    Raises:
        InputError: It may not happen in this state, or not on that day, or is malformed.
    """
    if op not in RULES:
        raise InputError(f"nothing like {op[:32]!r} happens to a request; it has verbs of its own")
    states, type_, rule = RULES[op]
    if old.state not in states:
        raise InputError(f"a request that is {old.state} takes no {op}")
    body = checked(type_, fields)
    if body.on < old.received_on:
        raise InputError("nothing happens to a request before it is received")
    for name in ("due_on", "first_due_on"):
        due = getattr(body, name, old.received_on)
        if not old.received_on <= due <= old.received_on + LATEST:
            raise InputError(f"{name} is out of all bounds")
    return rule(old, body, reason, actor)
