"""The rules of the library, and the one of the how-to page, keep the contract of rules."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loopbackup import policy
from loopbackup.testing.rules import RuleSuite

PAGE = Path(__file__).parents[2] / "docs/how-to/write-a-rule.md"
MODULE = "acme_rules"


class TestAccess(RuleSuite):
    def make_rule(self) -> policy.Access:
        return policy.Access(
            {"erase": {"dpo"}}, others={"job"}, requires={"erase": 2}, needs={"purpose"}
        )


class TestResidency(RuleSuite):
    def make_rule(self) -> policy.Residency:
        return policy.Residency(allow=["EEA", "CH"], deny="DE", access_from="EEA")


class TestRetention(RuleSuite):
    def make_rule(self) -> policy.Retention:
        return policy.Retention(keep_daily=7, keep_at_least="P7Y", ground="a law")


class TestOfficeHours(RuleSuite):
    @pytest.fixture(autouse=True)
    def _example(self, tmp_path: Path) -> Iterator[None]:
        match = re.search(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
        assert match is not None
        assert len(match[1].splitlines()) <= 40
        (tmp_path / f"{MODULE}.py").write_text(match[1], "utf-8")
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(tmp_path)
            self.cls: Any = importlib.import_module(MODULE).OfficeHours
            yield
        del sys.modules[MODULE]

    def make_rule(self) -> policy.Rule:
        rule: policy.Rule = self.cls(begin=9)
        return rule


class Leaky:
    """A rule that keeps none of it."""

    id, version = "leaky", "1"
    calls = 0

    def options(self) -> dict[str, Any]:
        """Give what does not make it again."""
        return {}

    def evaluate(self, action: str, facts: policy.Facts, **_: Any) -> policy.Verdict:
        """Name the actor, fall over where there is none, and change its mind."""
        Leaky.calls += 1
        assert facts.actor is not None
        return policy.Deny("x", facts.actor.id) if Leaky.calls % 3 else policy.Pass()


@pytest.mark.parametrize(
    "test",
    [name for name in vars(RuleSuite) if name.startswith("test_every") or "name" in name],
)
def test_suite_finds_what_is_wrong(test: str) -> None:
    """A suite that cannot fail checks nothing."""

    class Suite(RuleSuite):
        def make_rule(self) -> Any:
            return Leaky()

    with pytest.raises(AssertionError):
        getattr(Suite(), test)()
