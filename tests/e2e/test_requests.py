"""A request goes from receipt to answer by the rules, in time, and for every process the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import pytest
from attrs import frozen
from tests.e2e.support import Clock, create, reopen

import loopbackup as lb
from loopbackup import gdpr
from loopbackup.vault.store.memory import MemoryStore

ACME = gdpr.Party("Acme AB", country="SE", time_zone="Europe/Stockholm")
ACME_UK = gdpr.Party("Acme AB", country="GB", subdivision="ENG", time_zone="Europe/London")
USER = ("acme", "user-42")
WHERE: dict[str, Any] = {"complaint": "IMY, Stockholm", "court": "tingsrätten, Stockholm"}
NO: dict[str, Any] = {"code": "A12-5", "reason": "the fifth this week", **WHERE}


@frozen
class World:
    """Registers of an office, and the clock on its wall."""

    vault: lb.Vault
    registers: gdpr.Registers
    clock: Clock
    store: MemoryStore

    def on(self, day: date) -> None:
        """Let it be noon of a day."""
        self.clock.now = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)

    def receive(self, day: date = date(2026, 11, 2), **more: Any) -> gdpr.Request:
        """Receive a request on a day."""
        self.on(day)
        fields: dict[str, Any] = {"kind": "erase", "channel": "email", **more}
        return self.registers.requests.receive(USER, received_on=day, **fields)

    def verified(self, day: date = date(2026, 11, 2), **more: Any) -> gdpr.Request:
        """Receive a request of somebody who logged in."""
        return self.registers.requests.verify_identity(self.receive(day, **more), method="login")

    def accepted(self, **more: Any) -> gdpr.Request:
        """Receive and accept a request."""
        return self.registers.requests.accept(self.verified(**more), ground="A17-1-b")


def world(keeper: gdpr.Party) -> Iterator[World]:
    """Make an office."""
    clock, store = Clock(), MemoryStore()
    clock.now = datetime(2026, 1, 2, 12, tzinfo=UTC)
    create(store, clock=clock)
    with reopen(store, actor=lb.Actor("anna", roles={"dpo"}), clock=clock) as vault:
        yield World(vault, gdpr.Registers(vault, controller=keeper, clock=clock), clock, store)


@pytest.fixture
def acme() -> Iterator[World]:
    """An office in Stockholm."""
    yield from world(ACME)


@pytest.fixture
def acme_uk() -> Iterator[World]:
    """An office in London."""
    yield from world(ACME_UK)


# ---- from receipt to answer


def test_a_request_from_receipt_to_answer(acme: World) -> None:
    """Each step is an event; another process sees the same, without a calendar."""
    requests = acme.registers.requests
    request = acme.receive()
    assert (request.state, request.due_on) == ("received", date(2026, 12, 2))

    acme.on(date(2026, 11, 4))
    request = requests.acknowledge(request)
    request = requests.verify_identity(request, method="login")
    request = requests.accept(request, ground="A17-1-b")
    request = requests.start(request)
    request = requests.wait(request, awaits="the processor's answer")
    request = requests.start(request)
    acme.on(date(2026, 11, 30))
    request = requests.fulfil(request)

    assert (request.state, request.closed_on) == ("fulfilled", date(2026, 11, 30))
    assert (request.violations, request.is_open) == ((), False)
    assert [change.op for change in requests.history(request)] == [
        "receive",
        "acknowledge",
        "verify_identity",
        "accept",
        "start",
        "await",
        "start",
        "fulfil",
    ]
    with reopen(acme.store, read_only=True) as vault:
        again = gdpr.Registers(vault, is_holiday=lambda _: True)
        assert again.requests.get(request.id) == request


@pytest.mark.parametrize(
    ("received_on", "due_on"),
    [
        (date(2026, 1, 31), date(2026, 3, 2)),
        (date(2028, 1, 31), date(2028, 2, 29)),
        (date(2026, 3, 5), date(2026, 4, 7)),
        (date(2026, 5, 6), date(2026, 6, 8)),
        (date(2026, 11, 25), date(2026, 12, 28)),
    ],
    ids=str,
)
def test_a_request_is_due_on_a_working_day_of_the_keepers_country(
    acme: World, received_on: date, due_on: date
) -> None:
    """6 June 2026 is Sweden's national day, and a Saturday; then comes a Sunday."""
    assert acme.receive(received_on).due_on == due_on


