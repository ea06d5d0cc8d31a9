"""The link check of ``make check`` finds what it is there to find."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "check_links.py"


def _check(root: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, str(TOOL), str(root)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_living_links_pass(tmp_path: Path) -> None:
    """Files, directories, headings, repeated headings and addresses elsewhere are fine."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "two.md").write_text("# Why, and `how`?\n\n## Notes\n\n## Notes\n")
    (tmp_path / "one.md").write_text(
        "[a](docs/two.md) [b](docs/) [c](docs/two.md#why-and-how) [d](docs/two.md#notes-1)\n"
        "[e](#top) [f](https://example.org/x#y) [g][ref]\n\n# Top\n\n[ref]: docs/two.md\n"
    )

    assert _check(tmp_path) == (0, "")


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        ("[a](gone.md)", "gone.md: no such file"),
        ("![a](gone.png)", "gone.png: no such file"),
        ("[a](#gone)", "#gone: no such heading"),
        ("[a](page.md#gone)", "page.md#gone: no such heading"),
        ("[a](../elsewhere.md)", "../elsewhere.md: leads out of the project"),
        ("[a][ref]\n\n[ref]: gone.md", "gone.md: no such file"),
    ],
    ids=["file", "image", "own-heading", "heading", "outside", "reference"],
)
def test_dead_link_is_named_with_its_line(tmp_path: Path, link: str, problem: str) -> None:
    """A dead link fails the check; page and line are printed."""
    (tmp_path / "page.md").write_text(f"# Page\n\n{link}\n")

    assert _check(tmp_path) == (1, f"page.md:3: {problem}\n")


def test_links_in_code_are_no_links(tmp_path: Path) -> None:
    """Fenced blocks and code spans show links, they do not make any."""
    (tmp_path / "page.md").write_text("`[a](gone.md)`\n\n```\n[a](gone.md)\n```\n")

    assert _check(tmp_path) == (0, "")
