"""Who may do what: roles, what actors say of themselves, and how many have to agree."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

import loopbackup as lb
from loopbackup import policy

NOW = datetime(2026, 11, 23, 16, tzinfo=UTC)
ERASE = policy.Policy(policy.Access({"erase": {"dpo", "admin"}}, requires={"erase": 2}))


def actor(name: str, *roles: str, **more: Any) -> lb.Actor:
    """Give an actor with roles."""
    return lb.Actor(name, roles=set(roles), **more)


def ask(rules: policy.Policy, who: lb.Actor | None, action: str, **facts: Any) -> policy.Decision:
    """Ask for an action."""
    return rules.decide(action, policy.Facts(actor=who, **facts), at=NOW)


def test_role_may_do_what_it_is_granted_and_nothing_else() -> None:
    """What is not named goes to the others."""
    rules = policy.Policy(policy.Access({"restore": {"support"}}, others={"job"}))

    assert ask(rules, actor("a", "support"), "restore").allowed
    assert not ask(rules, actor("a", "support"), "backup").allowed
    assert ask(rules, actor("a", "job"), "backup").allowed
    assert not ask(rules, actor("a", "job"), "restore").allowed
    assert ask(rules, actor("a", "job", "support"), "restore").allowed


@pytest.mark.parametrize(
    ("agreed", "allowed"),
    [
        ((), False),
        ((actor("b", "dpo"),), True),
        ((actor("b", "admin"),), True),
        ((actor("b", "job"),), False),
        ((actor("a", "dpo"),), False),
        ((actor("b", "job"), actor("c", "dpo")), True),
    ],
    ids=["nobody", "same role", "another role", "no role for it", "himself", "one of two"],
)
def test_two_people_have_to_agree(agreed: tuple[lb.Actor, ...], allowed: bool) -> None:
    """Each with a role for it, and nobody twice."""
    decision = ask(ERASE, actor("a", "dpo", approved_by=agreed), "erase")

    assert decision.allowed == allowed
    if not allowed:
        assert "needs 2 people with the role admin, dpo to agree" in str(decision)
        assert "approved_by" in str(decision.nearest)


@pytest.mark.parametrize("other", ["bert ", "Bert", "\uff42ert", "\u00a0BERT"])
def test_nobody_agrees_with_himself_by_another_spelling(other: str) -> None:
    """Case, spaces and the forms of Unicode make nobody another."""
    who = actor("bert", "dpo", approved_by=[actor(other, "dpo")])

    assert not ask(ERASE, who, "erase").allowed
    assert ask(ERASE, actor("bert", "dpo", approved_by=[actor("carla", "dpo")]), "erase").allowed


def test_approval_lends_nobody_a_role() -> None:
    """Who acts needs one himself."""
    assert not ask(ERASE, actor("a", "job", approved_by=[actor("b", "dpo")]), "erase").allowed


def test_actor_says_of_himself_what_a_rule_needs() -> None:
    """A purpose, say; what is not said is missing, not wrong."""
    rules = policy.Policy(policy.Access({}, others={"job"}, needs={"purpose"}))

    assert ask(rules, actor("a", "job", purpose="nightly backup"), "backup").allowed
    decision = ask(rules, actor("a", "job"), "backup")
    assert (decision.outcome, decision.trace[0].fact) == ("indeterminate", "the actor's purpose")


def test_rule_for_some_snapshots_leaves_others_alone() -> None:
    """By name, category and tags."""
    rules = policy.Policy(
        policy.Access({}, others={"hr"}, where={"name": "hr-*"}),
        policy.Access({}, others={"hr", "support"}),
    )

    assert not ask(rules, actor("a", "support"), "restore", name="hr-files").allowed
    assert ask(rules, actor("a", "hr"), "restore", name="hr-files").allowed
    assert ask(rules, actor("a", "support"), "restore", name="mail").allowed
    assert ask(rules, actor("a", "support"), "prune").allowed


def test_rule_for_some_snapshots_binds_an_erasure_that_touches_one() -> None:
    """It names no series, and makes poorer what it finds."""
    rules = policy.Policy(policy.Access({"erase": {"dpo"}}, where={"name": "hr"}))
    touched = [
        policy.SnapshotInfo(f"{number:032x}", name, NOW, number)
        for number, name in enumerate(["web", "hr"])
    ]

    assert not ask(rules, actor("a", "job"), "erase", snapshots=tuple(touched)).allowed
    assert ask(rules, actor("a", "dpo"), "erase", snapshots=tuple(touched)).allowed
    assert ask(rules, actor("a", "job"), "erase", snapshots=tuple(touched[:1])).allowed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"requires": {"erase": 0}}, "1 to 17"),
        ({"requires": {"erase": True}}, "1 to 17"),
        ({"requires": {"eraze": 2}}, "did you mean 'erase'"),
        ({"requires": 2}, "requires maps"),
        ({"needs": {"shoe size"}}, "needs takes"),
        ({"where": {"host": "a"}}, "not by 'host'"),
    ],
    ids=["nobody", "a boolean", "misspelt", "a number", "no attribute", "no selection"],
)
def test_what_is_no_access_is_refused(options: Any, message: str) -> None:
    """When it is made."""
    with pytest.raises(lb.InputError, match=message):
        policy.Access({}, **options)


def test_access_rules_survive_their_file() -> None:
    """With all that they have."""
    rules = policy.Policy(
        policy.Access(
            {"erase": {"dpo"}},
            others={"job"},
            requires={"erase": 2},
            needs={"purpose"},
            where={"category": "hr"},
        )
    )

    assert policy.loads(rules.dumps()) == rules
