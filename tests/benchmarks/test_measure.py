"""What is measured is the process that was started, and only if it worked."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from benchmarks.measure import Footprint, footprint, run


def test_children_of_the_process_count(tmp_path: Path) -> None:
    """A pipe's cost is that of all its parts."""
    burn = "x = 0\nfor i in range(3_000_000): x += i"
    argv = ["bash", "-c", f"{sys.executable} -c '{burn}' | cat"]

    figures = run(argv, env=None, cwd=tmp_path, log=tmp_path / "log")

    assert figures.cpu_s > 0.01
    assert figures.peak_bytes > 1 << 20


def test_a_process_that_fails_ends_the_run_with_what_it_said(tmp_path: Path) -> None:
    """A figure of something that did not work is none."""
    argv = [sys.executable, "-c", "raise SystemExit('no room')"]

    with pytest.raises(SystemExit, match=r"status 1(?s:.*)no room"):
        run(argv, env=None, cwd=tmp_path, log=tmp_path / "log")


def test_a_footprint_counts_bytes_and_files_at_any_depth(tmp_path: Path) -> None:
    """What a repository takes is all that lies in it."""
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/one").write_bytes(b"123")
    (tmp_path / "a/b/two").write_bytes(b"4567")

    counted = footprint(tmp_path)

    assert counted == Footprint(7, 2)
