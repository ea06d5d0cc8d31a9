"""
Owners, permissions, extended attributes and times of what was restored.

The order decides: a change of owner takes setuid bits and capabilities away, a
change of permissions changes an access list, and everything changes times.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Mapping
from functools import lru_cache
from threading import Lock
from typing import Any, Final, Protocol

from ...terms import Problem
from ..format.entries import ITEM, SYMLINK, Node

__all__ = ["Attributes", "NamedEntry", "OpenEntry", "has_default_acl"]

_SET_IDS: Final = stat.S_ISUID | stat.S_ISGID
_SYSTEM_HAS_XATTRS: Final = hasattr(os, "setxattr")
_ACLS: Final = (b"system.posix_acl_access", b"system.posix_acl_default")
# What else there is belongs to the system, such as the labels of SELinux.
_OURS: Final = (b"user.", b"trusted.", b"security.capability", *_ACLS)
_NO_XATTRS: Final = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
_LOST: Final = {
    "owner": "the owner of {} entries was not restored: not permitted",
    "mode": "the permissions of {} entries were not restored",
    "xattrs": "extended attributes or access lists of {} entries were not restored",
    "times": "the time of change of {} entries was not restored",
    "links": "{} hard links were restored as files of their own",
}


class Handle(Protocol):
    """One entry that stands on the disk."""

    def chown(self, uid: int, gid: int) -> None:
        """Set the owner."""
        ...

    def chmod(self, mode: int) -> None:
        """Set the permissions."""
        ...

    def utime(self, ns: int) -> None:
        """Set the time of change."""
        ...

    def list_xattrs(self) -> list[bytes]:
        """Give the names of its extended attributes."""
        ...

    def get_xattr(self, name: bytes) -> bytes:
        """Give one extended attribute."""
        ...

    def set_xattr(self, name: bytes, value: bytes) -> None:
        """Set one extended attribute."""
        ...

    def remove_xattr(self, name: bytes) -> None:
        """Remove one extended attribute."""
        ...


class OpenEntry:
    """A file or folder by its descriptor."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def chown(self, uid: int, gid: int) -> None:
        """Set the owner."""
        os.chown(self._fd, uid, gid)

    def chmod(self, mode: int) -> None:
        """Set the permissions."""
        os.fchmod(self._fd, mode)

    def utime(self, ns: int) -> None:
        """Set the time of change."""
        os.utime(self._fd, ns=(ns, ns))

    def list_xattrs(self) -> list[bytes]:
        """Give the names of its extended attributes."""
        return [os.fsencode(name) for name in os.listxattr(self._fd)]

    def get_xattr(self, name: bytes) -> bytes:
        """Give one extended attribute."""
        return os.getxattr(self._fd, name)

    def set_xattr(self, name: bytes, value: bytes) -> None:
        """Set one extended attribute."""
        os.setxattr(self._fd, name, value)

    def remove_xattr(self, name: bytes) -> None:
        """Remove one extended attribute."""
        os.removexattr(self._fd, name)


class NamedEntry:
    """
    An entry by its name in an open folder; a link is never followed.

    Only ``chmod`` would: it is for names that nobody else knows.
    """

    __slots__ = ("_dir", "_name", "_path")

    def __init__(self, name: bytes, dir_fd: int) -> None:
        self._name = name
        self._dir = dir_fd
        # There is no call for attributes that takes a folder and a name.
        self._path = b"/proc/self/fd/%d/%s" % (dir_fd, name)

    def chown(self, uid: int, gid: int) -> None:
        """Set the owner."""
        os.chown(self._name, uid, gid, dir_fd=self._dir, follow_symlinks=False)

    def chmod(self, mode: int) -> None:
        """Set the permissions."""
        os.chmod(self._name, mode, dir_fd=self._dir)

    def utime(self, ns: int) -> None:
        """Set the time of change."""
        os.utime(self._name, ns=(ns, ns), dir_fd=self._dir, follow_symlinks=False)

    def list_xattrs(self) -> list[bytes]:
        """Give the names of its extended attributes."""
        names = os.listxattr(self._path, follow_symlinks=False)
        return [os.fsencode(name) for name in names]

    def get_xattr(self, name: bytes) -> bytes:
        """Give one extended attribute."""
        return os.getxattr(self._path, name, follow_symlinks=False)

    def set_xattr(self, name: bytes, value: bytes) -> None:
        """Set one extended attribute."""
        os.setxattr(self._path, name, value, follow_symlinks=False)

    def remove_xattr(self, name: bytes) -> None:
        """Remove one extended attribute."""
        os.removexattr(self._path, name, follow_symlinks=False)


