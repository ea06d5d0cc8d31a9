"""Whatever happens to a request, in whatever order, some things always hold."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from loopbackup.errors import InputError
from loopbackup.gdpr.requests.request import AT_WORK, OPEN, Request
from loopbackup.gdpr.requests.rules import RULES, advanced

RECEIVED = date(2026, 11, 2)
DUE = date(2026, 12, 2)
FINAL = {"fulfilled", "unfulfilled", "rejected", "withdrawn", "duplicate"}
DECLINED = {"rejected", "partially_fulfilled", "unfulfilled"}

HAPPENINGS = st.lists(
    st.tuples(
        st.sampled_from(sorted(RULES)),
        st.integers(-2, 150),
        st.sampled_from(["identity", "fee", "clarification"]),
        st.sampled_from(["anna", "bo", "karl", "user-42", None]),
        st.sampled_from(["412 systems", None]),
    ),
    max_size=25,
)


def fields_of(op: str, day: date, what: str) -> dict[str, Any]:
    """Give an event what it needs."""
    on = day.isoformat()
    due = {"due_on": DUE.isoformat(), "first_due_on": DUE.isoformat()}
    refusal = {"code": "A12-5", "reason": "r", "complaint": "c", "court": "d", "told_on": on}
    more: dict[str, dict[str, Any]] = {
        "ask": {"what": what, **due},
        "come": {"what": what, **due},
        "verify_identity": {"method": "login", **due},
        "extend": {"due_on": "2027-02-02"},
        "await": {"awaits": "a processor"},
        "refuse": {"refusal": refusal},
        "fulfil_partly": {"refusal": refusal},
        "fail": {"refusal": refusal},
        "mark_duplicate": {"of": "ab" * 16},
    }
    return {"on": on, **more.get(op, {})}


@given(HAPPENINGS, st.sampled_from(["GDPR", "UK_GDPR", "FADP", "FERPA", "COPPA"]))
def test_no_order_of_events_breaks_the_rules(happenings: list[Any], regime: Any) -> None:
    """Identity before work, reasons with every no, once closed closed, approvals by others."""
    request = Request(
        "erase",
        regime=regime,
        received_on=RECEIVED,
        channel="email",
        due_on=DUE,
        first_due_on=DUE,
        requester_id="karl",
        subject=("acme", "user-42"),
    )
    for op, days, what, actor, reason in happenings:
        day = RECEIVED + timedelta(days=days)
        before = request
        try:
            request = advanced(before, op, fields_of(op, day, what), reason, actor)
        except InputError:
            continue

        assert before.state not in FINAL
        assert day >= RECEIVED
        if request.state in AT_WORK | {"fulfilled", "partially_fulfilled", "duplicate"}:
            assert request.identity == "verified"
        if request.state in DECLINED:
            assert request.refusal is not None
        assert request.is_open == (request.closed_on is None)
        assert request.is_open == (request.state in OPEN)
        assert not {"user-42", "karl"} & set(request.approvals)
        assert len(set(request.approvals)) == len(request.approvals)
        if "extension_late" in request.violations:
            assert request.due_on == DUE
        if request.extension_reason is not None:
            assert regime in ("GDPR", "UK_GDPR", "FADP")
        assert request.violations[: len(before.violations)] == before.violations
