"""
The larger cases of the protocol, up to some million states each.

Not part of the default run: ``python -m pytest -n 2 --timeout=900 tests/model/slow_protocol.py``
takes about five minutes and 2 GB on two cores.
"""

from __future__ import annotations

import pytest
from tests.model.cases import SLOW, Case, run


@pytest.mark.parametrize("case", SLOW.values(), ids=SLOW)
def test_the_protocol_holds_in_large_cases(case: Case) -> None:
    """No state that can be reached violates a property."""
    found = run(case)

    assert found.letter == "ok", "\n".join((str(found.error), *found.trace))
    assert found.complete
