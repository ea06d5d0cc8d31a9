"""What is legal in a policy and hardly meant is told; what cannot hold is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import loopbackup as lb
from loopbackup import policy
from loopbackup.policy.lint import UNASKED
from loopbackup.terms import Action

GUARD = policy.Retention(keep_at_least="P30D", erase_after="P7Y", id="guard")
PLACE = policy.Residency(allow="EEA")


@pytest.mark.parametrize(
    ("rules", "finding"),
    [
        ([policy.Access({"erase": []}, others={"a"})], "nobody may erase"),
        ([policy.Access({"read": {"a"}})], "nobody may ever set another policy"),
        ([policy.Access({"policy": {"a"}})], "nobody may do what it does not name"),
        (
            [policy.Access({}, others={"a"}), policy.Access({}, others={"b"})],
            "nobody with one role may backup",
        ),
        ([policy.Retention(keep_last=3)], "pushes all others out"),
        ([policy.Retention(keep_daily=7, keep_yearly=2)], "others out of daily, of 7, yearly, of"),
        ([policy.Access({"export": {"a"}}, others={"b"})], "nothing asks for export"),
        ([policy.Access({}, others={"b"}, requires={"repair": 2})], "nothing asks for repair"),
        (
            [policy.Access({"prune": {"a"}}, others={"b"}, where={"name": "hr"})],
            "prune is about no snapshot",
        ),
        ([policy.Retention(keep_yearly=9, id="y"), GUARD], "y: yearly, of 9 reaches beyond"),
        ([policy.Retention(keep_at_least="P7Y")], "without the ground"),
        ([policy.Retention(keep_daily=7)], "no rule says when snapshots have to be gone"),
        ([], "no rule says where data may lie"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_finding_is_told(rules: list[Any], finding: str) -> None:
    """In a sentence that names the rule."""
    assert any(finding in told for told in policy.Policy(*rules).lint())


def test_actions_that_nothing_asks_for_are_those_of_no_verb() -> None:
    """As the code of the vault has it."""
    code = "".join(p.read_text("utf-8") for p in Path(lb.__file__).parent.glob("vault/**/*.py"))

    assert {a for a in Action if f"Action.{a.name}" not in code} == UNASKED


def test_row_in_the_place_of_a_shipped_one_is_told() -> None:
    """It may be meant; a new one is no news."""
    moved = policy.Region("aws", "eu-west-2", ["IE"])
    tables = policy.tables().with_regions(moved, policy.Region("acme", "cellar", ["SE"]))

    (told,) = policy.Policy(PLACE, tables=tables).lint()

    assert told.startswith("aws eu-west-2 (IE) stands in the place of aws eu-west-2 (London")


def test_loose_policy_is_told() -> None:
    """What nobody knows is allowed then."""
    assert "strict is off" in policy.Policy(PLACE, strict=False).lint()[0]


def test_sound_policy_has_no_findings() -> None:
    """Rules as the how-to has them."""
    sound = policy.Policy(
        PLACE,
        policy.Access({"restore": {"support"}}, others={"job", "admin"}),
        policy.Retention(keep_daily=7, keep_weekly=5, keep_monthly=12),
        GUARD,
    )

    assert sound.lint() == ()


@pytest.mark.parametrize(
    "rules",
    [
        [policy.Residency(allow="EEA"), policy.Residency(allow="US")],
        [policy.Residency(allow="SE", deny=["SE"])],
        [policy.Residency(allow="SE"), policy.Residency(allow="eu-west-1")],
    ],
    ids=["two zones", "allowed and denied", "country and region"],
)
def test_residencies_that_leave_no_place_are_an_error(rules: list[Any]) -> None:
    """When the policy is made."""
    with pytest.raises(lb.InputError, match="leave no place at all"):
        policy.Policy(*rules)


def test_residencies_that_leave_one_place_are_fine() -> None:
    """A country of no region of any provider is one."""
    policy.Policy(policy.Residency(allow="EEA"), policy.Residency(allow="LI"))
    policy.Policy(policy.Residency(allow="EEA"), policy.Residency(allow=["eu-north-1", "US"]))