def test_the_day_is_that_of_the_keepers_time_zone(acme: World) -> None:
    """At half past eleven in the evening UTC it is tomorrow in Stockholm."""
    acme.clock.now = datetime(2026, 11, 2, 23, 30, tzinfo=UTC)

    request = acme.registers.requests.receive(
        USER, kind="access", received_on=date(2026, 11, 3), channel="form"
    )

    assert acme.registers.requests.acknowledge(request).acknowledged_on == date(2026, 11, 3)
    with pytest.raises(lb.InputError, match="future"):
        acme.registers.requests.receive(
            USER, kind="access", received_on=date(2026, 11, 4), channel="form"
        )


# ---- identity


def test_nothing_is_accepted_of_somebody_who_was_not_verified(acme: World) -> None:
    """Neither the request nor that it is a duplicate of another."""
    requests = acme.registers.requests
    first = acme.verified()
    second = acme.receive(channel="letter")

    with pytest.raises(lb.InputError, match="identity"):
        requests.accept(second)
    with pytest.raises(lb.InputError, match="identity"):
        requests.mark_duplicate(second, first)
    second = requests.ask(second, "identity")
    assert second.state == "identity_pending"
    second = requests.fail_identity(second, reason="the passport is of somebody else")
    with pytest.raises(lb.InputError, match="identity"):
        requests.mark_duplicate(second, first)

    second = requests.verify_identity(second, method="at the counter")
    second = requests.mark_duplicate(second, first)

    assert (second.state, second.duplicate_of) == ("duplicate", first.id)
    assert second.identity == "verified"


def test_a_duplicate_is_about_the_same(acme: World) -> None:
    """The same person, asking for the same."""
    requests = acme.registers.requests
    first, other = acme.verified(), acme.verified(kind="access")

    with pytest.raises(lb.InputError, match="same"):
        requests.mark_duplicate(other, first)
    with pytest.raises(lb.InputError, match="of itself"):
        requests.mark_duplicate(first, first)


def test_whoever_asks_for_somebody_else_shows_that_they_may(acme: World) -> None:
    """A parent, or an agent."""
    with pytest.raises(lb.InputError, match="authority_evidence"):
        acme.receive(requester="parent", kind="review", regime="COPPA")
    asked = acme.receive(
        requester="parent", kind="review", regime="COPPA", authority_evidence="account owner"
    )
    assert asked.requester == "parent"


# ---- extension


def test_an_extension_in_time_makes_it_three_months(acme: World) -> None:
    """The last day of the first period is in time."""
    requests = acme.registers.requests
    request = acme.accepted()
    acme.on(date(2026, 12, 2))

    request = requests.extend(request, reason="412 systems")

    assert (request.due_on, request.first_due_on) == (date(2027, 2, 2), date(2026, 12, 2))
    assert (request.is_extended, request.violations) == (True, ())
    with pytest.raises(lb.InputError, match="once"):
        requests.extend(request, reason="again")


def test_an_extension_sent_late_is_a_violation_and_extends_nothing(acme: World) -> None:
    """It is in the ledger that it was late, and the request is as overdue as before."""
    requests = acme.registers.requests
    request = acme.accepted()
    acme.on(date(2026, 12, 3))

    with pytest.raises(lb.PolicyError, match="too late") as caught:
        requests.extend(request, reason="412 systems")

    found = requests.get(request)
    assert caught.value.kind == "extension_late"
    assert caught.value.request == found
    assert (found.due_on, found.violations) == (date(2026, 12, 2), ("extension_late",))
    assert not found.is_extended
    assert requests.history(found)[-1].op == "extend"
    assert found.alert(date(2026, 12, 3)) == "overdue"


