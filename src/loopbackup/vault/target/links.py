"""Hard links of a restore: which entry already has the content of a group."""

from __future__ import annotations

import os
import stat
from collections.abc import Hashable
from threading import Lock
from typing import Final

from attrs import frozen

from ..format.entries import Node

__all__ = ["LinkGroups", "Member", "link_number"]

_STRIPES: Final = 64


def link_number(node: Node) -> int:
    """Give the number of the group of hard links that *node* is in; 0 for none."""
    return node.extra.link if node.extra is not None else 0


@frozen
class Member:
    """The entry that others of its group are linked to."""

    path: bytes
    identity: Hashable
    facts: Hashable

    def is_at(self, status: os.stat_result) -> bool:
        """Tell whether *status* is of this very file."""
        return self.identity == _identity_of(status)

    def fits(self, node: Node) -> bool:
        """Tell whether *node* can be another name of it."""
        return self.facts == facts_of(node)


class LinkGroups:
    """
    Remembers one member of each group; thread-safe.

    Entries that share a number and could not be one inode (another size, time
    or owner) are not taken for links of each other.

    Cost: about 500 bytes a group.
    """

    def __init__(self) -> None:
        self._members: dict[int, Member] = {}
        self._claimed: dict[int, Hashable] = {}
        self._locks = [Lock() for _ in range(_STRIPES)]
        self._lock = Lock()

    def hold(self, node: Node) -> Lock:
        """Give the lock to hold while a member is written: later ones wait for it."""
        return self._locks[link_number(node) % _STRIPES]

    def member(self, node: Node) -> Member | None:
        """Give the entry that *node* is to be linked to, if one is written."""
        with self._lock:
            return self._members.get(link_number(node))

    def note(self, node: Node, status: os.stat_result) -> None:
        """Remember that *node* stands there, for others to be linked to it."""
        member = Member(node.path, _identity_of(status), facts_of(node))
        with self._lock:
            self._members[link_number(node)] = member

    def claim(self, node: Node) -> bool:
        """
        Say that *node* is about to be written.

        Returns:
            Whether another member is, or stands there, that it can be linked to.
        """
        number, facts = link_number(node), facts_of(node)
        with self._lock:
            member = self._members.get(number)
            first = member.facts if member else self._claimed.get(number)
            if first is None:
                self._claimed[number] = facts
            return first == facts

    def adopt(self, node: Node, status: os.stat_result) -> bool:
        """
        Take what stands at the place of *node* as a member of its group.

        Returns:
            False if the group has, or is about to get, another inode.
        """
        with self._lock:
            number = link_number(node)
            member = self._members.get(number)
            if member is not None or number in self._claimed:
                return member is not None and member.is_at(status)
            self._members[number] = Member(node.path, _identity_of(status), facts_of(node))
            return True


def facts_of(node: Node) -> Hashable:
    """Give what all names of one inode have in common."""
    extra = node.extra
    own = (extra.target, extra.rdev) if extra else ()
    return (node.kind, node.size, node.mode, node.uid, node.gid, node.mtime_ns, *own)


def _identity_of(status: os.stat_result) -> Hashable:
    # The inode of a file that was removed goes to the next one that is made.
    return (
        status.st_dev,
        status.st_ino,
        stat.S_IFMT(status.st_mode),
        status.st_size,
        status.st_mtime_ns,
    )
