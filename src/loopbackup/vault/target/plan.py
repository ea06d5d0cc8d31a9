"""What a restore would do in a place that is not there yet."""

from __future__ import annotations

from collections.abc import Callable

from ..format.entries import Node
from .base import Answer
from .kinds import Leaf, check_local
from .links import LinkGroups, link_number
from .remote import check_remote

__all__ = ["EmptyTarget"]


class EmptyTarget:
    """
    A target that nothing stands in: everything would be written.

    Args:
        local: It would be a folder of this machine.
    """

    def __init__(self, *, local: bool) -> None:
        self._check: Callable[[Node], None] = check_local if local else check_remote
        self._links = LinkGroups() if local else None
        self._leaf = Leaf() if local else None

    def prepare(self, node: Node) -> Answer:
        """
        Say whether *node* would be written or linked.

        Raises:
            NotRestored: It would not be.
        """
        self._check(node)
        if self._leaf is not None:
            self._leaf.check(node)
            self._leaf.note(node)
        if self._links is not None and link_number(node):
            return "link" if self._links.claim(node) else "write"
        return "write"

    def close(self) -> None:
        """Do nothing."""