def test_laws_without_an_extension_have_none(acme: World) -> None:
    """FERPA's 45 days are all that there is; under the FADP the controller names the day."""
    requests = acme.registers.requests
    ferpa = acme.receive(regime="FERPA", kind="review")
    fadp = acme.receive(regime="FADP", kind="access")

    with pytest.raises(lb.InputError, match="no extension"):
        requests.extend(ferpa, reason="exams")
    with pytest.raises(lb.InputError, match="names a day"):
        requests.extend(fadp, reason="many records")
    with pytest.raises(lb.InputError, match="shorten"):
        requests.extend(fadp, reason="many records", until=date(2026, 11, 20))
    assert requests.extend(fadp, reason="many", until=date(2027, 1, 8)).due_on == date(2027, 1, 8)


# ---- refusal


def test_a_refusal_has_reason_complaint_and_court(acme: World) -> None:
    """Art. 12(4): and in the first period."""
    requests = acme.registers.requests
    request = acme.receive()

    for missing in ("code", "reason", "complaint", "court"):
        with pytest.raises(lb.InputError):
            requests.refuse(request, **{**NO, missing: ""})
    refused = requests.refuse(request, **NO)

    assert refused.refusal is not None
    assert refused.refusal.complaint == "IMY, Stockholm"
    assert (refused.state, refused.violations) == ("rejected", ())
    with pytest.raises(lb.InputError, match="rejected takes no"):
        requests.verify_identity(refused, method="login")


def test_a_late_refusal_or_answer_is_a_violation(acme: World) -> None:
    """An extension is time to answer, not time to refuse."""
    requests = acme.registers.requests
    refused, answered, partly = acme.accepted(), acme.accepted(), acme.accepted()
    refused = requests.extend(refused, reason="412 systems")
    acme.on(date(2026, 12, 3))

    assert requests.refuse(refused, **NO).violations == ("refusal_late",)
    assert requests.fulfil(answered).violations == ("answer_late",)
    assert requests.fulfil_partly(partly, **NO).violations == ("answer_late",)


def test_a_part_is_answered_and_the_rest_later(acme: World) -> None:
    """Such as when a hold is released."""
    requests = acme.registers.requests
    request = requests.fulfil_partly(acme.accepted(), **{**NO, "code": "A17-3-e"})
    assert (request.state, request.is_open) == ("partially_fulfilled", False)

    request = requests.start(request)

    assert (request.state, request.closed_on) == ("in_progress", None)
    assert requests.fulfil(request).state == "fulfilled"
    failed = requests.fail(acme.accepted(), **{**NO, "code": "A11-2"})
    assert failed.state == "unfulfilled"
    assert requests.withdraw(acme.receive()).state == "withdrawn"


# ---- approval


def test_nobody_approves_a_request_of_their_own(acme: World) -> None:
    """Not as the subject, not as the requester, and not twice."""
    request = acme.accepted(requester_id="karl")
    mine = acme.registers.acting_as(lb.Actor("user-42"))
    requesters = acme.registers.acting_as(lb.Actor("karl"))
    officer = acme.registers.acting_as(lb.Actor("bo"))

    with pytest.raises(lb.InputError, match="of their own"):
        mine.requests.approve(request)
    with pytest.raises(lb.InputError, match="of their own"):
        requesters.requests.approve(request)
    request = acme.registers.requests.approve(request)
    with pytest.raises(lb.InputError, match="before"):
        acme.registers.requests.approve(request)

    assert officer.requests.approve(request).approvals == ("anna", "bo")


# ---- due


