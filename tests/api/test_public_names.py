"""The public interface is what the façades list, and nothing else."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
from types import ModuleType

import pytest

import loopbackup
from loopbackup import errors

FACADES = [
    "loopbackup",
    "loopbackup.gdpr",
    "loopbackup.policy",
    "loopbackup.testing",
    "loopbackup.vault",
]


@pytest.mark.parametrize("facade", FACADES)
def test_every_listed_name_is_there(facade: str) -> None:
    """Each name of ``__all__`` resolves, lazy ones included, and is listed once."""
    module = importlib.import_module(facade)

    missing = [name for name in module.__all__ if not hasattr(module, name)]

    assert missing == []
    assert len(module.__all__) == len(set(module.__all__))


@pytest.mark.parametrize("facade", FACADES)
def test_nothing_of_ours_is_public_by_accident(facade: str) -> None:
    """What a façade holds of this library without listing it starts with an underscore."""
    module = importlib.import_module(facade)

    unlisted = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and name not in module.__all__
        and not isinstance(value, ModuleType)
        and str(getattr(value, "__module__", "")).startswith("loopbackup")
    ]

    assert unlisted == []


def test_dir_shows_the_lazy_names() -> None:
    """Completion in a notebook sees all names before any of them is loaded."""
    code = "import loopbackup; print(*set(loopbackup.__all__) - set(dir(loopbackup)))"

    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert shown.stdout.split() == []


def test_unknown_name_is_an_attribute_error() -> None:
    """A misspelt name fails like that of any module, so that hasattr and mock work."""
    name = "Vualt"

    with pytest.raises(AttributeError, match=r"'loopbackup'.*'Vualt'"):
        getattr(loopbackup, name)


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_importable_from_the_top(name: str) -> None:
    """Nobody has to know in which module an error is defined."""
    assert name in loopbackup.__all__
    assert getattr(loopbackup, name) is getattr(errors, name)


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_survives_pickling(name: str) -> None:
    """An error comes back from a worker process with text, kind and context."""
    error = getattr(errors, name)("it failed", kind="special", object="packs/ab", count=2)

    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is type(error)
    assert str(copy) == "it failed"
    assert copy.kind == "special"
    assert (copy.object, copy.count) == ("packs/ab", 2)


def test_every_error_has_one_root() -> None:
    """One ``except LoopbackupError`` catches all that this library raises."""
    strangers = [
        name
        for name in errors.__all__
        if not issubclass(getattr(errors, name), errors.LoopbackupError)
    ]

    assert strangers == []


def test_refusal_is_no_os_error() -> None:
    """Retry loops repeat OSErrors; what a rule refuses must not be repeated."""
    assert not issubclass(errors.PolicyError, OSError)
    assert issubclass(errors.StoreError, OSError)
