"""
Holds and restrictions: why they stand, beside the marks that every program obeys.

The mark is set first and ended first. Should the process die before the event,
the data are as safe as the mark says; :attr:`Holds.unregistered` finds what has
no event, and the same call again records the end of what has ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from typing import ClassVar, Literal, TypeVar

from attrs import field, frozen

from ...errors import InputError, NotFoundError
from ...terms import Hold, Subject, check_reason
from .event import Event, checked, plain
from .records import Id, Record, Short, Text, check_day
from .register import Register

__all__ = ["Authority", "HoldRecord", "Holds", "RestrictionRecord", "Restrictions"]

R = TypeVar("R", bound=Record)
Authority = Literal["A17-3-a", "A17-3-b", "A17-3-c", "A17-3-d", "A17-3-e", "court", "other"]
Ground = Literal["A18-1-a", "A18-1-b", "A18-1-c", "A18-1-d"]


class _Marks(Register[R]):
    """What is placed on a subject and ended again, each once."""

    begins = "place"
    ends: ClassVar[str]

    def begins_with(self, record_id: str | None) -> bool:
        """Tell whether the record has the id of a mark."""
        return record_id is not None

    def apply(self, old: R | None, event: Event, actor: str | None) -> R:
        """Give what an event makes of a mark."""
        if old is None and event.subject is None:
            raise InputError("a mark is about a subject")
        if old is None and event.fields.keys() & self.fixed:
            raise InputError("a mark does not begin with its end")
        if old is not None and event.op == self.ends:
            if plain(old).keys() & self.fixed:
                raise InputError("it has ended before")
            if not event.fields.keys() <= self.fixed:
                raise InputError("the end of a mark changes nothing else")
            return self._made(event, {**plain(old), **event.fields})
        return super().apply(old, event, actor)


@frozen
class HoldRecord(Record):
    """Why a hold stands, on what authority (Art. 17(3)), and when to look at it again."""

    matter: Text
    review_on: date = field(kw_only=True)
    authority: Authority = field(default="A17-3-e", kw_only=True)
    custodian: Short | None = field(default=None, kw_only=True)
    released_on: date | None = field(default=None, kw_only=True)
    release_reason: Text | None = field(default=None, kw_only=True)


class Holds(_Marks[HoldRecord]):
    """Legal holds; the id of a record is that of its mark."""

    name = "holds"
    type = HoldRecord
    ends = "release"
    fixed = frozenset({"released_on", "release_reason"})

    def place(
        self,
        subject: Subject,
        *,
        matter: str,
        review_on: date,
        authority: Authority = "A17-3-e",
        custodian: str | None = None,
    ) -> Hold:
        """
        Place a hold on a subject, and record why.

        Args:
            subject: Whose data; a tenant's own subject covers its people.
            matter: The case; sealed.
            review_on: The day on which somebody should look at it again. It does not end by itself.
            authority: The exemption of Art. 17(3) that it rests on, or ``court``.
            custodian: Who answers for it.

        Raises:
            InputError: A field is not as it must be; nothing was done.
            PolicyError: Refused. Where the hold is allowed and the recording is not, it stands
                (:attr:`unregistered`).
        """
        record = HoldRecord(
            matter, review_on=review_on, authority=authority, custodian=custodian, subject=subject
        )
        review_at = datetime.combine(_as_it_must_be(record).review_on, time(), UTC)
        hold = self._vault.hold(subject, reason=matter, review_at=review_at)
        self._begin(record, record_id=hold.id)
        return hold

    def release(self, hold: Hold | HoldRecord | str, *, reason: str) -> HoldRecord:
        """
        End a hold, and record why.

        Raises:
            NotFoundError: It is not in force; kind "hold".
            PolicyError: Refused.
        """
        known = self.get(hold.id if isinstance(hold, Hold) else hold)
        if known.released_on is not None:
            raise NotFoundError("this hold was released before", kind="hold")
        with _ended_before("hold"):
            self._vault.release(known.id, reason=reason)
        fields = {"released_on": self._today(), "release_reason": reason}
        return self._go_on("release", known, fields)

    @property
    def unregistered(self) -> tuple[Hold, ...]:
        """The holds on the vault that this register does not know, oldest first."""
        known = self._journal.shelf(self._vault, self.name).current
        return tuple(hold for hold in self._vault.holds if hold.id not in known)


@frozen
class RestrictionRecord(Record):
    """Why somebody's data are stored and no more (Art. 18)."""

    ground: Ground
    reason: Text = field(kw_only=True)
    request: Id | None = field(default=None, kw_only=True)
    told_on: date | None = field(default=None, kw_only=True)
    """When the person was told that it will be lifted (Art. 18(3))."""
    lifted_on: date | None = field(default=None, kw_only=True)
    lift_reason: Text | None = field(default=None, kw_only=True)


class Restrictions(_Marks[RestrictionRecord]):
    """Restrictions of processing; the id of a record is that of its mark."""

    name = "restrictions"
    type = RestrictionRecord
    ends = "lift"
    fixed = frozenset({"told_on", "lifted_on", "lift_reason"})

    def place(
        self, subject: Subject, *, ground: Ground, reason: str, request: str | None = None
    ) -> RestrictionRecord:
        """
        Restrict the processing of a subject's data, and record why; until it is lifted.

        Args:
            subject: Whose data.
            ground: The letter of Art. 18(1).
            reason: Why; sealed.
            request: The id of the request that asks for it.

        Raises:
            InputError: A field is not as it must be; nothing was done.
            PolicyError: Refused.
        """
        record = RestrictionRecord(ground, reason=reason, request=request, subject=subject)
        _as_it_must_be(record)
        mark = self._vault.ledger.append("restriction", {"reason": reason}, subject=subject)
        return self._begin(record, record_id=mark)

    def lift(
        self, restriction: RestrictionRecord | str, *, told_on: date, reason: str
    ) -> RestrictionRecord:
        """
        Lift a restriction, after the person was told of it, and record why.

        Args:
            restriction: The record, or its id.
            told_on: The day on which the person was told that it will be lifted (Art. 18(3)).
            reason: Why.

        Raises:
            InputError: The person was not told before; nothing was done.
            NotFoundError: It is not in force; kind "restriction".
            PolicyError: Refused.
        """
        known = self.get(restriction)
        today = self._today()
        if known.lifted_on is not None:
            raise NotFoundError("this restriction was lifted before", kind="restriction")
        if check_day("told_on", told_on) > today:
            raise InputError("told_on is the day on which the person was told: before it is lifted")
        payload = {"reason": check_reason(reason), "lifts": known.id}
        with _ended_before("restriction"):
            self._vault.ledger.append("restriction", payload, subject=known.subject)
        fields = {"told_on": told_on, "lifted_on": today, "lift_reason": reason}
        return self._go_on("lift", known, fields)

    def apply(
        self, old: RestrictionRecord | None, event: Event, actor: str | None
    ) -> RestrictionRecord:
        """Give what an event makes of a restriction; the person is told before its end."""
        new = super().apply(old, event, actor)
        told, lifted = new.told_on, new.lifted_on
        if lifted is not None and (told is None or told > lifted):
            raise InputError("the person is told before a restriction is lifted (Art. 18(3))")
        return new


def _as_it_must_be(record: R) -> R:
    """Give a record as it will be read; InputError before anything is done for it."""
    return checked(type(record), plain(record))


@contextmanager
def _ended_before(kind: str) -> Iterator[None]:
    """Go on where a mark was ended already, by a call that did not live to record it."""
    try:
        yield
    except NotFoundError as exc:
        if exc.kind != kind:
            raise
