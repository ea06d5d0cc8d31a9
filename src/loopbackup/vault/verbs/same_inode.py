"""Content of files with several names: read once in a run, named by each of them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from attrs import define, field

from ..format.entries import Extra, Node
from ..keys.domains import Domain
from ..source.base import Found

__all__ = ["SameInodes", "take_content"]

MAX_HELD_BYTES: Final = 64 << 20
"""Beyond that the oldest are forgotten: they are read again, and found to be stored."""
_NODE_BYTES: Final = 1024
"""About what an entry and the places where it is held take beside what varies."""


@define
class _Group:
    """The names of one inode that the scan has met."""

    seen: int = 0
    held_bytes: int = 0
    by_domain: dict[bytes, Node] = field(factory=dict)


class SameInodes:
    """
    Remembers the content of inodes with several names until all were met.

    Memory: about 1 KiB an inode whose names were not all met yet, 64 MiB at
    most; nothing for files with one name.
    """

    def __init__(self) -> None:
        self._groups: OrderedDict[int, _Group] = OrderedDict()
        self._held_bytes = 0

    def find(self, domain: Domain, found: Found) -> Node | None:
        """Give an entry of this run with the same content, or None."""
        node = found.node
        group = self._groups.get(_link(node))
        known = None if group is None else group.by_domain.get(domain.id)
        # The number is a hash, and the file may have changed since.
        if known is None or _state(known) != _state(node):
            return None
        return known

    def note(self, domain: Domain, found: Found) -> None:
        """Count one more name of the inode, and remember its content if it is sound."""
        node = found.node
        link = _link(node)
        group = self._groups.setdefault(link, _Group())
        group.seen += 1
        sound = node.extra is not None and node.extra.problem is None
        if sound and domain.id not in group.by_domain:
            group.by_domain[domain.id] = node
            size_bytes = _held_bytes(node)
            group.held_bytes += size_bytes
            self._held_bytes += size_bytes
        if group.seen >= found.links:
            self._forget(link)
        while self._held_bytes > MAX_HELD_BYTES:
            self._forget(next(iter(self._groups)))

    def _forget(self, link: int) -> None:
        self._held_bytes -= self._groups.pop(link).held_bytes


def take_content(node: Node, known: Node) -> None:
    """Take over how the same content is stored, and what else belongs to the inode."""
    node.chunks, node.size = known.chunks, known.size
    extra = known.extra
    if extra is None or (extra.extents is None and extra.xattrs is None and not extra.listed):
        return
    node.extra = node.extra or Extra()
    node.extra.extents, node.extra.xattrs = extra.extents, extra.xattrs
    node.extra.listed = extra.listed


def _held_bytes(node: Node) -> int:
    """Say about what an entry takes in memory."""
    extra = node.extra or Extra()
    xattrs = sum(map(len, (extra.xattrs or {}).values()))
    return _NODE_BYTES + len(node.chunks) + xattrs + 128 * len(extra.extents or ())


def _link(node: Node) -> int:
    return 0 if node.extra is None else node.extra.link


def _state(node: Node) -> tuple[int, int, int, int]:
    return node.size, node.mtime_ns, node.ctime_ns, node.inode