def test_what_is_due_comes_most_urgent_first(acme: World) -> None:
    """Overdue ones first; closed ones not at all."""
    requests = acme.registers.requests
    late, soon = acme.receive(date(2026, 10, 1)), acme.receive(date(2026, 11, 2))
    later = acme.receive(date(2026, 11, 16))
    requests.withdraw(acme.receive(date(2026, 11, 16), channel="letter"))
    acme.on(date(2026, 11, 27))

    assert requests.due() == [late, soon]
    assert requests.due(within_days=30) == [late, soon, later]
    assert requests.due(within_days=0) == [late]
    alerts = [soon.alert(date(2026, 11, day)) for day in (16, 17, 25, 26)]
    assert alerts == [None, "half", "half", "most"]
    assert (soon.alert(soon.due_on), late.alert(date(2026, 11, 27))) == ("due", "overdue")


# ---- the United Kingdom


def test_the_uk_clock_waits_for_identity_and_clarification(acme_uk: World) -> None:
    """The time starts with the proof, and stands from question to answer."""
    requests = acme_uk.registers.requests
    request = acme_uk.receive(date(2026, 9, 1), kind="access", regime="UK_GDPR")
    request = requests.ask(request, "identity")
    assert request.is_waiting

    acme_uk.on(date(2026, 9, 3))
    request = requests.verify_identity(request, method="passport")
    assert (request.due_on, request.is_waiting) == (date(2026, 10, 5), False)

    acme_uk.on(date(2026, 9, 7))
    request = requests.ask(request, "clarification")
    acme_uk.on(date(2026, 9, 16))
    (looked,) = requests.due(within_days=60)
    request = requests.came(request, "clarification")

    assert looked.due_on == request.due_on == request.first_due_on == date(2026, 10, 13)
    request = requests.accept(request)
    request = requests.extend(request, reason="many mailboxes")
    assert (request.due_on, request.first_due_on) == (date(2026, 12, 14), date(2026, 10, 13))


def test_nobody_is_late_while_the_uk_clock_stands(acme_uk: World) -> None:
    """Unless he was late before he asked."""
    requests = acme_uk.registers.requests
    in_time = acme_uk.receive(date(2026, 9, 1), kind="access", regime="UK_GDPR")
    late = acme_uk.receive(date(2026, 7, 1), kind="access", regime="UK_GDPR")
    acme_uk.on(date(2026, 9, 7))
    in_time, late = (requests.ask(each, "clarification") for each in (in_time, late))
    acme_uk.on(date(2026, 11, 20))

    assert (in_time.alert(date(2026, 11, 20)), late.alert(date(2026, 11, 20))) == (None, "overdue")
    assert requests.refuse(in_time, **NO).violations == ()
    assert requests.refuse(late, **NO).violations == ("refusal_late",)


def test_other_clocks_run_on(acme: World) -> None:
    """The GDPR knows no pause."""
    requests = acme.registers.requests
    request = requests.ask(acme.receive(), "clarification")
    acme.on(date(2026, 11, 20))

    request = requests.came(request, "clarification")

    assert (request.due_on, request.is_waiting) == (date(2026, 12, 2), False)
    with pytest.raises(lb.InputError, match="no clarification"):
        requests.came(request, "clarification")
    with pytest.raises(lb.InputError, match="no fee"):
        requests.came(request, "fee")


# ---- wrong use, races, hostile events


def test_what_the_state_does_not_allow_is_refused(acme: World) -> None:
    """Nothing is recorded."""
    requests = acme.registers.requests
    request = acme.receive()
    before = len(acme.vault.ledger)

    for call in (requests.start, requests.fulfil, requests.approve):
        with pytest.raises(lb.InputError, match="received takes no"):
            call(request)
    with pytest.raises(lb.InputError, match="before it is received"):
        requests.acknowledge(request, on=date(2026, 11, 1))
    with pytest.raises(lb.InputError, match="future"):
        requests.acknowledge(request, on=date(2026, 11, 3))
    with pytest.raises(lb.InputError, match="verbs of its own"):
        requests.change(request, state="fulfilled")
    with pytest.raises(lb.InputError, match="a day"):
        requests.acknowledge(request, on=datetime(2026, 11, 2, tzinfo=UTC))
    with pytest.raises(lb.InputError, match="a regime is one of"):
        acme.receive(regime="CCPA")
    with pytest.raises(lb.InputError):
        acme.receive(kind="everything")

    assert len(acme.vault.ledger) == before


