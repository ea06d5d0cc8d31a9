"""
The protocol, explored: every interleaving of small cases, and every break caught.

The cases with more than about 100,000 states are in ``slow_protocol.py``.
"""

from __future__ import annotations

import pytest
from tests.model.cases import BROKEN, QUICK, Case, run
from tests.model.commit import CommitModel
from tests.model.explore import explore
from tests.model.ledger import Options


@pytest.mark.parametrize("case", QUICK.values(), ids=QUICK)
def test_the_protocol_holds(case: Case) -> None:
    """No state that can be reached violates a property."""
    found = run(case)

    assert found.letter == "ok", "\n".join((str(found.error), *found.trace))
    assert found.complete


@pytest.mark.parametrize(("letter", "case"), BROKEN.values(), ids=BROKEN)
def test_a_broken_rule_is_caught(letter: str, case: Case) -> None:
    """Each rule is needed: without it the property of that letter breaks."""
    found = run(case)

    assert found.letter == letter, found.error
    assert found.trace


@pytest.mark.parametrize(("prunes", "claims", "rework"), [(2, False, 2), (2, True, 0)])
def test_claims_save_a_running_writer_from_putting_again(
    prunes: int, claims: bool, rework: int
) -> None:
    """Safety does not rest on claims; without them every prune costs a running writer its work."""
    model = CommitModel(
        Options(wants=((1, 3),), rounds=prunes, crashes=0, lost=0, claims=claims, orphans="keep")
    )

    found = explore(model, max_states=100_000)

    assert found.complete
    assert model.rework == rework
