"""What every rule must do, as a pytest class for the authors of policy plug-ins."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, Final

import tomli_w

from ..policy import Deny, Facts, Missing, Pass, Place, Policy, Rule, SnapshotInfo, tables
from ..terms import Action, Actor, Location

__all__ = ["RuleSuite"]

_AT: Final = (datetime(2026, 11, 23, 16, tzinfo=UTC), datetime(1999, 12, 31, 23, 59, tzinfo=UTC))
_ACTORS: Final = (
    None,
    Actor("canary-actor"),
    Actor("canary-actor", roles={"job", "admin"}, purpose="test", ip="192.0.2.7", country="SE"),
)
_PLACES: Final = (
    (),
    (Place("vault", "SE"),),
    (Place("vault", "nowhere known"), Place("replica", observed=Location("US"))),
)
_SNAPSHOT: Final = SnapshotInfo(
    "c0ffee" * 5 + "00", "canary-name", _AT[0] - timedelta(days=400), 7, {"env": "canary-tag"}
)


def _questions() -> Iterator[tuple[str, Facts, datetime]]:
    about = (
        Facts(),
        Facts(
            subject=("acme", "canary-subject"),
            name="canary-name",
            tags={"env": "canary-tag"},
            category="hr",
            reason="canary-reason",
            snapshots=(_SNAPSHOT,),
            more={"access_from": "SE", "unheard of": 5},
        ),
    )
    for action, actor, places, facts, at in product(Action, _ACTORS, _PLACES, about, _AT):
        found = Facts(
            actor=actor,
            subject=facts.subject,
            name=facts.name,
            tags=facts.tags,
            category=facts.category,
            reason=facts.reason,
            places=places,
            snapshots=facts.snapshots,
            more=facts.more,
        )
        yield action, found, at


class RuleSuite:
    """
    Check the contract of :class:`loopbackup.policy.Rule`.

    Subclass it in a test module under a name that pytest collects, and give it
    ``make_rule``. What your rule decides is for tests of your own; this is about
    what every policy relies on: a verdict to every question, the same one each time,
    from the facts alone, in words that name nobody.
    """

    def make_rule(self) -> Rule:
        """Return the rule: an equal one at every call."""
        raise TypeError(f"{type(self).__name__} must define make_rule()")

    def test_rule_is_one(self) -> None:
        """It has an id, a version and ``evaluate``."""
        rule = self.make_rule()

        assert isinstance(rule, Rule)
        assert isinstance(rule.id, str)
        assert rule.id
        assert isinstance(rule.version, str)
        assert rule.version
        Policy(rule)

    def test_every_question_has_a_verdict(self) -> None:
        """Whatever is known, or not: a fact that is not there is ``Missing``, and no exception."""
        rule = self.make_rule()
        for action, facts, at in _questions():
            verdict = rule.evaluate(action, facts, at=at, tables=tables())
            assert isinstance(verdict, Pass | Deny | Missing), (action, facts)

    def test_answer_is_the_same_each_time(self) -> None:
        """For the same rule and for an equal one, so that a decision can be replayed."""
        one, other = self.make_rule(), self.make_rule()
        assert (one.id, one.version) == (other.id, other.version)
        for action, facts, at in _questions():
            said = one.evaluate(action, facts, at=at, tables=tables())
            assert said == one.evaluate(action, facts, at=at, tables=tables())
            assert said == other.evaluate(action, facts, at=at, tables=tables())

    def test_answers_name_nobody(self) -> None:
        """They stand in logs: no actor, subject, series, tag or reason."""
        rule = self.make_rule()
        for action, facts, at in _questions():
            verdict = rule.evaluate(action, facts, at=at, tables=tables())
            assert "canary" not in repr(verdict), verdict

    def test_policy_with_it_answers_everything(self) -> None:
        """And what it denies is refused, whatever else allows it."""
        rule = self.make_rule()
        policy = Policy(rule)
        for action, facts, at in _questions():
            decision = policy.decide(action, facts, at=at)
            verdict = rule.evaluate(action, facts, at=at, tables=tables())
            assert decision.allowed == isinstance(verdict, Pass)
            assert str(decision)

    def test_options_make_it_again(self) -> None:
        """Through TOML, as a vault keeps them."""
        rule: Any = self.make_rule()
        options = tomllib.loads(tomli_w.dumps(rule.options()))

        again = type(rule)(**options)

        assert (again.id, again.version) == (rule.id, rule.version)
        assert again.options() == rule.options()
        for action, facts, at in _questions():
            said = rule.evaluate(action, facts, at=at, tables=tables())
            assert again.evaluate(action, facts, at=at, tables=tables()) == said
