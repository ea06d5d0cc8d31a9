"""What each kind of entry is on this machine: whether it can be made, how, and how to tell it."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from ...terms import Problem
from ..format.entries import (
    BLOCK,
    CHAR,
    DIRECTORY,
    FIFO,
    FILE,
    ITEM,
    SOCKET,
    SYMLINK,
    Node,
)
from .base import NotRestored, check_restorable

__all__ = ["Leaf", "check_local", "is_same", "make_special"]

_TYPE_OF: Final = {
    FILE: stat.S_IFREG,
    ITEM: stat.S_IFREG,
    DIRECTORY: stat.S_IFDIR,
    SYMLINK: stat.S_IFLNK,
    FIFO: stat.S_IFIFO,
    CHAR: stat.S_IFCHR,
    BLOCK: stat.S_IFBLK,
    SOCKET: stat.S_IFSOCK,
}
_DEVICES: Final = (CHAR, BLOCK)
_MAX_RDEV: Final = 2**64 - 1
_NOT_HERE: Final = frozenset(
    {errno.EPERM, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
)


def check_local(node: Node) -> None:
    """
    Refuse a node that cannot be restored on this machine.

    Raises:
        NotRestored: It cannot.
    """
    check_restorable(node, _TYPE_OF)
    if node.kind == SYMLINK and b"\0" in (_link_target(node) or b"\0"):
        raise NotRestored(Problem("malformed", "a link without a valid target", path=node.path))
    if node.kind in _DEVICES and not 0 <= _rdev(node) <= _MAX_RDEV:
        raise NotRestored(Problem("malformed", "a device of no valid number", path=node.path))
    if node.kind in _DEVICES and os.geteuid() != 0:
        raise NotRestored(Problem("device", "it cannot be made without root", path=node.path))


class Leaf:
    """
    Refuses what would lie below something that is no folder.

    Entries come in tree order, so only the last one has to be remembered. The
    disk cannot be asked: the last one may not be written yet.
    """

    def __init__(self) -> None:
        self._below = b"/"

    def check(self, node: Node) -> None:
        """
        Refuse a node below the last one that was noted.

        Raises:
            NotRestored: It is.
        """
        if node.path.startswith(self._below):
            message = "what is above it in the snapshot is no folder"
            raise NotRestored(Problem("in_the_way", message, path=node.path))

    def note(self, node: Node) -> None:
        """Remember that *node* is going to stand there."""
        if node.kind != DIRECTORY:
            self._below = node.path + b"/"


def make_special(node: Node, name: bytes, fd: int) -> None:
    """
    Make an entry without content, other than a folder, in the folder *fd*.

    Raises:
        NotRestored: It cannot be made here: ``device``, or ``special`` for
            what programs make anew when they start.
        OSError: As of the system.
    """
    try:
        if node.kind == SYMLINK:
            os.symlink(_link_target(node), name, dir_fd=fd)
        elif node.kind == FIFO:
            os.mkfifo(name, 0o600, dir_fd=fd)
        else:
            os.mknod(name, _TYPE_OF[node.kind] | 0o600, _rdev(node), dir_fd=fd)
    except OSError as exc:
        if exc.errno not in _NOT_HERE or node.kind == SYMLINK:
            raise
        kind = "device" if node.kind in _DEVICES else "special"
        reason = f"it cannot be made here: {os.strerror(exc.errno).lower()}"
        raise NotRestored(Problem(kind, reason, path=node.path)) from exc
    except OverflowError as exc:
        message = "a device of no number that this machine knows"
        raise NotRestored(Problem("malformed", message, path=node.path)) from exc


def _link_target(node: Node) -> bytes:
    return (node.extra and node.extra.target) or b""


def _rdev(node: Node) -> int:
    return node.extra.rdev if node.extra is not None and node.kind in _DEVICES else 0


def is_same(node: Node, there: os.stat_result, fd: int, name: bytes) -> bool:
    """Tell whether what stands there has the content of *node*, by type, size and time."""
    if stat.S_IFMT(there.st_mode) != _TYPE_OF[node.kind]:
        return False
    if node.kind == SYMLINK:
        return os.readlink(name, dir_fd=fd) == _link_target(node)
    if node.kind in (FILE, ITEM):
        known = node.kind == FILE or node.mtime_ns != 0
        return known and (there.st_size, there.st_mtime_ns) == (node.size, node.mtime_ns)
    return node.kind not in _DEVICES or there.st_rdev == _rdev(node)
