"""The types that the library promises reach the people who use it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("user_script.py")


def test_user_script_passes_a_strict_type_checker(tmp_path: Path) -> None:
    """Seen from outside the project, right use is accepted and misuse is found."""
    shutil.copy(SCRIPT, tmp_path)

    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", SCRIPT.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout == "Success: no issues found in 1 source file\n"
