"""Laws of policies: rules only restrict, order never matters, a decision replays."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from attrs import evolve
from hypothesis import given, reject
from hypothesis import strategies as st

import loopbackup as lb
from loopbackup import policy
from loopbackup.terms import Gate, StoredGate

NOW = datetime(2026, 11, 23, 16, tzinfo=UTC)
NAIVE = NOW.replace(tzinfo=None)
ROLES = ["job", "support", "dpo", "admin"]
PLACES = ["SE", "eu-north-1", "eu-west-2", "US", "EU", "the cellar", None]


def roles() -> st.SearchStrategy[set[str]]:
    """Some roles, or none."""
    return st.sets(st.sampled_from(ROLES))


def rules() -> st.SearchStrategy[Any]:
    """Any rule of the library."""
    actions = st.sampled_from(sorted(policy.Action))
    access = st.builds(policy.Access, st.dictionaries(actions, roles(), max_size=3), others=roles())
    allowed = st.sets(st.sampled_from(["EEA", "EU", "SE", "US", "eu-west-2"]), min_size=1)
    residency = st.builds(policy.Residency, allowed, deny=st.sets(st.sampled_from(["SE", "GB"])))
    retention = st.builds(
        policy.Retention,
        keep_at_least=st.sampled_from(["P1D", "P30D"]),
        ground=st.sampled_from([None, "a law"]),
        where=st.sampled_from([{}, {"name": "mail"}]),
    )
    return st.one_of(access, residency, retention)


def facts() -> st.SearchStrategy[policy.Facts]:
    """Facts, some of which may be missing."""
    actors = st.none() | st.builds(lambda found: lb.Actor("user-42", roles=found), roles())
    places = st.lists(
        st.builds(lambda declared: policy.Place("vault", declared), st.sampled_from(PLACES)),
        max_size=2,
    )
    ages = st.integers(0, 60).map(
        lambda days: policy.SnapshotInfo("a" * 32, "mail", NOW - timedelta(days=days), 1)
    )
    return st.builds(
        policy.Facts,
        actor=actors,
        places=places.map(tuple),
        snapshots=st.lists(ages, max_size=1).map(tuple),
    )


def distinct(found: list[Any]) -> list[Any]:
    """Leave out rules that say the same; pass over those that cannot all hold."""
    rules = list({rule.id: rule for rule in found}.values())
    try:
        policy.Policy(*rules)
    except lb.InputError:
        reject()
    return rules


@given(st.lists(rules(), max_size=4), st.randoms(), facts(), st.sampled_from(policy.Action))
def test_order_of_rules_never_matters(
    found: list[Any], random: Any, known: policy.Facts, action: policy.Action
) -> None:
    """The same decision, trace and digest."""
    found = distinct(found)
    shuffled = list(found)
    random.shuffle(shuffled)

    one, other = policy.Policy(*found), policy.Policy(*shuffled)

    assert one == other
    assert one.decide(action, known, at=NOW) == other.decide(action, known, at=NOW)


@given(
    st.lists(rules(), max_size=3),
    rules(),
    facts(),
    st.sampled_from(policy.Action),
    st.booleans(),
)
def test_one_more_rule_never_allows_more(
    found: list[Any], more: Any, known: policy.Facts, action: policy.Action, strict: bool
) -> None:
    """What was refused stays refused."""
    found = distinct(found)
    before = policy.Policy(*found, strict=strict).decide(action, known, at=NOW)

    after = policy.Policy(*distinct([*found, more]), strict=strict).decide(action, known, at=NOW)

    assert before.allowed or not after.allowed


@given(st.lists(rules(), max_size=3), facts(), st.sampled_from(policy.Action))
def test_strict_policy_refuses_what_a_loose_one_does_not_know(
    found: list[Any], known: policy.Facts, action: policy.Action
) -> None:
    """Both say what is missing, and agree on everything else."""
    found = distinct(found)
    strict = policy.Policy(*found).decide(action, known, at=NOW)
    loose = policy.Policy(*found, strict=False).decide(action, known, at=NOW)

    assert strict.outcome == loose.outcome
    assert strict.trace == loose.trace
    assert strict.allowed == (strict.outcome == "allow")
    assert loose.allowed == (loose.outcome != "deny")


@given(st.lists(rules(), max_size=3), facts(), st.sampled_from(policy.Action))
def test_decision_replays_from_what_was_kept(
    found: list[Any], known: policy.Facts, action: policy.Action
) -> None:
    """From the text of the policy, the facts and the time, years later."""
    made = policy.Policy(*distinct(found))
    decision = made.decide(action, known, at=NOW)

    again = policy.loads(made.dumps()).replay(pickle.loads(pickle.dumps(decision)), known)

    assert again == decision


def test_decision_is_not_replayed_on_anything_else() -> None:
    """Other rules, facts or tables would give another answer."""
    made = policy.Policy(policy.Residency(allow="EEA"))
    known = policy.Facts(places=(policy.Place("vault", "SE"),))
    decision = made.decide("open", known, at=NOW)
    row = policy.Region("acme", "sto-1", ["SE"])

    with pytest.raises(lb.InputError, match="other rules"):
        policy.Policy().replay(decision, known)
    with pytest.raises(lb.InputError, match="other facts"):
        made.replay(decision, evolve(known, reason="another"))
    with pytest.raises(lb.InputError, match="other rules"):
        policy.Policy(*made.rules, tables=policy.tables().with_regions(row)).replay(decision, known)
    with pytest.raises(lb.InputError, match="other tables"):
        made.replay(evolve(decision, tables="x" * 64), known)


def test_decision_says_what_each_rule_found() -> None:
    """Those that had nothing against it too."""
    made = policy.Policy(
        policy.Residency(allow="EEA"), policy.Access({"backup": {"job"}}, id="who may")
    )
    known = policy.Facts(actor=lb.Actor("user-42"), places=(policy.Place("vault", "SE"),))

    decision = made.decide("backup", known, at=NOW)

    assert [(step.rule, step.outcome) for step in decision.trace] == [
        ('Residency(allow="EEA")', "pass"),
        ("who may", "deny"),
    ]
    assert str(decision) == (
        "refused: the actor has no role. who may needs an actor with the role job. "
        "Nearest: an actor with the role job."
    )
    assert "user-42" not in str(decision)
    assert (decision.policy, decision.tables) == (made.digest, made.tables.digest)


def test_missing_fact_is_named() -> None:
    """Nobody has to guess what to tell."""
    decision = policy.Policy(policy.Access({}, others={"job"})).decide(
        "backup", policy.Facts(), at=NOW
    )

    assert decision.outcome == "indeterminate"
    assert decision.trace[0].fact == "the actor"
    assert "the actor is not known" in str(decision)


def test_create_and_open_are_asked_of_rules_of_place_only() -> None:
    """Whoever has a key opens the vault; what he then may do is another question."""
    made = policy.Policy(policy.Access({}), policy.Retention(keep_at_least="P1Y"))

    assert made.decide("create", policy.Facts(), at=NOW).allowed
    assert made.decide("open", policy.Facts(), at=NOW).allowed
    assert not made.decide("read", policy.Facts(), at=NOW).allowed


def test_policy_is_a_gate_that_can_be_kept() -> None:
    """The vault asks for no more than that."""
    assert isinstance(policy.Policy(), Gate)
    assert isinstance(policy.Policy(), StoredGate)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: policy.Policy(cast("Any", "EEA")), "str is none"),
        (lambda: policy.Policy(cast("Any", policy.Residency)), "Residency is none"),
        (lambda: policy.Policy(strict=cast("Any", "yes")), "strict"),
        (lambda: policy.Policy(policy.Access({}), policy.Access({})), "two rules have the id"),
        (lambda: policy.Policy().decide("read", policy.Facts(), at=NAIVE), "zone"),
        (lambda: policy.Policy().plan_retention([], at=NAIVE), "at is a datetime"),
        (lambda: policy.Access({"bakup": {"job"}}), "did you mean 'backup'"),
        (lambda: policy.Access({"backup": [1]}), "roles for backup"),
        (lambda: policy.Access(["backup"]), "grants map"),
        (lambda: policy.Access({"backup": {""}}), "not empty"),
        (lambda: policy.Residency(allow=[]), "allows some place"),
        (lambda: policy.Policy(policy.Residency(allow="Europe")), "'Europe' is no zone"),
        (lambda: policy.Policy(policy.Residency(allow="eu-north-9")), "no region"),
        (lambda: policy.Residency(allow=cast("Any", 7)), "text"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_policy_is_told(make: Any, message: str) -> None:
    """At once, and with what would be right."""
    with pytest.raises(lb.InputError, match=message):
        make()


class Broken:
    """A rule that answers nonsense."""

    id, version = "broken", "1"

    def evaluate(self, *args: Any, **options: Any) -> Any:
        """Give nonsense."""
        return True


def test_rule_that_answers_nonsense_allows_nothing() -> None:
    """What is no verdict is an error, and never a yes."""
    with pytest.raises(lb.InputError, match="no verdict"):
        policy.Policy(Broken()).decide("read", policy.Facts(), at=NOW)
