"""Plug-ins for tests: on the path as pip would put them, so that entry points are really found."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

__all__ = ["Install", "installer"]

Install: TypeAlias = Callable[[str, str, str, str], Callable[[], None]]
"""Takes a distribution, a group, an entry point's name and what it is; gives its removal."""

MODULE: Final = "acme_sundays"
SOURCE: Final = '''
"""Rules of Acme AB, as a plug-in brings them."""

import hashlib
from typing import ClassVar

from attrs import frozen

from loopbackup.policy import Deny, Pass
from loopbackup.terms import AllowAll, Decision

VERSION = "1"


@frozen
class NotOnSundays:
    """Lets nobody back up on Sundays from an hour on."""

    version: ClassVar[str] = "1"
    hour: int = 0
    id: str = "not on Sundays"

    def options(self):
        """Give what makes the same rule again."""
        return {"hour": self.hour}

    def evaluate(self, action, facts, *, at, tables):
        """Say no on Sundays."""
        if action == "backup" and at.isoweekday() == 7 and at.hour >= self.hour:
            return Deny("another day", "it is Sunday", "on Monday")
        return Pass()


class House(AllowAll):
    """A gate of its own making."""

    loader = "house"

    def __init__(self, text):
        object.__setattr__(self, "text", text)
        digest = hashlib.sha256((text + VERSION).encode()).hexdigest()
        object.__setattr__(self, "digest", digest)

    def dumps(self):
        """Give the rules."""
        return self.text

    def decide(self, action, facts, *, at):
        """Refuse backups."""
        return Decision(allowed=action != "backup", reasons=("house rule",))


load_house = House
'''


@contextmanager
def installer(folder: Path) -> Iterator[Install]:
    """Give a function that installs the plug-in; whatever stands at the end is removed."""
    (folder / f"{MODULE}.py").write_text(SOURCE)
    sys.path.insert(0, str(folder))

    def install(name: str, group: str, entry: str, target: str) -> Callable[[], None]:
        info = folder / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{entry} = {target}\n")
        importlib.invalidate_caches()

        def remove() -> None:
            shutil.rmtree(info)
            importlib.invalidate_caches()

        return remove

    try:
        yield install
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop(MODULE, None)
        importlib.invalidate_caches()