def test_whoever_was_slower_hears_of_it(acme: World) -> None:
    """Two officers decide at once: one decision counts."""
    request = acme.verified()
    acme.registers.requests.accept(request)

    with pytest.raises(lb.ConflictError):
        acme.registers.requests.refuse(request, **NO)

    assert acme.registers.requests.get(request).state == "accepted"


def test_without_a_keeper_no_day_can_be_told() -> None:
    """Public holidays are those of the place where the answer is due."""
    with lb.testing.memory_vault() as vault:
        registers = gdpr.Registers(vault)
        with pytest.raises(lb.InputError, match="controller="):
            registers.requests.receive(
                USER, kind="access", received_on=date(2026, 11, 2), channel="form"
            )


def test_a_calendar_of_ones_own_is_taken(acme: World) -> None:
    """For places that the library does not know, or days that only the host knows."""
    own = gdpr.Registers(acme.vault, is_holiday={date(2026, 12, 2)}.__contains__, clock=acme.clock)
    acme.on(date(2026, 11, 2))

    request = own.requests.receive(
        USER, kind="access", received_on=date(2026, 11, 2), channel="form"
    )

    assert request.due_on == date(2026, 12, 3)


@pytest.mark.parametrize(
    ("op", "fields"),
    [
        ("fulfil", {"on": "2026-11-03"}),
        ("accept", {"on": "2026-11-03"}),
        ("verify_identity", {"on": "2026-11-03", "method": "login"}),
        (
            "verify_identity",
            {
                "on": "2026-11-03",
                "method": "login",
                "due_on": "9999-12-31",
                "first_due_on": "9999-12-31",
            },
        ),
        ("acknowledge", {"on": "2026-11-03", "state": "fulfilled"}),
        ("acknowledge", {"on": "2026-10-01"}),
        ("acknowledge", {"on": "yesterday"}),
        ("change", {"state": "fulfilled"}),
        ("explode", {}),
        ("receive", {}),
    ],
)
def test_a_foreign_event_that_the_rules_forbid_has_no_effect(
    acme: World, op: str, fields: dict[str, Any]
) -> None:
    """Reading applies the rules of writing; the event is kept, with what is wrong with it."""
    request = acme.receive()
    event = {
        "v": 1,
        "op": op,
        "record": request.id,
        "after": request.event,
        "subject": list(USER),
        "fields": fields,
    }

    acme.vault.ledger.append("register.requests", json.dumps(event).encode(), subject=USER)

    history = acme.registers.requests.history(request)
    assert acme.registers.requests.get(request) == request
    assert [change.problem is None for change in history] == [True, False]


def test_a_request_that_begins_as_answered_is_none(acme: World) -> None:
    """Nor one that nobody could ever be late with."""
    begun = {
        "kind": "erase",
        "regime": "GDPR",
        "received_on": "2026-11-02",
        "channel": "email",
        "due_on": "2026-12-02",
        "first_due_on": "2026-12-02",
    }
    for more in ({"state": "fulfilled"}, {"due_on": "2099-01-01", "first_due_on": "2099-01-01"}):
        event = {"v": 1, "op": "receive", "subject": list(USER), "fields": {**begun, **more}}
        acme.vault.ledger.append("register.requests", json.dumps(event).encode(), subject=USER)

    assert acme.registers.requests.list() == []
    assert [each.kind for each in acme.registers.requests.unread] == ["refused", "refused"]


def test_a_request_outlives_the_erasure_that_it_asks_for(acme: World) -> None:
    """The answer comes after the erasure, and has to be recorded."""
    acme.vault.backup([lb.Item("a", data=b"a", subject=USER)], name="n")
    request = acme.accepted()

    acme.vault.erase_subjects([USER], reason=f"request {request.id}")

    assert acme.registers.requests.fulfil(request).state == "fulfilled"
