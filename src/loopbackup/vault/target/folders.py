"""Folders of a local target, reached from its root without following a link."""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from itertools import islice
from threading import Lock
from typing import Final

from attrs import define

from .attributes import has_default_acl

__all__ = ["Folders"]

MAX_IDLE: Final = 64

_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@define
class _Handle:
    fd: int
    users: int = 0


class _Lent:
    """A descriptor in use; a class, because a generator costs three times as much."""

    __slots__ = ("_fd", "_handle", "_lock")

    def __init__(self, fd: int, handle: _Handle | None, lock: Lock) -> None:
        self._fd = fd
        self._handle = handle
        self._lock = lock

    def __enter__(self) -> int:
        return self._fd

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            with self._lock:
                self._handle.users -= 1


class Folders:
    """
    Lend descriptors of folders below one root; thread-safe.

    What is missing on the way is made, for its owner alone, if asked for. A
    handle that is lent is never closed; of the others some are kept.
    """

    def __init__(self, root_fd: int) -> None:
        self.made: set[bytes] = set()
        """Paths of the folders that did not stand there before."""
        self.unnamed: set[bytes] = set()
        """Those of them that were only made for what lies in them."""
        self.opened: dict[bytes, int] = {}
        """Paths and old permissions of the folders that had to be opened up."""
        self._inheriting: set[bytes] = set()
        if has_default_acl(root_fd):
            self._inheriting.add(b"")
        self._root = root_fd
        self._handles: OrderedDict[bytes, _Handle] = OrderedDict()
        self._lock = Lock()

    def inherits(self, path: bytes) -> bool:
        """Tell whether what is made in the folder at *path* gets an access list from it."""
        return path in self._inheriting

    def lend(self, path: bytes, *, make: bool = True) -> _Lent:
        """
        Lend the descriptor of the folder at *path*, in a ``with``; empty is the root.

        Raises:
            OSError: ENOTDIR or ELOOP where something else stands on the way;
                ENOENT where nothing does and nothing is to be made.
        """
        if not path:
            return _Lent(self._root, None, self._lock)
        with self._lock:
            handle = self._handles.get(path) or self._reach(path, make=make)
            handle.users += 1
            self._handles.move_to_end(path)
            return _Lent(handle.fd, handle, self._lock)

    def open_up(self, path: bytes) -> bool:
        """
        Let the owner of the folder at *path* write into it, until :meth:`close_up`.

        Returns:
            False where that is not what is missing.
        """
        try:
            with self.lend(path, make=False) as fd:
                mode = stat.S_IMODE(os.fstat(fd).st_mode)
                if mode & stat.S_IRWXU == stat.S_IRWXU:
                    return False
                os.fchmod(fd, mode | stat.S_IRWXU)
        except OSError:
            return False
        with self._lock:
            self.opened.setdefault(path, mode)
        return True

    def close_up(self, path: bytes) -> None:
        """Give a folder that was opened up its old permissions."""
        with self.lend(path, make=False) as fd:
            os.fchmod(fd, self.opened[path])

    def _reach(self, path: bytes, *, make: bool) -> _Handle:
        """Go down from the deepest known folder, remembering each on the way."""
        known, fd = path, self._root
        while known:
            known = known.rpartition(b"/")[0]
            if known in self._handles:
                fd = self._handles[known].fd
                break
        for name in path[len(known) :].removeprefix(b"/").split(b"/"):
            above = known
            known = known + b"/" + name if known else name
            fd = self._open(known, name, fd, make=make)
            # A folder made where nothing is inherited has no list to pass on.
            if (known not in self.made or above in self._inheriting) and has_default_acl(fd):
                self._inheriting.add(known)
            self._handles[known] = handle = _Handle(fd)
            self._drop_idle(keep=handle)
        return handle

    def _open(self, path: bytes, name: bytes, above: int, *, make: bool) -> int:
        try:
            return os.open(name, _FLAGS, dir_fd=above)
        except FileNotFoundError:
            if not make:
                raise
            os.mkdir(name, 0o700, dir_fd=above)
            self.made.add(path)
            self.unnamed.add(path)
            return os.open(name, _FLAGS, dir_fd=above)

    def _drop_idle(self, keep: _Handle) -> None:
        # Seldom more than one is too many: no copy of all of them for each folder.
        for path in list(islice(self._handles, max(0, len(self._handles) - MAX_IDLE))):
            handle = self._handles[path]
            if not handle.users and handle is not keep:
                os.close(handle.fd)
                del self._handles[path]

    def close(self) -> None:
        """Close everything, the root included."""
        with self._lock:
            for handle in self._handles.values():
                os.close(handle.fd)
            self._handles.clear()
            if self._root >= 0:
                os.close(self._root)
                self._root = -1