class Attributes:
    """
    Sets what entries have beside their content, and counts what could not be set.

    Owners go by name where this machine knows the name, else by number.
    Thread-safe.
    """

    def __init__(self) -> None:
        self._lost: Counter[str] = Counter()
        self._lock = Lock()
        # Names may be asked for over the network: ask once a restore.
        self._uid = lru_cache(maxsize=4096)(_uid_of)
        self._gid = lru_cache(maxsize=4096)(_gid_of)

    def apply(self, handle: Handle, node: Node, *, fresh: bool) -> None:
        """
        Set everything that *node* says; of an item that is its time at most.

        Args:
            handle: The entry; its content is complete.
            node: What it is to be like.
            fresh: It was made just now and inherited nothing, so there are no
                attributes to remove.
        """
        if node.kind == ITEM:
            if node.mtime_ns:
                self._try("times", handle.utime, node.mtime_ns)
            return
        xattrs = _xattrs_of(node)
        mode = node.mode & 0o7777
        if not self._try("owner", handle.chown, *self.owner(node)):
            # A program that runs as its owner must not run as somebody else.
            mode &= ~_SET_IDS
        # Attributes need write permission; access lists do not outlive its change.
        complete = fresh or self._succeeds(_remove_others, handle, xattrs)
        for name, value in xattrs.items():
            if name not in _ACLS:
                complete &= self._succeeds(handle.set_xattr, name, value)
        if node.kind != SYMLINK:
            self._try("mode", handle.chmod, mode)
        for name in _ACLS:
            if name in xattrs:
                complete &= self._succeeds(handle.set_xattr, name, xattrs[name])
        if not complete:
            self.lose("xattrs")
        self._try("times", handle.utime, node.mtime_ns)

    def are_as(self, node: Node, handle: Handle, status: os.stat_result) -> bool:
        """Tell whether an entry that stands there has all that *node* says but times."""
        if node.kind != SYMLINK and stat.S_IMODE(status.st_mode) != node.mode & 0o7777:
            return False
        if (status.st_uid, status.st_gid) != self.owner(node):
            return False
        try:
            return _read_xattrs(handle) == _xattrs_of(node)
        except OSError:
            return False

    def owner(self, node: Node) -> tuple[int, int]:
        """Give the ids that *node* is to have on this machine."""
        return self._uid(node.user, node.uid), self._gid(node.group, node.gid)

    def lose(self, what: str) -> None:
        """Count something that was not restored: owner, mode, xattrs, times or links."""
        with self._lock:
            self._lost[what] += 1

    def _try(self, what: str, action: Callable[..., None], *args: Any) -> bool:
        done = self._succeeds(action, *args)
        if not done:
            self.lose(what)
        return done

    @staticmethod
    def _succeeds(action: Callable[..., None], *args: Any) -> bool:
        try:
            action(*args)
        except (OSError, OverflowError, ValueError, NotImplementedError, AttributeError):
            return False
        return True

    def problems(self) -> list[Problem]:
        """Say what was lost since the last time."""
        with self._lock:
            lost, self._lost = self._lost, Counter()
        return [Problem(what, _LOST[what].format(count)) for what, count in lost.items()]


def has_default_acl(fd: int) -> bool:
    """Tell whether what is made in the folder *fd* inherits an access list."""
    if not _SYSTEM_HAS_XATTRS:
        return False
    try:
        os.getxattr(fd, b"system.posix_acl_default")
    except OSError:
        return False
    return True


def _xattrs_of(node: Node) -> Mapping[bytes, bytes]:
    return (node.extra and node.extra.xattrs) or {}


def _read_xattrs(handle: Handle) -> Mapping[bytes, bytes]:
    """Read the attributes of an entry, apart from those that belong to the system."""
    return {name: handle.get_xattr(name) for name in _list_xattrs(handle)}


def _list_xattrs(handle: Handle) -> list[bytes]:
    if not _SYSTEM_HAS_XATTRS:
        return []
    try:
        names = handle.list_xattrs()
    except OSError as exc:
        if exc.errno in _NO_XATTRS:
            return []
        raise
    return [name for name in names if name.startswith(_OURS)]


def _remove_others(handle: Handle, wanted: Mapping[bytes, bytes]) -> None:
    for name in _list_xattrs(handle):
        if name not in wanted:
            handle.remove_xattr(name)


def _uid_of(user: str, uid: int) -> int:
    if not user or not uid:
        return uid
    import pwd

    try:
        return pwd.getpwnam(user).pw_uid
    except (KeyError, ValueError):
        return uid


def _gid_of(group: str, gid: int) -> int:
    if not group or not gid:
        return gid
    import grp

    try:
        return grp.getgrnam(group).gr_gid
    except (KeyError, ValueError):
        return gid
