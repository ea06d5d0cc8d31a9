"""Where a restore writes to: the one interface of local folders and URLs."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Literal, Protocol, TypeAlias

from ...terms import Problem
from ..format.entries import PROBLEM, Node, is_safe_path

__all__ = ["Buffer", "NotRestored", "Overwrite", "Target", "check_restorable", "check_size"]

Buffer: TypeAlias = bytes | bytearray | memoryview
Overwrite: TypeAlias = Literal["never", "changed", "always"]
"""
What happens to entries that stand there already: they stay; they stay if size
and time of change (of a link: its target) are the same; they are replaced.
"""


class NotRestored(Exception):
    """
    One entry could not be restored; the others still can.

    ``problem`` says which and why. Of its kinds, ``full`` and ``read_only``
    are about the whole target, and to go on is pointless.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def check_restorable(node: Node, kinds: Container[int]) -> None:
    """
    Refuse a node that must not, or can not, be restored.

    Args:
        node: As found in a snapshot, of which nothing is taken for granted.
        kinds: What this target can make.

    Raises:
        NotRestored: Its path leads out of the target, its content was never
            read, or it is of another kind.
    """
    if not is_safe_path(node.path):
        kind, message = "unsafe_path", "its path leads out of the target"
    elif node.kind == PROBLEM:
        kind = (node.extra and node.extra.problem) or "unreadable"
        message = "the backup could not read it"
    elif node.kind not in kinds:
        kind, message = "not_restored", "there is no place for its kind of entry"
    else:
        return
    raise NotRestored(Problem(kind, message, path=node.path))


def check_size(node: Node, size_bytes: int) -> None:
    """
    Refuse content that has not the size that *node* says.

    Raises:
        NotRestored: It has not.
    """
    if size_bytes != node.size:
        message = f"its content has {size_bytes} bytes instead of {node.size}"
        raise NotRestored(Problem("size", message, path=node.path))


class Target(Protocol):
    """
    Somewhere to restore to.

    For each node, in tree order: ``prepare``, and if that says ``"write"``,
    ``write`` for a file or an item and ``make`` for anything else. ``write``
    may run in several threads for different paths. Everything that a node
    says is taken for hostile; nothing outside the target is ever touched.
    """

    def prepare(self, node: Node) -> Literal["write", "skip"]:
        """
        Say whether *node* is to be restored, before its content is fetched.

        Raises:
            NotRestored: It cannot be.
        """
        ...

    def make(self, node: Node) -> None:
        """
        Make a folder, a link or whatever has no content.

        Raises:
            NotRestored: Nothing was made.
        """
        ...

    def write(self, node: Node, pieces: Iterable[Buffer]) -> None:
        """
        Write a file; it appears under its name complete or not at all.

        Raises:
            NotRestored: What stood there before still does; likewise when an
                error of this library comes out of *pieces* and goes through.
        """
        ...

    def finish(self) -> list[Problem]:
        """Set what has to come last, such as the times of folders."""
        ...

    def close(self) -> None:
        """Free descriptors; what was not finished stays unfinished."""
        ...
