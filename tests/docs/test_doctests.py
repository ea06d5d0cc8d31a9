"""The examples in docstrings hold."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import loopbackup

SOURCE = Path(loopbackup.__file__).parents[1]


def _module_names() -> list[str]:
    paths = sorted(path.relative_to(SOURCE) for path in SOURCE.rglob("loopbackup/**/*.py"))
    return [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in paths]


@pytest.mark.parametrize("name", _module_names())
def test_module_imports_and_its_docstrings_tell_the_truth(name: str) -> None:
    """Each module can be imported, and its examples print what they say."""
    module = importlib.import_module(name)

    result = doctest.testmod(module)

    assert result.failed == 0
