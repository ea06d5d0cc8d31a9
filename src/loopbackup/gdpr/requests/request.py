"""A person's request, as far as it has come."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Final, Literal

from attrs import field, frozen
from msgspec import Meta

from ..registers.records import Id, Record, Short, Text
from .regimes import RegimeName, Wait, regime_of

__all__ = [
    "AT_WORK",
    "OPEN",
    "UNDECIDED",
    "Alert",
    "Refusal",
    "Request",
    "RequestKind",
    "State",
    "Violation",
]

RequestKind = Literal[
    "access",
    "portability",
    "rectify",
    "erase",
    "restrict",
    "object",
    "withdraw",
    "complaint",
    "review",
]
State = Literal[
    "received",
    "acknowledged",
    "identity_pending",
    "accepted",
    "in_progress",
    "awaiting_external",
    "fulfilled",
    "partially_fulfilled",
    "unfulfilled",
    "rejected",
    "withdrawn",
    "duplicate",
]
Identity = Literal["unchecked", "asked", "verified", "failed"]
Violation = Literal["extension_late", "refusal_late", "answer_late"]
Alert = Literal["half", "most", "due", "overdue"]

UNDECIDED: Final = frozenset({"received", "acknowledged", "identity_pending"})
AT_WORK: Final = frozenset({"accepted", "in_progress", "awaiting_external"})
OPEN: Final = UNDECIDED | AT_WORK


@frozen
class Refusal:
    """
    Why not, or not all, and what the person can do about it (Art. 12(4)).

    ``code`` is the provision it rests on, such as A12-5, A17-3-e or A15-4.
    """

    code: Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9().-]{0,31}$")]
    reason: Text = field(kw_only=True)
    complaint: Text = field(kw_only=True)
    """Which authority takes a complaint."""
    court: Text = field(kw_only=True)
    """Which court there is."""
    told_on: date = field(kw_only=True)


@frozen
class Request(Record):
    """
    What somebody asks for under data-protection law, as far as it has come.

    ``due_on`` is the last day for the answer, the extension included;
    ``first_due_on`` that without it, by which the person has to be told of an
    extension or a refusal.
    """

    kind: RequestKind
    regime: RegimeName = field(kw_only=True)
    received_on: date = field(kw_only=True)
    channel: Short = field(kw_only=True)
    due_on: date = field(kw_only=True)
    first_due_on: date = field(kw_only=True)
    requester: Literal["subject", "parent", "agent"] = field(default="subject", kw_only=True)
    requester_id: Short | None = field(default=None, kw_only=True)
    """The actor that the requester is in the host, who may approve nothing."""
    authority_evidence: Text | None = field(default=None, kw_only=True)
    """Of a parent or agent: what shows that they may ask."""
    scope: Text | None = field(default=None, kw_only=True)
    state: State = field(default="received", kw_only=True)
    acknowledged_on: date | None = field(default=None, kw_only=True)
    identity: Identity = field(default="unchecked", kw_only=True)
    identity_method: Short | None = field(default=None, kw_only=True)
    verified_on: date | None = field(default=None, kw_only=True)
    waits: Annotated[tuple[Wait, ...], Meta(max_length=64)] = field(default=(), kw_only=True)
    ground: Short | None = field(default=None, kw_only=True)
    extension_reason: Text | None = field(default=None, kw_only=True)
    extension_told_on: date | None = field(default=None, kw_only=True)
    awaits: Text | None = field(default=None, kw_only=True)
    """Whom or what the work waits for."""
    refusal: Refusal | None = field(default=None, kw_only=True)
    approvals: Annotated[tuple[Short, ...], Meta(max_length=64)] = field(default=(), kw_only=True)
    """The ids of the actors who approved."""
    duplicate_of: Id | None = field(default=None, kw_only=True)
    closed_on: date | None = field(default=None, kw_only=True)
    violations: Annotated[tuple[Violation, ...], Meta(max_length=64)] = field(
        default=(), kw_only=True
    )

    @property
    def is_open(self) -> bool:
        """Whether an answer is still owed."""
        return self.state in OPEN

    @property
    def is_extended(self) -> bool:
        """Whether an extension holds."""
        return self.extension_reason is not None and "extension_late" not in self.violations

    @property
    def is_waiting(self) -> bool:
        """Whether the person owes an answer by which the clock starts or goes on."""
        waits = any(wait.came_on is None for wait in self.waits)
        return waits and regime_of(self.regime).stops_the_clock

    def is_late(self, on: date, last: date) -> bool:
        """Tell whether *on* is after *last*, unless the clock stands since before that."""
        return on > last and not self._stands(last)

    def _stands(self, last: date) -> bool:
        open_since = [wait.asked_on for wait in self.waits if wait.came_on is None]
        return self.is_waiting and min(open_since) <= last

    def alert(self, on: date) -> Alert | None:
        """
        Tell how far the time has run on a day: half, most (80 %), the last day, over.

        None before that, while the clock stands, and for a request that is closed.
        """
        if not self.is_open or self._stands(self.due_on):
            return None
        if on >= self.due_on:
            return "due" if on == self.due_on else "overdue"
        used, whole = (on - self.received_on).days, (self.due_on - self.received_on).days
        if used * 5 >= whole * 4:
            return "most"
        return "half" if used * 2 >= whole else None
