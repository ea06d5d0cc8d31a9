"""Nodes to restore, and a restore of them without a vault."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loopbackup.vault.format.entries import DIRECTORY, FILE, ITEM, SYMLINK, Extra, Node
from loopbackup.vault.target import NotRestored, Target

NOBODY = 65534


def restore(target: Target, nodes: list[tuple[Node, bytes]]) -> list[str]:
    """Restore as the verb does, and give the kinds of all problems."""
    problems = []
    for node, content in nodes:
        try:
            answer = target.prepare(node)
            if answer == "skip":
                continue
            if answer == "repair":
                target.repair(node)
            elif node.kind in (FILE, ITEM):
                target.write(node, [content[:2], content[2:]])
            else:
                target.make(node)
        except NotRestored as exc:
            problems.append(exc.problem.kind)
    problems += [problem.kind for problem in target.finish()]
    target.close()
    return problems


def file(path: bytes, content: bytes = b"new", **more: Any) -> tuple[Node, bytes]:
    """Describe a file that belongs to whoever runs the tests."""
    given = {"mode": 0o644, "uid": os.geteuid(), "gid": os.getegid(), "mtime_ns": 10**18, **more}
    return Node(path, FILE, size=len(content), **given), content


def folder(path: bytes, **more: Any) -> tuple[Node, bytes]:
    """Describe a folder that belongs to whoever runs the tests."""
    given = {"mode": 0o755, "uid": os.geteuid(), "gid": os.getegid(), "mtime_ns": 10**18, **more}
    return Node(path, DIRECTORY, **given), b""


def link(path: bytes, to: bytes | None) -> tuple[Node, bytes]:
    """Describe a symbolic link that belongs to whoever runs the tests."""
    node = Node(path, SYMLINK, uid=os.geteuid(), gid=os.getegid(), extra=Extra(target=to))
    return node, b""


def everything_below(root: Path) -> set[str]:
    """Give all relative paths, so that leftovers show."""
    return {str(path.relative_to(root)) for path in root.rglob("*")}


@contextmanager
def unprivileged() -> Iterator[None]:
    """Act as a user whom permissions bind."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
