"""Where a restore writes to: the one interface of local folders and URLs."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Final, Literal, Protocol, TypeAlias

from ...terms import Problem
from ..format.entries import FILE, ITEM, PROBLEM, Node, is_safe_path

__all__ = [
    "Answer",
    "Buffer",
    "NotRestored",
    "Overwrite",
    "Planner",
    "Target",
    "check_restorable",
]

MAX_SIZE_BYTES: Final = 2**63 - 1
"""No system has longer files, and offsets stay within 64 bits."""

Buffer: TypeAlias = bytes | bytearray | memoryview
Answer: TypeAlias = Literal["write", "link", "repair", "skip"]
"""
What is to be done with an entry: write it, or give a file that is written
already one more name; set its metadata only; nothing.
"""
Overwrite: TypeAlias = Literal["never", "changed", "always"]
"""
What happens to entries that stand there already: they stay; their content
stays if size and time of change (of a link: its target) are the same, and only
metadata are set right; they are replaced.
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
    kind, message = _objection(node, kinds)
    if kind:
        raise NotRestored(Problem(kind, message, path=node.path))


def _objection(node: Node, kinds: Container[int]) -> tuple[str, str]:
    has_content = node.kind in (FILE, ITEM)
    problem = node.extra.problem if node.extra else None
    if not is_safe_path(node.path):
        return "unsafe_path", "its path leads out of the target"
    if node.kind == PROBLEM:
        return problem or "unreadable", "the backup could not read it"
    if node.kind not in kinds:
        return "not_restored", "there is no place for its kind of entry"
    if has_content and problem == "lost":
        return "lost", "its content was lost before the snapshot was committed"
    if has_content and not _is_sound(node):
        return "malformed", "its size or the places of its data make no sense"
    return "", ""


def _is_sound(node: Node) -> bool:
    """Tell whether size and extents can be those of a file."""
    if not 0 <= node.size <= MAX_SIZE_BYTES:
        return False
    end = 0
    for offset, length in (node.extra and node.extra.extents) or ():
        if offset < end or length <= 0:
            return False
        end = offset + length
    return end <= node.size


class Planner(Protocol):
    """What a dry run asks."""

    def prepare(self, node: Node) -> Answer:
        """
        Say what is to be done with *node*, before its content is fetched; change nothing.

        Raises:
            NotRestored: It cannot be restored.
        """
        ...

    def close(self) -> None:
        """Free descriptors; what was not finished stays unfinished."""
        ...


class Target(Planner, Protocol):
    """
    Somewhere to restore to.

    For each node, in tree order: ``prepare``, and if that says ``"write"`` or
    ``"link"``, ``write`` for a file or an item and ``make`` for anything else;
    if it says ``"repair"``, that. ``write`` may run in several threads for
    different paths, if they take up the nodes in their order: a later hard
    link waits for the first.
    Everything that a node says is taken for hostile; nothing outside the
    target is ever touched.
    """

    def make(self, node: Node) -> None:
        """
        Make a folder, a link or whatever has no content.

        Raises:
            NotRestored: Nothing was made.
        """
        ...

    def write(self, node: Node, pieces: Iterable[Buffer]) -> int:
        """
        Write a file; it appears under its name complete or not at all.

        Args:
            node: With ``extents`` *pieces* are what lies in those, in order.
            pieces: Not asked for where a link to another entry will do.

        Returns:
            How many bytes of *pieces* were written.

        Raises:
            NotRestored: What stood there before still does; likewise when an
                error of this library comes out of *pieces* and goes through.
        """
        ...

    def write_plain(self, files: Sequence[tuple[Node, Buffer]]) -> list[bool]:
        """
        Write many files as ``write`` does, where there is a quicker way for plain ones.

        Returns:
            For each whether it stands there; what does not is left to ``write``.
        """
        ...

    def repair(self, node: Node) -> None:
        """
        Set the metadata of an entry whose content is right.

        Raises:
            NotRestored: Something else stands there by now.
        """
        ...

    def open_old(self, node: Node) -> int:
        """Open the regular file that stands at the place of *node*; -1 if there is none."""
        ...

    def describe_root(self, node: Node) -> None:
        """Give the target itself the metadata of *node*, which has no path, where it was made."""
        ...

    def unnamed_folders(self) -> list[bytes]:
        """Give the folders that were made on the way to others, in tree order."""
        ...

    def finish(self, *, early: bool = False) -> list[Problem]:
        """
        Set what has to come last, such as the times of folders.

        Args:
            early: The restore has ended before its time; another may go on,
                and has to be able to write into the folders.
        """
        ...
