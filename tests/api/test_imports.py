"""Importing the library is quick, quiet and loads nothing that is not needed yet."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import loopbackup

SOURCE = Path(loopbackup.__file__).parent
BUDGET_MS = 100

HEAVY = {
    "attr",
    "attrs",
    "backports",
    "blake3",
    "cryptography",
    "fsspec",
    "msgspec",
    "pathspec",
    "platformdirs",
    "stamina",
    "structlog",
}
OPTIONAL = {
    "adlfs",
    "aiobotocore",
    "altair",
    "azure",
    "boto3",
    "botocore",
    "gcsfs",
    "google",
    "holidays",
    "matplotlib",
    "pandas",
    "paramiko",
    "s3fs",
    "tqdm",
}


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=True, timeout=60
    )


def _imported_on_load(tree: ast.Module) -> Iterator[str]:
    """Yield the top-level packages that a module imports outside of functions."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting.extend(ast.iter_child_nodes(node))


def test_import_loads_no_heavy_library() -> None:
    """``import loopbackup`` leaves all dependencies to the names that need them."""
    loaded = _python("-c", "import sys, loopbackup; print(*sys.modules)").stdout.split()

    assert "loopbackup" in loaded
    assert {name.partition(".")[0] for name in loaded} & (HEAVY | OPTIONAL) == set()


def test_import_stays_within_its_time_budget() -> None:
    """The import costs at most 100 ms over a bare interpreter, in the best of five runs."""
    command = ["-X", "importtime", "-c", "import loopbackup"]

    last_lines = [_python(*command).stderr.splitlines()[-1] for _ in range(5)]

    assert all(line.split("|")[-1].strip() == "loopbackup" for line in last_lines)
    assert min(int(line.split("|")[1]) for line in last_lines) <= BUDGET_MS * 1000


def test_import_prints_and_warns_nothing() -> None:
    """A host that turns warnings into errors can import every public name."""
    code = "from loopbackup import *"

    done = _python("-W", "error", "-c", code)

    assert (done.stdout, done.stderr) == ("", "")


# What has to derive from a provider's class; a function of another module imports it.
DERIVED = {SOURCE / "vault/store/s3/session.py", SOURCE / "vault/store/fsspec/ssh.py"}


@pytest.mark.parametrize(
    "module",
    sorted(set(SOURCE.rglob("*.py")) - DERIVED),
    ids=lambda path: path.relative_to(SOURCE).as_posix(),
)
def test_optional_libraries_are_imported_by_functions_only(module: Path) -> None:
    """A provider's library is loaded when its URL is opened, never before."""
    tree = ast.parse(module.read_text("utf-8"))

    assert set(_imported_on_load(tree)) & OPTIONAL == set()


def test_driver_is_built_without_its_providers_library() -> None:
    """To name an S3 vault costs nothing; the library is loaded by the first request."""
    code = (
        "import sys; from loopbackup.vault.store.registry import open_store; "
        "open_store('s3://acme/prod'); print(sorted({'s3fs', 'aiobotocore'} & set(sys.modules)))"
    )

    done = _python("-c", code)

    assert done.stdout.strip() == "[]"
