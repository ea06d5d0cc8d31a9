"""The register of requests: verbs that record what happens to one, and when it is due."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any, Literal

from attrs import evolve

from ...errors import InputError, PolicyError
from ...terms import Subject
from ..registers.event import Event
from ..registers.journal import Journal
from ..registers.records import check_day
from ..registers.register import Register
from .calendar import IsHoliday, public_holidays
from .regimes import Regime, Wait, due_on, regime_of
from .request import Refusal, Request, RequestKind
from .rules import LATEST, advanced

if TYPE_CHECKING:
    from ... import Vault

__all__ = ["Requests"]

_Asked = Literal["identity", "fee", "clarification"]


class Requests(Register[Request]):
    """
    Requests of people, from receipt to answer (GDPR Art. 12, 15 to 22, and other laws).

    Verbs take a request as it was given by this register, or its id, and give its
    new version. Given as it was, it has to be the newest one still. ``on`` is the
    day on which something happened, today where it is left out.

    Every verb raises InputError where the rules do not allow it in that state, NotFoundError
    where there is no such request, ConflictError where it was changed meanwhile,
    and PolicyError where the gate refuses.
    """

    name = "requests"
    type = Request
    begins = "receive"

    def __init__(self, vault: Vault, journal: Journal, is_holiday: IsHoliday | None) -> None:
        super().__init__(vault, journal)
        self._given = is_holiday

    def receive(
        self,
        subject: Subject,
        *,
        kind: RequestKind,
        received_on: date,
        channel: str,
        regime: str = "GDPR",
        requester: Literal["subject", "parent", "agent"] = "subject",
        requester_id: str | None = None,
        authority_evidence: str | None = None,
        scope: str | None = None,
    ) -> Request:
        """
        Record that a request came, and until when it is to be answered.

        Args:
            subject: Whom it is about; the record is sealed under that subject's records.
            kind: What is asked for.
            received_on: The day on which it came; the period is counted from it.
            channel: How it came: email, form, letter.
            regime: GDPR, UK_GDPR, FADP, FERPA or COPPA.
            requester: Who asks.
            requester_id: The actor that they are in your application; may approve nothing.
            authority_evidence: For a parent or agent: what shows that they may ask.
            scope: To which data it is limited, in words.

        Raises:
            InputError: No keeper is recorded, the day is in the future, a field is not as it
                must be, or no calendar of public holidays is at hand.
        """
        law, today = regime_of(regime), self._today()
        if check_day("received_on", received_on) > today:
            raise InputError("received_on is in the future")
        if requester != "subject" and authority_evidence is None:
            raise InputError(
                "whoever asks for somebody else shows that they may: authority_evidence="
            )
        due = self._due(law, received_on, (), today)
        request = Request(
            kind,
            regime=law.name,
            received_on=received_on,
            channel=channel,
            due_on=due,
            first_due_on=due,
            requester=requester,
            requester_id=requester_id,
            authority_evidence=authority_evidence,
            scope=scope,
            subject=subject,
        )
        return self._begin(request)

    def acknowledge(self, request: Request | str, *, on: date | None = None) -> Request:
        """Record that the person was told that the request came."""
        return self._happen("acknowledge", request, on)

    def ask(self, request: Request | str, what: _Asked, *, on: date | None = None) -> Request:
        """
        Record that the person was asked to show who they are, for a fee, or what they mean.

        Under UK_GDPR the clock starts when the first two came, and stands while the third
        is missing. Under other laws it runs on: the GDPR knows no pause, and one that a
        guideline tolerates is not relied on here.
        """
        return self._ask("ask", request, what, on)

    def came(self, request: Request | str, what: _Asked, *, on: date | None = None) -> Request:
        """Record that the fee or the clarification came that the person was asked for."""
        return self._ask("come", request, what, on)

    def verify_identity(
        self, request: Request | str, *, method: str, on: date | None = None
    ) -> Request:
        """
        Record that it was verified who asks, and how; evidence itself is not to be kept.

        Args:
            request: Which.
            method: Such as ``login``.
            on: The day on which what was needed for it came.
        """
        known, day = self._known_at(request, on)
        waits = [_closed(wait, "identity", day) for wait in known.waits]
        fields = {"method": method, **self._deadlines(known, waits)}
        return self._happen("verify_identity", request, day, fields)

    def fail_identity(
        self, request: Request | str, *, reason: str, on: date | None = None
    ) -> Request:
        """Record that it could not be verified who asks; verify or refuse later."""
        return self._happen("fail_identity", request, on, reason=reason)

    def accept(
        self, request: Request | str, *, ground: str | None = None, on: date | None = None
    ) -> Request:
        """Record that the request will be fulfilled, on which ground, such as A17-1-b."""
        return self._happen("accept", request, on, {"ground": ground})

    def refuse(
        self,
        request: Request | str,
        *,
        code: str,
        reason: str,
        complaint: str,
        court: str,
        told_on: date | None = None,
    ) -> Request:
        """
        Record that the request is refused, and what the person was told (Art. 12(4)).

        After the first period that is recorded as the violation ``refusal_late``.

        Args:
            request: Which.
            code: The provision: A12-5, A17-3-e, A15-4.
            reason: Why, as the person was told.
            complaint: To which authority they can complain.
            court: To which court they can go.
            told_on: When they were told.
        """
        return self._decline("refuse", request, told_on, code, reason, complaint, court)

    def extend(
        self,
        request: Request | str,
        *,
        reason: str,
        told_on: date | None = None,
        until: date | None = None,
    ) -> Request:
        """
        Extend the period, of which the person has to be told within the first one (Art. 12(3)).

        Args:
            request: Which.
            reason: Complexity or number of requests, in words.
            told_on: When the person was told.
            until: Under FADP: the day that the person was told of.

        Raises:
            PolicyError: The person was told too late; kind "extension_late". That is recorded as
                a violation, and the request stays due when it was.
        """
        known, day = self._known_at(request, told_on)
        law = regime_of(known.regime)
        if law.names_the_day != (until is not None):
            raise InputError(
                f"under {law.name} an extension {'names' if law.names_the_day else 'has'} "
                f"{'a day' if law.names_the_day else 'a length of its own'}: until="
            )
        due = until or self._due(law, known.received_on, known.waits, day, extended=True)
        made = self._happen("extend", request, day, {"due_on": due}, reason=reason)
        if not made.is_extended:
            raise PolicyError(
                f"request {made.id[:8]} was due on {made.first_due_on}, and the person was "
                f"told of the extension on {day}: too late. The violation is recorded; "
                f"the answer is due as before.",
                kind="extension_late",
                request=made,
            )
        return made

    def start(self, request: Request | str, *, on: date | None = None) -> Request:
        """Record that work goes on: the first time, after a wait, or after a part was answered."""
        return self._happen("start", request, on)

    def wait(self, request: Request | str, *, awaits: str, on: date | None = None) -> Request:
        """Record that work waits for somebody else; the period runs on."""
        return self._happen("await", request, on, {"awaits": awaits})

    def approve(self, request: Request | str, *, on: date | None = None) -> Request:
        """
        Record that the vault's actor approves what is to be done.

        Raises:
            InputError: It is the requester, or has approved it before.
        """
        return self._happen("approve", request, on)

    def fulfil(self, request: Request | str, *, on: date | None = None) -> Request:
        """Record that all was done; after the period also the violation ``answer_late``."""
        return self._happen("fulfil", request, on)

    def fulfil_partly(
        self,
        request: Request | str,
        *,
        code: str,
        reason: str,
        complaint: str,
        court: str,
        told_on: date | None = None,
    ) -> Request:
        """Record that a part was done, and why not the rest; as for :meth:`refuse`."""
        return self._decline("fulfil_partly", request, told_on, code, reason, complaint, court)

    def fail(
        self,
        request: Request | str,
        *,
        code: str,
        reason: str,
        complaint: str,
        court: str,
        told_on: date | None = None,
    ) -> Request:
        """Record that what was accepted could not be done, and why; as for :meth:`refuse`."""
        return self._decline("fail", request, told_on, code, reason, complaint, court)

    def withdraw(self, request: Request | str, *, on: date | None = None) -> Request:
        """Record that the person took the request back."""
        return self._happen("withdraw", request, on)

    def mark_duplicate(
        self, request: Request | str, of: Request | str, *, on: date | None = None
    ) -> Request:
        """
        Record that a request is another one over again; who asks has to be verified all the same.

        Raises:
            InputError: Who asks was not verified, or the other is about somebody or something else.
        """
        known, other = self.get(request), self.get(of)
        if (known.subject, known.kind) != (other.subject, other.kind):
            raise InputError("a duplicate is about the same subject, and asks for the same")
        return self._happen("mark_duplicate", request, on, {"of": other.id})

    def due(self, *, within_days: int = 7) -> builtins.list[Request]:
        """
        Give the open requests that are due within some days or overdue, most urgent first.

        Where the clock stands, ``due_on`` of what is given is what it would be if the answer came
        today.
        """
        today = self._today()
        found = [self._as_of(request, today) for request in self.list() if request.is_open]
        soon = [each for each in found if (each.due_on - today).days <= within_days]
        return sorted(soon, key=lambda each: (each.due_on, each.received_on, each.id))

    def apply(self, old: Request | None, event: Event, actor: str | None) -> Request:
        """Give what an event makes of a request."""
        if old is not None:
            return advanced(old, event.op, event.fields, event.reason, actor)
        if event.subject is None:
            raise InputError("a request is about a subject")
        new = super().apply(None, event, actor)
        if new != _at_receipt(new) or not new.received_on <= new.due_on <= new.received_on + LATEST:
            raise InputError("a request begins when it is received, and with nothing done")
        return new

    def _happen(
        self,
        op: str,
        request: Request | str,
        on: date | None,
        fields: Mapping[str, Any] | None = None,
        *,
        reason: str | None = None,
    ) -> Request:
        today = self._today()
        day = today if on is None else check_day("the day", on)
        if day > today:
            raise InputError("what is recorded has happened: the day is in the future")
        return self._go_on(op, request, {"on": day, **(fields or {})}, reason=reason)

    def _decline(
        self,
        op: str,
        request: Request | str,
        told_on: date | None,
        code: str,
        reason: str,
        complaint: str,
        court: str,
    ) -> Request:
        day = self._today() if told_on is None else check_day("told_on", told_on)
        refusal = Refusal(code, reason=reason, complaint=complaint, court=court, told_on=day)
        return self._happen(op, request, day, {"refusal": refusal})

    def _ask(self, op: str, request: Request | str, what: _Asked, on: date | None) -> Request:
        known, day = self._known_at(request, on)
        if op == "ask":
            waits = [*known.waits, Wait(what, asked_on=day)]
        else:
            waits = [_closed(wait, what, day) for wait in known.waits]
        return self._happen(op, request, day, {"what": what, **self._deadlines(known, waits)})

    def _known_at(self, request: Request | str, on: date | None) -> tuple[Request, date]:
        return self.get(request), self._today() if on is None else check_day("the day", on)

    def _deadlines(self, known: Request, waits: builtins.list[Wait]) -> dict[str, date]:
        """Give both days on which a request is due, given what was asked of the person."""
        law = regime_of(known.regime)
        if not law.stops_the_clock:
            return {"due_on": known.due_on, "first_due_on": known.first_due_on}
        today = min((wait.asked_on for wait in waits if not wait.came_on), default=self._today())
        first = self._due(law, known.received_on, waits, today)
        due = self._due(law, known.received_on, waits, today, extended=known.is_extended)
        return {"due_on": due, "first_due_on": first}

    def _as_of(self, request: Request, today: date) -> Request:
        if not request.is_waiting:
            return request
        law = regime_of(request.regime)
        extended = request.is_extended
        due = self._due(law, request.received_on, request.waits, today, extended=extended)
        return evolve(request, due_on=due)

    def _due(
        self, law: Regime, received_on: date, waits: Any, today: date, *, extended: bool = False
    ) -> date:
        is_holiday = self._is_holiday() if law.ends_on_working_day else _never
        return due_on(
            law, received_on, waits=waits, today=today, is_holiday=is_holiday, extended=extended
        )

    def _is_holiday(self) -> IsHoliday:
        if self._given is not None:
            return self._given
        keeper = self._keeper()
        if keeper is None:
            raise InputError(
                "say first whose registers these are, for public holidays differ: "
                "Registers(vault, controller=Party(...))"
            )
        return public_holidays(keeper.country, keeper.subdivision)


def _closed(wait: Wait, what: str, on: date) -> Wait:
    return evolve(wait, came_on=on) if wait.what == what and wait.came_on is None else wait


def _at_receipt(request: Request) -> Request:
    """Give a request as it is when it has just been received."""
    return Request(
        request.kind,
        regime=request.regime,
        received_on=request.received_on,
        channel=request.channel,
        due_on=request.due_on,
        first_due_on=request.due_on,
        requester=request.requester,
        requester_id=request.requester_id,
        authority_evidence=request.authority_evidence,
        scope=request.scope,
        subject=request.subject,
    )


def _never(_day: date) -> bool:
    return False
